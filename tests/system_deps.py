"""Say what the tests need from the system, and install it where this is root on Debian or Ubuntu.

    python3 tests/system_deps.py

Needs nothing but Python, as it runs before everything else. Servers are not installed, for that would start
them: the tests unpack Debian's packages of Prometheus, Pushgateway, node_exporter, VictoriaMetrics, Slurm,
Open MPI, Chromium and systemd below build/ and start them from there (`make tools`). Where apt-get is
missing, those on the PATH are used.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


def command(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


def module(name: str) -> Callable[[], bool]:
    return lambda: importlib.util.find_spec(name) is not None


class Need(NamedTuple):
    """`is_here` says whether it is there already, `package` is Debian's name of what brings it."""

    what: str
    package: str
    is_here: Callable[[], bool]
    why: str


NEEDS = (
    Need("make", "make", command("make"), "every target"),
    Need("venv", "python3-venv", module("ensurepip"), "the environment"),
    Need("gcc", "gcc", command("gcc"), "the simulated hardware"),
    Need("libc", "libc6-dev", Path("/usr/include/stdio.h").exists, "the simulated hardware"),
    Need("git", "git", command("git"), "the tests of the checkout"),
    Need("openssl", "openssl", command("openssl"), "certificates of the tests of TLS"),
    Need("unshare", "util-linux", command("unshare"), "a /sys of their own for simulated machines"),
    Need("setpriv", "util-linux", command("setpriv"), "tests as another user"),
    Need("taskset", "util-linux", command("taskset"), "jobs that share one CPU"),
    Need("npm", "npm", command("npm"), "axe-core, which looks at the page"),
    Need("zsh", "zsh", command("zsh"), "completion of the command line"),
    Need("fish", "fish", command("fish"), "completion of the command line"),
    Need("man", "man-db", command("man"), "the manual page"),
    Need("groff", "groff-base", command("groff"), "the manual page"),
    Need("tmux", "tmux", command("tmux"), "carbonmon top in a real terminal"),
    Need("mount", "mount", command("mount"), "full and read-only disks"),
)
SERVERS = (
    "prometheus",
    "prometheus-pushgateway",
    "prometheus-node-exporter",
    "victoria-metrics",
    "slurmd",
    "mpirun",
    "systemd-analyze",
    "chromium-headless-shell",
)


def main() -> int:
    lacking = [need for need in NEEDS if not need.is_here()]
    for need in NEEDS:
        say(f"{'missing' if need in lacking else 'here':8} {need.what:14} {need.package:14} {need.why}")
    apt = shutil.which("apt-get")
    for name in SERVERS:
        found = shutil.which(name)
        place = "here" if found else "fetched" if apt else "missing"
        say(f"{place:8} {name:29} {found or 'unpacked below build/ by make tools, not installed'}")
    root = os.geteuid() == 0
    if not root:
        say("not root: tests of Slurm, of other users and of mounted disks are skipped; in CI they fail")
    if not lacking:
        return 0
    packages = sorted({need.package for need in lacking})
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if not (apt and root):
        say(f"to install as root on Debian: {' '.join(install)}")
        return 1
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["apt-get", "update", "-qq"], install):
        if subprocess.run(words, check=False, env=environ).returncode != 0:
            say(f"failed: {' '.join(words)}")
            return 1
    return 0


def say(line: str) -> None:
    print(line)  # noqa: T201 (this is a program)


if __name__ == "__main__":
    sys.exit(main())
