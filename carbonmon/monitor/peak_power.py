"""The highest power of a device, or of a run's part of one, over windows that are long enough to be true."""

from __future__ import annotations

from carbonmon.core.model import PEAK_WINDOW_S


class PeakPower:
    """Joins successive intervals to windows of at least `PEAK_WINDOW_S`; keeps the highest mean power (W).

    `peak_w` is None before the first whole window. What is left in an open window is not counted.
    """

    __slots__ = ("_joules", "_seconds", "peak_w")

    def __init__(self, peak_w: float | None = None) -> None:
        self.peak_w = peak_w
        self._seconds = self._joules = 0.0

    def add(self, power_w: float | None, seconds: float) -> None:
        """Add an interval that follows the one before; one of unknown power ends the window."""
        if power_w is None:
            self._seconds = self._joules = 0.0
            return
        if self._seconds:
            power_w = (self._joules + power_w * seconds) / (seconds + self._seconds)
            seconds += self._seconds
            self._seconds = self._joules = 0.0
        if seconds < PEAK_WINDOW_S:
            self._seconds, self._joules = seconds, power_w * seconds
        elif self.peak_w is None or power_w > self.peak_w:
            self.peak_w = power_w
