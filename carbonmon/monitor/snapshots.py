"""The newest snapshot, by reference: the sampling thread replaces it, every other thread reads it."""

from __future__ import annotations

import math
from collections.abc import Callable

from carbonmon.core.model import Snapshot
from carbonmon.core.ports import Clock

PUBLISH_PERIOD_S = 5.0
"""A snapshot is made when somebody asks for one, and at least this often: making one at each tick that
nobody looks at would be a quarter of the monitor's cost."""


class Snapshots:
    """`latest` is for any thread and is never None. A scrape reads it without a lock."""

    def __init__(self, clock: Clock, first: Snapshot) -> None:
        self.latest = first
        self._clock = clock
        self._wanted_s = math.inf
        self._wake: Callable[[], object] | None = None
        self._published_s = clock.now_s()

    def want(self, at_s: float, wake: Callable[[], object] | None = None) -> None:
        """Have a snapshot made of the first sample at or after `at_s`, and `wake` called with each of that
        age; infinity: no more. For the thread that writes, which alone asks."""
        self._wake = wake
        self._wanted_s = at_s

    def is_due(self) -> bool:
        """Whether the next tick is to publish a snapshot."""
        now_s = self._clock.now_s()
        return now_s >= self._wanted_s or now_s - self._published_s >= PUBLISH_PERIOD_S

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the newest snapshot, right after a sample, and wake the thread that waits for it."""
        self._published_s = snapshot.clock_s
        self.latest = snapshot
        wake = self._wake
        if wake is not None and snapshot.clock_s >= self._wanted_s:
            wake()
