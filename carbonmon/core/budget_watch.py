"""Says when a budget is reached: by what a run has spent, or by what it will; pure.

A budget a day counts all runs of an output on that day of UTC: this run's part since midnight, and that of
the others, which somebody else counts and tells now and then (`others`).
"""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.budgets import KINDS, Action, Budget, BudgetState, By, distinct, is_same
from carbonmon.core.forecast import Forecast
from carbonmon.core.records import NamedTuple

DAY_S = 86400.0
"""Unix time has no leap seconds, so that every day of UTC has so many (POSIX.1-2017, 4.16)."""


class Amounts(NamedTuple):
    """What was spent: joules, grams, money in the price's currency, seconds."""

    energy_j: float = 0.0
    emissions_g: float = 0.0
    cost: float = 0.0
    time_s: float = 0.0

    def minus(self, other: Amounts) -> Amounts:
        return Amounts(*(a - b for a, b in zip(self, other, strict=True)))


def day_of(unix_s: float) -> float:
    """The Unix time at which the day of UTC began."""
    return unix_s - unix_s % DAY_S


class BudgetWatch:
    """The budgets of one run. Each is acted upon once, one a day once a day."""

    def __init__(
        self,
        budgets: Sequence[Budget],
        action: Action,
        by: By,
        wall_s: float,
    ) -> None:
        self.action = action
        self.budgets = distinct(budgets)
        self.by = by
        self._kept: list[BudgetState] = []
        self._reached: dict[Budget, BudgetState] = {}
        self._day_s = day_of(wall_s)
        self._others = self._before_today = Amounts()

    @property
    def has_days(self) -> bool:
        """Whether somebody is to count the other runs of the day."""
        return any(budget.per_day for budget in self.budgets)

    def restore(self, before: Sequence[BudgetState]) -> None:
        """Of a run that is resumed: what an earlier monitor has acted upon stays noted."""
        self._kept = [state for state in before if state.reached_at_s is not None]

    def others(self, day_s: float, spent: Amounts, own_before: Amounts | None = None) -> None:
        """What the other runs have spent on a day that began at `day_s`.

        `own_before` is what this run had spent when the day began, where it is resumed later on that day.
        """
        if day_s == self._day_s:
            self._others = spent
            if own_before is not None:
                self._before_today = own_before

    def look(
        self, spent: Amounts, wall_s: float, forecast: Forecast | None = None, ahead: Amounts | None = None
    ) -> list[BudgetState]:
        """The budgets that are reached now, and were not before.

        `spent` is the run's, `ahead` what a stop of the training would still take.
        """
        if wall_s >= self._day_s + DAY_S:
            self._begin_day(spent, wall_s)
        found = []
        for budget in self.budgets:
            if budget in self._reached:
                continue
            kind = KINDS.index(budget.kind)
            amount = self._spent(budget, spent)
            by: By | None = None
            if amount + (0.0 if ahead is None else ahead[kind]) >= budget.limit:
                by = "total"
            elif self.by == "forecast" and not budget.per_day and _least(forecast, budget) > budget.limit:
                by = "forecast"
            if by is not None:
                state = self._state(budget, amount)._replace(
                    reached_at_s=wall_s, reached_by=by, spent_then=amount
                )
                self._reached[budget] = state
                found.append(state)
        return found

    def states(self, spent: Amounts) -> tuple[BudgetState, ...]:
        """All budgets, and those that an earlier monitor of the run has acted upon."""
        own = []
        for budget in self.budgets:
            amount = self._spent(budget, spent)
            reached = self._reached.get(budget)
            own.append(self._state(budget, amount) if reached is None else reached._replace(spent=amount))
        earlier = [state for state in self._kept if not any(is_same(state, other) for other in self.budgets)]
        return (*earlier, *own)

    def was_reached(self, budget: BudgetState) -> bool:
        """Whether an earlier monitor of the run has acted upon a budget."""
        return any(is_same(state, budget) for state in self._kept)

    def _begin_day(self, spent: Amounts, wall_s: float) -> None:
        self._day_s = day_of(wall_s)
        self._before_today, self._others = spent, Amounts()
        self._reached = {budget: state for budget, state in self._reached.items() if not budget.per_day}

    def _spent(self, budget: Budget, spent: Amounts) -> float:
        kind = KINDS.index(budget.kind)
        amount = spent[kind]
        if budget.per_day:
            amount += self._others[kind] - self._before_today[kind]
        return max(0.0, amount)  # prices may be negative: then nothing is spent

    def _state(self, budget: Budget, spent: float) -> BudgetState:
        return BudgetState(*budget, spent, self.action.text)


def _least(forecast: Forecast | None, budget: Budget) -> float:
    """The low end of what the whole run will come to, in the budget's unit; 0 where nobody knows."""
    if forecast is None:
        return 0.0
    ranges = (forecast.energy_j, forecast.emissions_g, forecast.cost, forecast.duration_s)
    found = ranges[KINDS.index(budget.kind)]
    return 0.0 if found is None else found.low
