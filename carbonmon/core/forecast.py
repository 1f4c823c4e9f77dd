"""What the whole run will come to, with a range that narrows as it goes on; pure.

What was drawn is known. What is left is the steps that are left, at the pace of those that were seen
(`pace.py`). Grams and money are those of the joules that are left at what a joule costs now: how the grid and
its prices will change is not in their range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from carbonmon.core.pace import Pace, Range
from carbonmon.core.records import NamedTuple
from carbonmon.core.work import known_total

KEPT_RATIOS = (0.10, 0.25, 0.50)
"""After these parts of the steps the forecast is kept, to be shown beside the outcome."""

WARM_UP_RATIO, WARM_UP_TIMES = 0.10, 3.0
"""A warm-up is over after a tenth of the steps, and makes the first of them at most so many times as dear.
Until so many were seen, also after a resume, all of them may be warm-up. A choice: the longest and the
steepest of the runs of the tests."""


class Forecast(NamedTuple):
    """The whole run, as expected when `done_ratio` of its steps were done.

    `cost` is in `currency`, None without a price. `duration_s` counts from the run's start.
    """

    done_ratio: float
    duration_s: Range
    energy_j: Range
    emissions_g: Range
    cost: Range | None = None
    currency: str = ""


class Spent(NamedTuple):
    """What a run has drawn until now, and what one more joule costs: grams, and money (None: no price)."""

    duration_s: float
    energy_j: float
    emissions_g: float
    grams: float
    cost: float | None = None
    money: float | None = None
    currency: str = ""


class Forecaster:
    """The forecasts of one run. Told of progress and, after each sample, of what was drawn.

    A step is told between two samples. What was drawn until then is taken to have grown evenly between them.
    """

    __slots__ = ("_at_s", "_energy_j", "_lower", "_seen", "_skipped", "_told", "_total", "pace", "step")

    def __init__(self) -> None:
        self.pace = Pace()
        self.step: float | None = None
        self._lower: float | None = None
        self._total: float | None = None
        self._told: tuple[float, float] | None = None
        self._at_s = self._energy_j = math.nan
        self._seen = (math.nan, math.nan)
        self._skipped = (0.0, 0.0)

    def tell(self, at_s: float, step: float, total: float | None) -> None:
        """The training code says that it has done so many steps of so many.

        A report below the newest one is of a rank that is behind. Where the next one is below as well, and
        above it, training went back to a checkpoint.
        """
        if not math.isfinite(step):
            return
        is_lower = self.step is not None and step < self.step
        is_behind = is_lower and (self._lower is None or step <= self._lower)
        self._lower = step if is_lower else None
        if not is_behind:
            self._told, self.step = (at_s - self._skipped[0], step), step
            # A report may leave it out. As an int, a framework's largest number is below the float for it.
            self._total = (None if total is None else known_total(float(total))) or self._total

    def announce(self, every: float, steps: float | None) -> None:
        """An evaluation follows each `every` steps; `steps` of training have as many samples as it has."""
        self.pace.announce(every, steps)

    def skip(self, seconds: float, joules: float) -> None:
        """The training stood still for so long and drew so much: no step took it."""
        self._skipped = self._skipped[0] + seconds, self._skipped[1] + joules

    def look(self, at_s: float, energy_j: float) -> bool:
        """A sample was taken; whether there was news of the progress."""
        at_s, energy_j = at_s - self._skipped[0], energy_j - self._skipped[1]
        before_s, before_j = self._at_s, self._energy_j
        self._at_s, self._energy_j = at_s, energy_j
        told, self._told = self._told, None
        if told is None:
            return False
        told_s, step = told
        if told_s < at_s and before_s < at_s:  # NaN before the first sample
            part = max(0.0, (told_s - before_s) / (at_s - before_s))
            energy_j = before_j + (energy_j - before_j) * part
        self.pace.see(told_s, energy_j, step)
        self._seen = told_s, energy_j
        return True

    @property
    def done_ratio(self) -> float | None:
        """The part of the steps that is done; None where it is unknown, or is more than all."""
        if self._total is None or self.step is None or not 0.0 <= self.step <= self._total:
            return None
        return self.step / self._total

    def forecast(self, spent: Spent) -> Forecast | None:
        """The whole run as it looks now; None as long as nobody can know."""
        ratio = self.done_ratio
        if ratio is None or self.step is None or self._total is None:
            return None
        left = self.pace.left(self._total - self.step)
        if left is None:
            return None
        seen_s, seen_j = self._seen
        # What came since the step was told is spent already.
        warmed_up = self.pace.seen / self._total / WARM_UP_RATIO
        seconds = _less(_after_warm_up(left[0], warmed_up), self._at_s - seen_s)
        joules = _less(_after_warm_up(left[1], warmed_up), self._energy_j - seen_j)
        cost = None
        if spent.cost is not None and spent.money is not None:
            cost = _sorted(joules.times(spent.money)).plus(spent.cost)
        return Forecast(
            ratio,
            seconds.plus(spent.duration_s),
            joules.plus(spent.energy_j),
            joules.times(spent.grams).plus(spent.emissions_g),
            cost,
            "" if cost is None else spent.currency,
        )


def is_due(marks: Sequence[Forecast], done_ratio: float) -> bool:
    """Whether a forecast made now is to be kept beside the earlier ones: the first after a ratio."""
    newest = max((mark.done_ratio for mark in marks), default=0.0)
    return done_ratio < 1.0 and any(newest < ratio <= done_ratio for ratio in KEPT_RATIOS)


def _after_warm_up(left: Range, warmed_up: float) -> Range:
    """What is left where all that was seen may be warm-up: less so as `warmed_up` goes to 1."""
    times = 1.0 + (WARM_UP_TIMES - 1.0) * max(0.0, 1.0 - warmed_up)
    return Range(left.low / times, left.expected / math.sqrt(times), left.high)


def _less(left: Range, spent: float) -> Range:
    return Range(*(max(0.0, amount - spent) for amount in left))


def _sorted(span: Range) -> Range:
    """A range whose low end is the lower one: prices may be negative."""
    return Range(min(span.low, span.high), span.expected, max(span.low, span.high))
