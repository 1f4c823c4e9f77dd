"""Which snapshots are worth sending on, for exporters that are not asked but send by themselves."""

from __future__ import annotations

import math

from carbonmon.core.model import Snapshot

PERIOD_S = 15.0
SLACK_S = 0.5
"""Checkpoints come every few seconds, a little early or late."""


class Pace:
    """One snapshot every 15 s, and at once where a run begins or ends."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._due_s = -math.inf
        self._samples = -1
        self._seen: frozenset[tuple[str, float | None]] = frozenset()

    def choose(self, written: Snapshot, shown: Snapshot) -> Snapshot | None:
        """The snapshot to send now, None for none.

        `written` is the one at hand, `shown` the newest that is safe on disk. A total that was sent and then
        lost with a killed monitor would make its series step back, so what is not safe is only sent where
        it holds the end of a run, which may not come again.
        """
        ends = any(ended_at_s is not None for _, ended_at_s in _states(written) - self._seen)
        chosen = written if ends else shown
        states = _states(chosen)
        if chosen.samples < self._samples or (chosen.clock_s < self._due_s and states <= self._seen):
            return None
        self._due_s = chosen.clock_s + self._period_s - SLACK_S
        self._samples = chosen.samples
        self._seen = states
        return chosen

    def again(self) -> None:
        """What was chosen last could not be delivered: the next snapshot is due at once."""
        self._due_s = -math.inf


def _states(snapshot: Snapshot) -> frozenset[tuple[str, float | None]]:
    """Which runs there are, and when each ended."""
    return frozenset((run.info.id, run.ended_at_s) for run in snapshot.runs)
