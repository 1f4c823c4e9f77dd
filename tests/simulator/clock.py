"""The time of a simulated machine: CLOCK_BOOTTIME, or held still and moved by the test."""

from __future__ import annotations

import math
import time

from tests.simulator.layout import Control

TICKS_PER_S = 1024
"""The time is held at one of these ticks."""


class MachineClock:
    """Seconds of CLOCK_BOOTTIME, and Unix time at a constant distance from it."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.epoch_s = control.epoch_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._offset_s = control.wall_offset_s = time.time() - self.epoch_s

    def now_s(self) -> float:
        return self._control.manual_now_s or time.clock_gettime(time.CLOCK_BOOTTIME)

    def set(self, now_s: float) -> None:
        """Hold the time there; 0 lets it run again."""
        self._control.manual_now_s = now_s

    def hold(self) -> None:
        """Hold the time at its next tick, where it is not held yet.

        A sum of such a time and of seconds is exact. Else a wait of 5 s, moved second by second, is 5 s on
        one day, and a rounding error less where the machine has been up for just about 2ⁿ s.
        """
        if not self._control.manual_now_s:
            self.set(math.ceil(self.now_s() * TICKS_PER_S) / TICKS_PER_S)

    def to_wall(self, at_s: float) -> float:
        return at_s + self._offset_s

    def from_wall(self, unix_s: float) -> float:
        return unix_s - self._offset_s
