"""How many CPUs a cgroup lets a process use: cpu.max (cgroup-v2.rst), CFS quota (sched-bwc.rst)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from carbonmon.core.patterns import pattern

_MEMBERSHIP = pattern(r"^[0-9]+:(?:|(?:[\w=,-]+,)?cpu(?:,[\w=,-]+)?):(/.*)$", re.MULTILINE)
"""A line of /proc/PID/cgroup of version 2 (no controller) or of version 1's controller `cpu`."""


def quota_cpus(sysfs: Path, procfs: Path) -> float | None:
    """CPUs, as a number that need not be whole; the least of this process's cgroup and those above it.

    None without a limit, or where it cannot be read.
    """
    found: list[float] = []
    for group in _MEMBERSHIP.findall(_text(procfs / "self" / "cgroup")) or ["/"]:
        # In a container with the host's names the path is not below the mount: the mount's root is its own.
        paths = [PurePosixPath(group), *PurePosixPath(group).parents]
        for path in paths:
            for mount in ("", "unified", "cpu", "cpu,cpuacct", "cpuacct,cpu"):
                folder = sysfs / "fs" / "cgroup" / mount / str(path).lstrip("/")
                cpus = _quota(folder)
                if cpus is not None:
                    found.append(cpus)
    return min(found, default=None)


def _quota(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if not re.fullmatch(r"[0-9]{1,15}", quota) or not re.fullmatch(r"[1-9][0-9]{0,15}", period):
        return None  # "max" and -1 are no limit
    return int(quota) / int(period) or None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode(errors="replace").strip()
    except OSError:
        return ""
