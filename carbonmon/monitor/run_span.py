"""The time of a run: what its devices draw in it is the run's to pay for.

A run begins and ends between two readings of each device, on a busy machine a while behind the one and
before the other. An interval over such an edge is split there (`RunAttribution.charge`), and what no reading
covers is told as unobserved.
"""

from __future__ import annotations

import math

from carbonmon.core.model import Interval

LEAST_UNREAD_S = 0.01
"""What no reading covers is told where it is longer: a sample of a machine at rest takes less."""


class RunSpan:
    """From `from_s` until `until_s` on the injected clock, where that is known already; `until_wall_s` is the
    same in Unix time. `open_s` are its seconds by device of which only a later value of a counter tells."""

    __slots__ = ("from_s", "open_s", "until_s", "until_wall_s")

    def __init__(self) -> None:
        self.from_s, self.until_s = -math.inf, math.inf
        self.until_wall_s = 0.0
        self.open_s: dict[str, float] = {}

    def end(self, at_s: float, wall_s: float) -> None:
        """It ends at a moment; the first word counts."""
        if self.until_s == math.inf:
            self.until_s, self.until_wall_s = at_s, wall_s

    def within(self, at_s: float) -> float:
        """A moment, or its end where that was before."""
        return min(at_s, self.until_s)

    def covers(self, interval: Interval) -> bool:
        """Whether an interval that is over none of its edges is in it."""
        return interval.start_s >= self.from_s and interval.end_s <= self.until_s

    def wait(self, device_id: str, seconds: float) -> None:
        """Of so many seconds of it only a later value of the device's counter can tell."""
        self.open_s[device_id] = self.open_s.get(device_id, 0.0) + seconds

    def ratio_of(self, start_s: float, end_s: float) -> float:
        """The part of a stretch of time that is in it."""
        inside_s = min(end_s, self.until_s) - max(start_s, self.from_s)
        return max(0.0, inside_s / (end_s - start_s)) if end_s > start_s else 1.0
