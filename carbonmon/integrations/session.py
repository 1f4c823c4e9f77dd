"""A callback's part in the run of its process: entered when a training begins, left when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from carbonmon.client.connection import log
from carbonmon.client.run import Run
from carbonmon.client.track import Tracking, track
from carbonmon.integrations.evaluations import Evaluations
from carbonmon.integrations.figures import Counts
from carbonmon.integrations.guard import guarded
from carbonmon.integrations.meter import Meter
from carbonmon.integrations.ranks import world_size

LOOKING_S = 0.5
"""Least time between two looks at a budget, which a monitor checks once a second."""


class Session:
    """One training after another; each belongs to the run that is active, or begins one of its own.

    A training that an exception ended says nothing: it is left when the next one begins, or at exit.
    """

    def __init__(self, run: Run | None = None) -> None:
        self._tracking: Tracking | None = None
        self._looked_s = -math.inf
        self.run = run
        self.meter: Meter | None = None
        """None where another rank of this node counts, and outside of a training."""

    def enter(self) -> Run:
        self.leave()
        self._tracking = track()
        self.run = self._tracking.__enter__()
        return self.run

    def measure(self, begin: Counts, length: float | None, precision: object) -> None:
        """Begin to count; on one rank of each node."""
        assert self.run is not None
        self.meter = Meter(self.run, begin, length, precision)

    def announce(self, evaluations: Callable[[], Evaluations]) -> None:
        """When evaluations come, where the framework says it."""
        try:
            if self.meter is not None:
                self.meter.announce(evaluations())
        # Other releases may say it in another way; the forecast then waits for the first one.
        except Exception:  # noqa: BLE001
            log.debug("carbonmon: when evaluations come is unknown", exc_info=True)

    def leave(self) -> None:
        meter, self.meter, self.run = self.meter, None, None
        tracking, self._tracking = self._tracking, None
        try:
            if meter is not None:
                meter.end()
        finally:
            if tracking is not None:
                tracking.__exit__(None, None, None)

    def is_to_stop(self, agree: Callable[[bool], bool] | None = None, ranks: int | None = None) -> bool:
        """Whether a budget ends the training here; `agree` asks all ranks, each of which must come to it.

        One of several ranks that do not agree does not even ask: a monitor that is asked relies on it, and
        one that nobody asks ends the job with a signal.
        """
        if agree is not None:
            return bool(agree(bool(self._wants_stop())))
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOKING_S:
            return False
        self._looked_s = now_s
        return (ranks or world_size()) == 1 and bool(self._wants_stop())

    @guarded
    def _wants_stop(self) -> bool:
        if self.run is None or self.meter is None:
            return False  # the rank that counts for this node looks
        self.meter.tell()  # the monitor names a step
        return self.run.should_stop
