"""What is to come of a run: its forecast, its budgets, and whether its training is to stop. One for each run.

For the sampling thread, unless a name says otherwise.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from carbonmon.core.budget_watch import Amounts, BudgetWatch
from carbonmon.core.budgets import BudgetState
from carbonmon.core.forecast import Forecast, Forecaster, Spent, is_due
from carbonmon.core.records import NamedTuple

log = logging.getLogger(__name__)

STOP_AHEAD_S, STOP_AHEAD_STEPS = 3.0, 3
"""A stop is named so long, and so many steps, ahead of the newest step that was told: each rank asks once a
second, and hears the answer a step later."""


class Stop(NamedTuple):
    """Training is to stop when it has done `step` steps; None: it has told none, and is to stop at once."""

    step: float | None


class Outlook:
    """Told of each sample of the run.

    `stop` may be read by any thread; `is_heard`, set by any thread, says that training code has asked.
    """

    __slots__ = (
        "_before",
        "_forecast",
        "_forecaster",
        "_is_new",
        "_is_paused",
        "_looked_s",
        "_reached",
        "_spent",
        "_was_paused",
        "is_heard",
        "marks",
        "stop",
        "watch",
    )

    def __init__(self) -> None:
        self.marks: tuple[Forecast, ...] = ()
        self._before: tuple[BudgetState, ...] = ()
        self.watch: BudgetWatch | None = None
        self._reached: Callable[[BudgetState], object] = lambda state: None
        self.stop: Stop | None = None
        self.is_heard = False
        self._forecaster: Forecaster | None = None
        self._forecast: Forecast | None = None
        self._is_new = self._is_paused = self._was_paused = False
        self._looked_s = math.nan
        self._spent = Spent(0.0, 0.0, 0.0, 0.0)

    def restore(self, marks: Sequence[Forecast], budgets: Sequence[BudgetState]) -> None:
        """Note what an earlier monitor of the run has noted."""
        self.marks, self._before = tuple(marks), tuple(budgets)

    def begin(self, watch: BudgetWatch, reached: Callable[[BudgetState], object]) -> None:
        """Watch budgets from the next sample on."""
        watch.restore(self._before)
        self.watch, self._reached = watch, reached

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to be told of samples for."""
        return self._forecaster is not None or self.watch is not None

    def progress(self, at_s: float, step: float, total: float | None) -> None:
        """The training code has told how far it is."""
        if self._forecaster is None:
            self._forecaster = Forecaster()
        self._forecaster.tell(at_s, step, total)
        if self.stop is not None and self.stop.step is None:  # of a run that was resumed: now it tells steps
            self.stop = Stop(self._stop_step())

    def announce(self, every: float, steps: float | None) -> None:
        """The training code has announced evaluations, as `Pace.announce` takes them."""
        if self._forecaster is not None:
            self._forecaster.announce(every, steps)

    def pause(self, is_paused: bool) -> None:
        """The job stands still from now on, or goes on; a sample follows, which is the edge of the pause."""
        self._is_paused = is_paused

    def end(self, duration_s: float, energy_j: float, emissions_g: float, costs: Mapping[str, float]) -> None:
        """The run has ended, and all that it drew is settled."""
        cost = costs.get(self._spent.currency, self._spent.cost)
        self._spent = self._spent._replace(
            duration_s=duration_s, energy_j=energy_j, emissions_g=emissions_g, cost=cost
        )

    def look(self, now_s: float, wall_s: float, spent: Spent) -> None:
        """A sample was taken, by which the run has spent so much."""
        before, self._spent = self._spent, spent
        looked_s, self._looked_s = self._looked_s, now_s
        was_paused, self._was_paused = self._was_paused, self._is_paused
        if was_paused and self._forecaster is not None:
            self._forecaster.skip(now_s - looked_s, spent.energy_j - before.energy_j)
            self._is_new = True  # the end is later
        if self._forecaster is not None and self._forecaster.look(now_s, spent.energy_j):
            self._is_new = True
            self._keep_mark(self._forecaster.done_ratio)
        if self.watch is not None:
            forecast = self.forecast() if self.watch.by == "forecast" else None
            ahead = self._ahead() if self.watch.action.kind == "stop" else None
            for state in self.watch.look(self._amounts(), wall_s, forecast, ahead):
                if self.watch.action.kind == "stop" and self.stop is None:
                    self.stop = Stop(self._stop_step())
                self._reached(state)

    def forecast(self) -> Forecast | None:
        """The whole run as it looks now. It is reckoned when it is asked for, once for each report."""
        if self._is_new and self._forecaster is not None:
            self._forecast = self._forecaster.forecast(self._spent)
            self._is_new = False
        return self._forecast

    def budgets(self) -> tuple[BudgetState, ...]:
        """The budgets, with what is spent of them."""
        return self._before if self.watch is None else self.watch.states(self._amounts())

    def _keep_mark(self, done_ratio: float | None) -> None:
        if done_ratio is not None and is_due(self.marks, done_ratio):
            made = self.forecast()
            if made is not None:  # its cost, which may be negative, is not kept
                self.marks = (*self.marks, made._replace(cost=None, currency=""))

    def _amounts(self) -> Amounts:
        spent = self._spent
        return Amounts(spent.energy_j, spent.emissions_g, spent.cost or 0.0, spent.duration_s)

    def _ahead(self) -> Amounts | None:
        """What a stop still takes: the steps until then, and the validation that follows.

        That is the dearest pause that was seen.
        """
        if self._forecaster is None:
            return None
        pace, steps = self._forecaster.pace, self._steps_ahead()
        seconds, joules = (
            steps * step + pause for step, pause in zip(pace.step, pace.dearest_pause, strict=True)
        )
        spent = self._spent
        return Amounts(joules, joules * spent.grams, joules * (spent.money or 0.0), seconds)

    def _steps_ahead(self) -> int:
        step_s = 0.0 if self._forecaster is None else self._forecaster.pace.step[0]
        return max(STOP_AHEAD_STEPS, math.ceil(STOP_AHEAD_S / step_s) if step_s else 0)

    def _stop_step(self) -> float | None:
        step = None if self._forecaster is None else self._forecaster.step
        return None if step is None else step + self._steps_ahead()
