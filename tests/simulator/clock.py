"""The time of a simulated machine: CLOCK_BOOTTIME, or held still and moved by the test."""

from __future__ import annotations

import time

from tests.simulator.layout import Control


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

    def to_wall(self, at_s: float) -> float:
        return at_s + self._offset_s

    def from_wall(self, unix_s: float) -> float:
        return unix_s - self._offset_s
