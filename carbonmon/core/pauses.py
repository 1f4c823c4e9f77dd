"""When a job is paused by the grid's carbon intensity, and for how long it was; pure."""

from __future__ import annotations

import math

from carbonmon.core.records import NamedTuple

LEAST_RUN_S = 300.0
"""After a pause the job runs for so long at least, whatever the grid does. A choice: the shortest slot of the
bundled sources (Energinet's CO2Emis, 5 min), so that a job changes its state once a slot at most. It goes on
at once when the intensity has fallen: to wait would keep a job stopped in a clean hour."""

LONG_PAUSE_S = 300.0
"""A pause is warned of from then on: half of the time after which PyTorch's watchdog ends a job whose
collective is not done (10 min with NCCL: pytorch/pytorch#110947, since PyTorch 2.2)."""

PAUSED_PHASE = "paused"
"""The phase of all that is drawn in a pause."""


class Pauses(NamedTuple):
    """The pauses of a run: above which intensity, how many there were, how long in all, and of what phase."""

    above_g_per_kwh: float
    number: int = 0
    paused_s: float = 0.0
    is_paused: bool = False


class PauseClock:
    """Adds up the pauses of a run, in seconds of the injected clock. `before` is of an earlier monitor."""

    __slots__ = ("_pauses", "_since_s")

    def __init__(self, before: Pauses | None = None) -> None:
        self._pauses = None if before is None else before._replace(is_paused=False)
        self._since_s: float | None = None

    def begin(self, above_g_per_kwh: float) -> None:
        """The run may be paused."""
        self._pauses = (self._pauses or Pauses(0.0))._replace(above_g_per_kwh=above_g_per_kwh)

    def change(self, at_s: float, is_paused: bool) -> None:
        """A pause begins, or ends."""
        pauses = self.state(at_s)
        if pauses is None or is_paused == pauses.is_paused:
            return
        self._pauses = pauses._replace(is_paused=is_paused, number=pauses.number + is_paused)
        self._since_s = at_s if is_paused else None

    def state(self, now_s: float) -> Pauses | None:
        """None of a run that nobody pauses."""
        if self._pauses is None or self._since_s is None:
            return self._pauses
        return self._pauses._replace(paused_s=self._pauses.paused_s + max(0.0, now_s - self._since_s))

    def seconds(self, now_s: float) -> float:
        """How long the pauses were in all."""
        pauses = self.state(now_s)
        return 0.0 if pauses is None else pauses.paused_s


class PauseRule:
    """Whether a job is to be paused. `look` is told of the intensity every now and then."""

    def __init__(self, above_g_per_kwh: float) -> None:
        self.above_g_per_kwh = above_g_per_kwh
        self._is_paused = self._is_over = False
        self._runs_since_s = -math.inf

    def look(self, now_s: float, g_per_kwh: float | None) -> bool:
        """Whether the job is to stand still now; an intensity that is not known is None."""
        is_above = g_per_kwh is not None and g_per_kwh > self.above_g_per_kwh
        if self._is_paused and not is_above:
            self.release(now_s)
        elif is_above and not self._is_over and now_s - self._runs_since_s >= LEAST_RUN_S:
            self._is_paused = True
        return self._is_paused

    def release(self, now_s: float, for_good: bool = False) -> None:
        """The job goes on for another reason, and is not paused again for a while, or `for_good`."""
        self._is_paused = False
        self._runs_since_s = now_s
        self._is_over = self._is_over or for_good
