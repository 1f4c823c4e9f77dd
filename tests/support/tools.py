"""Fetch and build what the end-to-end tests start, before several workers ask for it at once.

    python -m tests.support.tools

Prometheus, its Pushgateway and node_exporter, VictoriaMetrics, Slurm, Open MPI, Chromium, axe-core, kubectl
and the simulator; what the machine has is used. What cannot be had is named with the reason; in CI, where no
test may be skipped, this ends with 1.

It needs nothing but Python, so that `make test` does it beside the making of the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.simulator import build
from tests.support import axe, browser, kubectl, openmpi, prometheus, pushgateway, slurm, victoriametrics


def missing() -> list[str]:
    """What cannot be had on this machine, each with the reason."""
    found = []
    if prometheus.binary() is None:
        found.append("prometheus: not installed, and no apt-get to fetch it")
    if victoriametrics.binary() is None:
        found.append("victoria-metrics: not installed, and no apt-get to fetch it")
    if not pushgateway.are_here():
        found.append(f"{' and '.join(pushgateway.PACKAGES)}: not installed, and no apt-get to fetch them")
    if reason := slurm.missing():
        found.append(f"slurm: {reason}")
    if reason := openmpi.missing():
        found.append(f"Open MPI: {reason}")
    if build.can_build():
        build.built()
    else:
        found.append("the simulator: no gcc")
    if browser.program() is None:
        found.append("Chromium: not installed, and no apt-get to fetch it")
    if axe.source() is None:
        found.append("axe-core: no npm, or no network, to fetch it")
    try:
        kubectl.program()
    except subprocess.CalledProcessError as error:
        found.append(f"kubectl: not installed, and it could not be fetched: {error}")
    return found


def main() -> int:
    found = missing()
    for line in found:
        sys.stderr.write(f"end-to-end tests lack {line}\n")
    if found:
        sys.stderr.write("make system-deps says what to install; tests without their programs are skipped\n")
    return 1 if found and os.environ.get("CI") else 0


if __name__ == "__main__":
    sys.exit(main())
