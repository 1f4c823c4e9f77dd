"""When within an interval its energy was drawn, and how exactly that is known; pure."""

from __future__ import annotations

from bisect import bisect_right

from carbonmon.core.model import Curve


def edge_s(start_s: float, end_s: float, curve: Curve | None, at_s: float) -> float:
    """Within how many seconds the energy at an edge inside of an interval is known; 0 at its ends."""
    if not start_s < at_s < end_s:
        return 0.0
    shorter_s = min(at_s - start_s, end_s - at_s)
    if curve is None:
        return shorter_s
    place = bisect_right(curve.times_s, at_s)
    if not 0 < place < len(curve.times_s):
        return shorter_s
    return min(shorter_s, curve.times_s[place] - curve.times_s[place - 1])


def part_between(curve: Curve | None, start_s: float, end_s: float, begin_s: float, until_s: float) -> float:
    """The part of an interval's energy that was drawn between two of its moments, as a ratio.

    By its curve, else in proportion to time.
    """
    if curve is not None:
        whole_j = between(curve, start_s, end_s)
        if whole_j > 0.0:
            return between(curve, begin_s, until_s) / whole_j
    return (until_s - begin_s) / (end_s - start_s)


def between(curve: Curve, start_s: float, end_s: float) -> float:
    """Joules of a curve between two times."""
    return _until(curve, end_s) - _until(curve, start_s)


def _until(curve: Curve, at_s: float) -> float:
    times_s, joules = curve
    place = bisect_right(times_s, at_s)
    if place == 0:
        return 0.0
    if place == len(times_s):
        return joules[-1]
    before_s, before_j = times_s[place - 1], joules[place - 1]
    return before_j + (joules[place] - before_j) * (at_s - before_s) / (times_s[place] - before_s)
