"""Finds the start of a run with the lowest mean intensity in a timeline; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import Timeline

_SLACK_S = 1e-3
"""So much of a run may lie in a gap: differences of Unix times are not exact."""
_SAME = 1e-9


class Start(NamedTuple):
    """A start in Unix seconds, and the mean intensity over a run that begins then."""

    start_s: float
    g_per_kwh: float


class BestTime(NamedTuple):
    """The best and the worst start, the earliest where several are the same; and the gaps.

    `now` is None if the intensity of a run that begins now is not wholly known. `gaps` are the unknown parts
    (start_s, end_s) from now to the end of the latest run: a run that would lie in one is left out.
    """

    best: Start
    worst: Start
    now: Start | None
    gaps: Sequence[tuple[float, float]]

    @property
    def saving_ratio(self) -> float | None:
        """The part of the emissions of a start now that the best start saves; None if those are unknown."""
        if self.now is None:
            return None
        return 1 - self.best.g_per_kwh / self.now.g_per_kwh if self.now.g_per_kwh > 0 else 0.0


def find_best_time(timeline: Timeline, now_s: float, run_s: float, within_s: float) -> BestTime | None:
    """The best start from `now_s` to `within_s` later for a run of `run_s`; None if no run is wholly known.

    The mean over a run is a piecewise linear function of its start, with corners where the start or the end
    passes a bound between two slots. So the best and the worst of the corners are those of all starts.
    """
    sums = _Sums(timeline, now_s, within_s + run_s)
    corners = {0.0, within_s, *sums.bounds_s, *(bound_s - run_s for bound_s in sums.bounds_s)}
    starts = []
    for after_s in sorted(corner for corner in corners if 0.0 <= corner <= within_s):
        mean = sums.mean(after_s, after_s + run_s)
        if mean is not None:
            starts.append(Start(now_s + after_s, mean))
    if not starts:
        return None
    best = worst = starts[0]
    for start in starts:
        if start.g_per_kwh < best.g_per_kwh * (1 - _SAME):
            best = start
        if start.g_per_kwh > worst.g_per_kwh * (1 + _SAME):
            worst = start
    now = starts[0] if starts[0].start_s == now_s else None
    return BestTime(best, worst, now, timeline.gaps(now_s, now_s + within_s + run_s))


class _Sums:
    """Running sums over a stretch of a timeline, so that a mean costs two look-ups. Times count from now."""

    def __init__(self, timeline: Timeline, now_s: float, length_s: float) -> None:
        self.bounds_s = [0.0]
        self._figures: list[float | None] = []
        self._weighted, self._unknown_s = [0.0], [0.0]
        for from_s, to_s, slot in timeline.pieces(now_s, now_s + length_s):
            seconds = to_s - from_s
            self.bounds_s.append(to_s - now_s)
            self._figures.append(None if slot is None else slot.value)
            self._weighted.append(self._weighted[-1] + (0.0 if slot is None else slot.value * seconds))
            self._unknown_s.append(self._unknown_s[-1] + (seconds if slot is None else 0.0))

    def mean(self, start_s: float, end_s: float) -> float | None:
        """The mean over a part of the stretch, None if it is not wholly known."""
        weighted_start, unknown_start_s = self._until(start_s)
        weighted_end, unknown_end_s = self._until(end_s)
        if unknown_end_s - unknown_start_s > _SLACK_S:
            return None
        return (weighted_end - weighted_start) / (end_s - start_s)

    def _until(self, at_s: float) -> tuple[float, float]:
        """(sum of figure × seconds, seconds without a figure) from now until a time."""
        position = min(bisect_right(self.bounds_s, at_s) - 1, len(self._figures) - 1)
        figure = self._figures[position]
        seconds = at_s - self.bounds_s[position]
        if figure is None:
            return self._weighted[position], self._unknown_s[position] + seconds
        return self._weighted[position] + figure * seconds, self._unknown_s[position]
