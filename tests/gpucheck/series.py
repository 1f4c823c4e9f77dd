"""What a series of readings says: how often it is refreshed, how fine it is, how late. Pure functions.

A `Track` is a list of (Unix time in s, value), in order of time.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

Track = list[tuple[float, float]]
Edges = Sequence[tuple[float, bool]]
"""When a load became busy (True) or idle, as Unix times in order; before the first it was the opposite."""

LAG_STEP_S = 0.01
LARGEST_LAG_S = 0.95
"""Below half of the longest square wave, so that a lag is not taken for the one a period later."""


def changes(track: Track) -> Track:
    """The readings that differ from the one before them."""
    return [after for before, after in pairwise(track) if after[1] != before[1]]


def refresh_period_s(track: Track) -> float | None:
    """Median time between two changes; None where there were too few. Not below the polling's own step."""
    times = [at_s for at_s, _ in changes(track)]
    return statistics.median(b - a for a, b in pairwise(times)) if len(times) >= 4 else None


def resolution(values: Sequence[int]) -> int | None:
    """The largest step of which all differences are multiples, in the values' unit; None without a change."""
    return math.gcd(*[b - a for a, b in pairwise(values)]) or None


def power_track(counter: Track) -> Track:
    """A counter (J) as power (W): the mean from each change to the next, at both ends of that time."""
    points: Track = []
    for (begin_s, begin_j), (end_s, end_j) in pairwise(changes(counter)):
        power_w = (end_j - begin_j) / (end_s - begin_s)
        points += [(begin_s + 1e-6, power_w), (end_s, power_w)]
    return points


def value_at(track: Track, at_s: float) -> float:
    """The value at a time on straight lines through the readings; beyond them the nearest."""
    low, high = 0, len(track)
    while low < high:
        middle = (low + high) // 2
        if track[middle][0] < at_s:
            low = middle + 1
        else:
            high = middle
    if low == 0 or low == len(track):
        return track[min(low, len(track) - 1)][1]
    (begin_s, begin), (end_s, end) = track[low - 1], track[low]
    return begin + (end - begin) * (at_s - begin_s) / (end_s - begin_s)


def integral(track: Track, start_s: float, end_s: float) -> float | None:
    """By trapezoids from one time to another; None where the readings cover less than nine tenths of it.

    What they leave open at an end is filled with the nearest reading.
    """
    inside = [point for point in track if start_s < point[0] < end_s]
    if not inside or end_s <= start_s:
        return None
    reach_s = min(end_s, track[-1][0]) - max(start_s, track[0][0])
    if reach_s < 0.9 * (end_s - start_s):
        return None
    points = [(start_s, value_at(track, start_s)), *inside, (end_s, value_at(track, end_s))]
    return sum((b[1] + a[1]) / 2.0 * (b[0] - a[0]) for a, b in pairwise(points))


def _is_busy(edges: Edges, at_s: float) -> bool:
    busy = not edges[0][1]
    for edge_s, becomes_busy in edges:
        if edge_s > at_s:
            break
        busy = becomes_busy
    return busy


def lag_s(track: Track, edges: Edges) -> float | None:
    """How late a power reading follows a load's edges: the shift at which the two correlate best.

    A mean of the last second lags by half a second. None where the load or the reading did not move.
    """
    if len(edges) < 3 or len(track) < 8:
        return None
    start_s, end_s = max(edges[0][0], track[0][0]), track[-1][0]
    count = int((end_s - start_s - LARGEST_LAG_S) / LAG_STEP_S)
    if count < 50:
        return None
    shifts = int(LARGEST_LAG_S / LAG_STEP_S)
    busy = [float(_is_busy(edges, start_s + step * LAG_STEP_S)) for step in range(count)]
    value = [value_at(track, start_s + step * LAG_STEP_S) for step in range(count + shifts)]
    if min(value) == max(value) or min(busy) == max(busy):
        return None
    best = max(range(shifts), key=lambda shift: _correlation(busy, value[shift : shift + count]))
    return best * LAG_STEP_S


def _correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's; 0 where the second does not move."""
    mean_1, mean_2 = sum(first) / len(first), sum(second) / len(second)
    spread_1 = sum((value - mean_1) ** 2 for value in first)
    spread_2 = sum((value - mean_2) ** 2 for value in second)
    together = sum((a - mean_1) * (b - mean_2) for a, b in zip(first, second, strict=True))
    return together / math.sqrt(spread_1 * spread_2) if spread_2 > 0.0 else 0.0


def swing_ratio(track: Track, low: float, high: float) -> float | None:
    """How much of the swing between two levels a reading shows: its 90th less its 10th percentile."""
    if len(track) < 10 or high <= low:
        return None
    tenths = statistics.quantiles([value for _, value in track], n=10)
    return (tenths[-1] - tenths[0]) / (high - low)
