"""Busy CPU seconds of the whole node, from the first line of /proc/stat (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
FIRST_LINE_BYTES = 512


class NodeCpu:
    """Busy CPU seconds and those that the CPUs had, since the last call.

    The kernel counts clock ticks of 10 ms, so over short intervals the sum of the processes' own times may be
    a little larger. Where the line cannot be read both are unknown: (None, 0.0).
    """

    def __init__(self, procfs: Path) -> None:
        self._path = procfs / "stat"
        self._fd = -1
        self._before = self._times()

    def read(self) -> tuple[float | None, float]:
        before, now = self._before, self._times()
        self._before = now
        if before is None or now is None:
            return None, 0.0
        busy, capacity = now[0] - before[0], now[1] - before[1]
        if busy < 0:  # it decreased, for example because a container's /proc was mounted again
            return None, 0.0
        # iowait may decrease (proc(5)); capacity must not become less than busy.
        return busy * TICK_S, max(busy, capacity) * TICK_S

    @property
    def sums_s(self) -> tuple[float, float]:
        """(busy, capacity) CPU seconds since boot as of the last call."""
        busy, capacity = self._before or (0, 0)
        return busy * TICK_S, capacity * TICK_S

    def rewind(self, busy_s: float, capacity_s: float) -> None:
        """Let the next interval begin at these sums, if they are from the past."""
        before = round(busy_s / TICK_S), round(capacity_s / TICK_S)
        if self._before is not None and before[0] <= self._before[0] and before[1] <= self._before[1]:
            self._before = before

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _times(self) -> tuple[int, int] | None:
        """(busy, capacity) in clock ticks since boot. Idle and iowait are not busy; steal is another guest's
        time and no capacity of ours; guest and guest_nice are part of user and nice."""
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            line = os.pread(self._fd, FIRST_LINE_BYTES, 0).split(b"\n", 1)[0]
            name, user, nice, system, idle, iowait, irq, softirq, *_ = line.split()
            if name != b"cpu":
                raise ValueError(f"{self._path} begins with {name!r}")
            busy = int(user) + int(nice) + int(system) + int(irq) + int(softirq)
            return busy, busy + int(idle) + int(iowait)
        except (OSError, ValueError):
            self.close()
            return None
