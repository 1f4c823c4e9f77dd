"""How much energy a run drew between two reports of its training code; pure, for the sampling thread.

Energy is settled by samples, and reports come between two of them. A report is a mark: it takes the joules of
the intervals before it, and of an interval over it the part before, by the driver's power samples, else by
time.
"""

from __future__ import annotations

import math
from itertools import pairwise

from carbonmon.core.curves import part_between
from carbonmon.core.model import Curve
from carbonmon.core.work import COUNTS, Count, EpochEnd, Peaks, Span, Told, Work, known_total


class _Mark:
    """A moment, and the run's joules until then, which grow while intervals from before it are settled."""

    __slots__ = ("at_s", "joules")

    def __init__(self, at_s: float, joules: float) -> None:
        self.at_s = at_s
        self.joules = joules

    def add(self, start_s: float, end_s: float, energy_j: float, curve: Curve | None) -> None:
        """Take what was drawn before this moment of an interval that begins before it."""
        if end_s <= self.at_s:
            self.joules += energy_j
        else:
            self.joules += energy_j * part_between(curve, start_s, end_s, start_s, self.at_s)


class _Growth:
    """A count at its first report and at its highest."""

    __slots__ = ("first", "first_mark", "last", "last_mark")

    def __init__(self, first: float, first_mark: _Mark, last: float, last_mark: _Mark) -> None:
        self.first, self.first_mark = first, first_mark
        self.last, self.last_mark = last, last_mark


class _EpochEnd:
    """A whole number of epochs, and the moment at which they were done."""

    __slots__ = ("epochs", "mark")

    def __init__(self, epochs: float, mark: _Mark) -> None:
        self.epochs, self.mark = epochs, mark


MOST_EPOCH_ENDS = 128
"""Some 5 KB of each checkpoint. Of more, every second one is kept, and then every second boundary."""


class WorkMeter:
    """The work of one run. Times are on the injected clock (s); `total_j` are all the run's joules so far."""

    __slots__ = (
        "_epoch_ends",
        "_growths",
        "_job_ratio",
        "_marks",
        "_newest",
        "_origin",
        "_peaks",
        "_precision",
        "_settled_s",
        "_total_steps",
        "total_j",
    )

    def __init__(self) -> None:
        self.total_j = 0.0
        self._settled_s = 0.0
        self._growths: dict[Count, _Growth] = {}
        self._marks: list[_Mark] = []
        self._epoch_ends: list[_EpochEnd] = []
        self._origin: _Mark | None = None
        self._newest: _Mark | None = None
        self._total_steps: float | None = None
        self._precision = ""
        self._peaks: Peaks = ()
        self._job_ratio = 1.0

    def restore(self, work: Work | None, total_j: float, start_s: float) -> None:
        """Go on from what an earlier monitor left of a run that began at `start_s`."""
        self.total_j = total_j
        if work is None:
            return
        self._total_steps, self._precision, self._peaks = work.total_steps, work.precision, work.peaks
        self._job_ratio = work.job_ratio
        marks: dict[tuple[float, float], _Mark] = {}

        def mark(at_s: float, joules: float) -> _Mark:
            return marks.setdefault((at_s, joules), _Mark(start_s + at_s, joules))

        for span in work.spans:
            first, last = mark(span.first_s, span.first_j), mark(span.last_s, span.last_j)
            self._growths[span.what] = _Growth(span.first, first, span.last, last)
        self._marks = list(marks.values())
        self._epoch_ends = [
            _EpochEnd(end.epochs, _Mark(start_s + end.at_s, end.energy_j)) for end in work.epoch_ends
        ]
        self._newest = max(self._marks, key=lambda each: each.at_s, default=None)

    def add(self, start_s: float, end_s: float, energy_j: float, curve: Curve | None = None) -> None:
        """Add the run's joules of an interval that a sample settled, drawn by a curve or evenly."""
        self.total_j += energy_j
        if end_s > self._settled_s:
            self._settled_s = end_s
        for mark in self._marks:
            if start_s < mark.at_s:
                mark.add(start_s, end_s, energy_j, curve)
        if self._epoch_ends:
            for end in reversed(self._epoch_ends):
                if end.mark.at_s <= start_s:
                    break
                end.mark.add(start_s, end_s, energy_j, curve)

    def tell(self, told: Told, at_s: float, peaks: Peaks = ()) -> None:
        """A report that was made at `at_s`; `peaks` are those of the GPUs in its precision."""
        total = known_total(told.total_steps)
        if total is not None:
            self._total_steps = total
        if self._total_steps is not None and (told.steps or 0.0) > self._total_steps:
            self._total_steps = None  # it was none: more has been done
        if told.precision:
            self._precision, self._peaks = told.precision, peaks
        self._job_ratio = told.job_ratio
        higher = [
            (count, value)
            for count in COUNTS
            if (value := getattr(told, count)) is not None
            and (count not in self._growths or value > self._growths[count].last)
        ]
        if not higher:
            return
        if told.epochs is not None:
            self._end_epoch(told.epochs, at_s)
        mark = self._mark(at_s)
        if told.steps == 0.0 and not self._growths:
            self._origin = mark  # nothing is done yet, whatever else will be counted
        for count, value in higher:
            growth = self._growths.get(count)
            if growth is not None:
                growth.last, growth.last_mark = value, mark
            elif self._origin is not None:
                self._growths[count] = _Growth(0.0, self._origin, value, mark)
            else:
                self._growths[count] = _Growth(value, mark, value, mark)
        self._keep_marks()

    def _end_epoch(self, epochs: float, at_s: float) -> None:
        """Note when the last whole epoch ended: by the pace between this report and the one before."""
        growth, whole = self._growths.get("epochs"), math.floor(epochs)
        last, before = (0.0, self._origin) if growth is None else (growth.last, growth.last_mark)
        if before is None or whole <= last or whole - self._last_epoch_end() < self._epoch_stride():
            return
        ratio = (whole - last) / (epochs - last)
        ended_s = before.at_s + max(0.0, at_s - before.at_s) * ratio
        if self._newest is not None and before.at_s < self._newest.at_s <= ended_s:
            before = self._newest
        self._epoch_ends.append(_EpochEnd(float(whole), _Mark(ended_s, self._joules_at(ended_s, before))))
        if len(self._epoch_ends) > MOST_EPOCH_ENDS:
            del self._epoch_ends[::2]

    def _last_epoch_end(self) -> float:
        return self._epoch_ends[-1].epochs if self._epoch_ends else -math.inf

    def _epoch_stride(self) -> float:
        """How many epochs apart the ends are: they were thinned out where it is more than one."""
        if len(self._epoch_ends) < 2:
            return 1.0
        return min(end.epochs - one.epochs for one, end in pairwise(self._epoch_ends))

    def _mark(self, at_s: float) -> _Mark:
        """A mark at a moment that may be a little ago."""
        newest = self._newest
        if newest is None:
            self._newest = newest = _Mark(max(at_s, self._settled_s), self.total_j)
        elif at_s > newest.at_s:
            self._newest = newest = _Mark(at_s, self._joules_at(at_s, newest))
        return newest

    def _joules_at(self, at_s: float, before: _Mark) -> float:
        """The joules until a moment behind a mark; of what is settled already part may be drawn later."""
        if at_s >= self._settled_s:
            return self.total_j
        ratio = (at_s - before.at_s) / (self._settled_s - before.at_s)
        return before.joules + (self.total_j - before.joules) * ratio

    def _keep_marks(self) -> None:
        """Forget the marks at which no count stands any more."""
        kept = {id(mark): mark for mark in (self._origin, self._newest) if mark is not None}
        for growth in self._growths.values():
            kept[id(growth.first_mark)] = growth.first_mark
            kept[id(growth.last_mark)] = growth.last_mark
        self._marks = list(kept.values())

    def state(self, start_s: float) -> Work | None:
        """The work so far of a run that began at `start_s`; None where nothing was told."""
        if not self._growths:
            return None
        told = {count: growth.last for count, growth in self._growths.items()}
        return Work(
            told.get("steps"),
            self._total_steps,
            told.get("epochs"),
            told.get("samples"),
            told.get("tokens"),
            told.get("flops"),
            self._precision,
            self._peaks,
            self._job_ratio,
            tuple([_span(count, growth, start_s) for count, growth in self._growths.items()]),
            tuple(
                [
                    EpochEnd(end.epochs, max(0.0, end.mark.at_s - start_s), end.mark.joules)
                    for end in self._epoch_ends
                ]
            ),
        )


def _span(count: Count, growth: _Growth, start_s: float) -> Span:
    first, last = growth.first_mark, growth.last_mark
    return Span(
        count,
        growth.first,
        growth.last,
        max(0.0, first.at_s - start_s),
        max(0.0, last.at_s - start_s),
        first.joules,
        last.joules,
    )
