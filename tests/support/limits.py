"""Real limits of a machine for a job under `carbonmon run`: places for processes, disks that take nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import command

EXIT_CODE = 7
JOB = ["sh", "-c", f"/bin/true; exit {EXIT_CODE}"]
"""It needs a process of its own, and one more for a moment."""

FIRST_UID = 54_320
PIDS_CGROUP = Path("/sys/fs/cgroup/pids")


def start(folder: Path, prefix: Sequence[str], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, command.CARBONMON, "run", "--own-monitor", "--quiet", *options, "--", *JOB],
        cwd=folder,
        env=command.environ(CARBONMON_LISTEN="127.0.0.1:0", TMPDIR=os.fspath(folder), XDG_RUNTIME_DIR=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    text, _ = process.communicate(timeout=command.DEADLINE_S)
    return process.returncode, text


def as_user(uid: int, *more: str) -> list[str]:
    """Another user, who may read what we read: the tested Python may be in root's home."""
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *rights, *more]


@contextmanager
def mounted(options: str) -> Iterator[list[str]]:
    """What runs a command in a mount namespace where /mnt is a file system with these options."""
    script = f'mount -t tmpfs -o {options} none /mnt && cd /mnt && exec "$@"'
    yield ["unshare", "--mount", "sh", "-c", script, "sh"]
