"""Which snapshots are worth sending on, for exporters that are not asked but send by themselves."""

from __future__ import annotations

import math

from carbonmon.core.model import Snapshot

PERIOD_S = 15.0
SLACK_S = 0.5
"""Checkpoints come every few seconds, a little early or late."""

_Event = tuple[str, str | float | None]
"""A run's id, and None for its begin, the name of a phase that has begun, or the Unix time of its end."""


class Pace:
    """One snapshot every 15 s, and at once where a run or a phase begins or a run ends."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._due_s = -math.inf
        self._samples = -1
        self._seen: frozenset[_Event] = frozenset()

    def choose(self, written: Snapshot, shown: Snapshot) -> Snapshot | None:
        """The snapshot to send now, None for none.

        `written` is the one at hand, `shown` the newest that is safe on disk. A total that was sent and then
        lost with a killed monitor would make its series step back, so what is not safe is only sent where
        it holds the end of a run, which may not come again.
        """
        ends = any(isinstance(event[1], float) for event in _events(written) - self._seen)
        chosen = written if ends else shown
        events = _events(chosen)
        if chosen.samples < self._samples or (chosen.clock_s < self._due_s and events <= self._seen):
            return None
        self._due_s = chosen.clock_s + self._period_s - SLACK_S
        self._samples = chosen.samples
        self._seen = events
        return chosen

    def again(self) -> None:
        """What was chosen last could not be delivered: the next snapshot is due at once."""
        self._due_s = -math.inf


def _events(snapshot: Snapshot) -> frozenset[_Event]:
    """Which runs there are, which phases each has had, and when each ended."""
    begun = {(run.info.id, None) for run in snapshot.runs}
    phases = {(run.info.id, row.phase) for run in snapshot.runs for row in run.totals}
    ended = {(run.info.id, run.ended_at_s) for run in snapshot.runs if run.ended_at_s is not None}
    return frozenset(begun | phases | ended)
