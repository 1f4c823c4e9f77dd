"""Busy CPU seconds of the whole node."""

from __future__ import annotations

from pathlib import Path

from carbonmon.hardware.cpu_times import TICK_S, close_cpu_times, read_cpu_times


class NodeCpu:
    """Busy CPU seconds and those that the CPUs had, since the last call.

    The kernel counts clock ticks of 10 ms, so over short intervals the sum of the processes' own times may be
    a little larger. Where they cannot be read both are unknown: (None, 0.0).
    """

    def __init__(self, procfs: Path) -> None:
        self._procfs = procfs
        self._before = self._times(float("-inf"))

    def read(self, now_s: float) -> tuple[float | None, float]:
        before, now = self._before, self._times(now_s)
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
        close_cpu_times(self._procfs)

    def _times(self, now_s: float) -> tuple[int, int] | None:
        """(busy, capacity) in clock ticks since boot; steal is no capacity of ours."""
        try:
            times = read_cpu_times(self._procfs, now_s)
        except (OSError, ValueError):
            return None
        busy = times.busy
        return busy, busy + times.idle + times.iowait
