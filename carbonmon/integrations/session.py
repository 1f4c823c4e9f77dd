"""A callback's part in the run of its process: entered when a training begins, left when it ends."""

from __future__ import annotations

from carbonmon.client.run import Run
from carbonmon.client.track import Tracking, track
from carbonmon.integrations.figures import Counts
from carbonmon.integrations.meter import Meter


class Session:
    """One training after another; each belongs to the run that is active, or begins one of its own.

    A training that an exception ended says nothing: it is left when the next one begins, or at exit.
    """

    def __init__(self) -> None:
        self._tracking: Tracking | None = None
        self.run: Run | None = None
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

    def leave(self) -> None:
        meter, self.meter, self.run = self.meter, None, None
        tracking, self._tracking = self._tracking, None
        try:
            if meter is not None:
                meter.end()
        finally:
            if tracking is not None:
                tracking.__exit__(None, None, None)

    @property
    def wants_stop(self) -> bool:
        """Whether a budget asks this process to stop; never waits."""
        return bool(getattr(self.run, "should_stop", False))
