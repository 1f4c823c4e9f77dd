"""CPU time and processes of a cgroup: version 2 (cgroup-v2.rst) and version 1 (cgroup-v1/cpuacct.rst)."""

from __future__ import annotations

import os
from pathlib import Path

from carbonmon.core.errors import ConfigError

V1_MOUNTS = ("cpu,cpuacct", "cpuacct,cpu", "cpuacct")
"""Where version 1 accounts CPU time; which of these names exists depends on the distribution."""

MOUNTS = ("", "unified", *V1_MOUNTS)
"""Under /sys/fs/cgroup: version 2 alone, version 2 beside version 1 (systemd's hybrid), version 1."""


class Cgroup:
    """A cgroup with everything below it. After its removal it has no processes and its CPU time stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pids: frozenset[int] = frozenset()
        self.processes = 0
        self._before_s = self._cpu_s()
        self.refresh()

    def read(self) -> float | None:
        """CPU seconds since the last call, None if they are unknown; renews `pids` and `processes`."""
        before, now = self._before_s, self._cpu_s()
        self.refresh()
        if now is None:
            return 0.0 if not self.path.is_dir() else None
        self._before_s = now
        if before is None:
            return None
        return max(0.0, now - before)  # less than before: another cgroup of the same name

    def refresh(self) -> None:
        """Read the processes again. `processes` counts those too that have no pid in our namespace
        (shown as 0)."""
        pids: set[int] = set()
        hidden = 0
        for folder, _, _ in os.walk(self.path):
            try:
                lines = Path(folder, "cgroup.procs").read_bytes().split()
            except OSError:  # vanished, or a threaded cgroup: its processes are those of its domain
                continue
            pids.update(map(int, lines))
            hidden += lines.count(b"0")
        pids.discard(0)
        self.pids = frozenset(pids)
        self.processes = len(pids) + hidden

    def _cpu_s(self) -> float | None:
        return cpu_seconds(self.path)


def cpu_seconds(path: Path) -> float | None:
    """CPU seconds that the cgroup and those below it ever used, None if they are unknown."""
    try:
        for line in (path / "cpu.stat").read_bytes().splitlines():
            key, _, value = line.partition(b" ")
            if key == b"usage_usec":
                return int(value) / 1e6
    except (OSError, ValueError):
        pass  # version 1 without the cpu controller has none; with it, its cpu.stat has no usage_usec
    try:
        return int((path / "cpuacct.usage").read_bytes()) / 1e9
    except (OSError, ValueError):
        return None


def find_cgroup(sysfs: Path, path: str | Path) -> Path:
    """The folder that accounts the CPU time of a cgroup.

    `path` is a folder under /sys/fs/cgroup, or a cgroup's path as /proc/PID/cgroup shows it. Raises
    `ConfigError` where there is none.
    """
    base = sysfs / "fs" / "cgroup"
    text = os.path.normpath(path)
    for mount in (str(base), "/sys/fs/cgroup"):
        if text == mount or text.startswith(f"{mount}/"):
            text = text[len(mount) :]
            break
    relative = text.lstrip("/")
    first, _, rest = relative.partition("/")
    below_mount = [rest] if first and first in MOUNTS else []  # the same cgroup in another hierarchy
    if relative != "." and ".." not in relative.split("/"):
        for candidate in dict.fromkeys(
            base / mount / name for name in (relative, *below_mount) for mount in MOUNTS
        ):
            if cpu_seconds(candidate) is not None:
                return candidate
    reason = "no such cgroup"
    if (base / relative).is_dir():
        reason = "it accounts no CPU time (no cpu.stat with usage_usec, no cpuacct.usage)"
    raise ConfigError(
        f"--cgroup {path}: {reason} under {base}; give its path as the line '0::' or 'cpuacct' of "
        f"/proc/PID/cgroup shows it, or a folder under {base}"
    )
