"""The newest snapshot, by reference: the sampling thread replaces it, every other thread reads it."""

from __future__ import annotations

import threading

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
        self._is_wanted = False
        self._published = threading.Event()
        self._published_s = clock.now_s()

    def is_due(self) -> bool:
        """Whether the next tick is to publish a snapshot."""
        return self._is_wanted or self._clock.now_s() - self._published_s >= PUBLISH_PERIOD_S

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the newest snapshot, right after a sample, and wake the thread that waits in `fresh`."""
        self._is_wanted = False
        self._published_s = snapshot.clock_s
        self.latest = snapshot
        self._published.set()

    def fresh(self, timeout_s: float) -> Snapshot:
        """Ask for a snapshot of the next sample, and wait for it a while; for the thread that writes."""
        self._published.clear()
        self._is_wanted = True
        self._published.wait(timeout_s)
        return self.latest
