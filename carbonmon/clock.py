"""The machine's clocks, behind the port that tests replace."""

from __future__ import annotations

import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Durations from CLOCK_BOOTTIME, which never jumps and counts suspend (clock_gettime(2))."""

    def now_s(self) -> float:
        return time.clock_gettime(_STEADY)

    def wall_s(self) -> float:
        return time.time()
