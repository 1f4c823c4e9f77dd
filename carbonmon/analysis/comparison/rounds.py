"""Two commands that ran in turn, several times each: medians, and whether their ranks differ by chance.

The rank test is that of Mann and Whitney (1947, doi:10.1214/aoms/1177730491), two-sided: it asks of the
figures only which is larger. The chance is exact, over all ways to deal the ranks to the two commands.
Figures that are the same have the mean of their ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from carbonmon.analysis.comparison import Difference, energy_j, mean_power_w, without_energy
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple

Summary = Mapping[str, Any]


class Medians(NamedTuple):
    """The medians of one amount, and `chance`: how often ranks this far apart come of two alike commands."""

    difference: Difference
    chance: float


class Rounds(NamedTuple):
    """What two commands took in so many rounds; an amount that is unknown in one run is None."""

    rounds: int
    energy_j: Medians | None
    duration_s: Medians | None
    power_w: Medians | None
    emissions_g: Medians | None


def compare_rounds(base: Sequence[Summary], other: Sequence[Summary]) -> Rounds:
    """The medians of the runs of two commands. Raises `ConfigError` where one has none."""
    for summary in (*base, *other):
        if not energy_j(summary):
            raise ConfigError(without_energy(summary))
    return Rounds(
        len(base),
        _medians([energy_j(each) for each in base], [energy_j(each) for each in other]),
        _medians([_seconds(each) for each in base], [_seconds(each) for each in other]),
        _medians([mean_power_w(each) for each in base], [mean_power_w(each) for each in other]),
        _medians([_grams(each) for each in base], [_grams(each) for each in other]),
    )


def _medians(base: Sequence[float | None], other: Sequence[float | None]) -> Medians | None:
    ours = [figure for figure in base if figure is not None]
    theirs = [figure for figure in other if figure is not None]
    if len(ours) < len(base) or len(theirs) < len(other) or not median(ours):
        return None
    middle, their_middle = median(ours), median(theirs)
    return Medians(Difference(middle, their_middle, their_middle / middle - 1.0), chance(ours, theirs))


def _seconds(summary: Summary) -> float | None:
    found: float | None = summary["run"]["duration_s"]
    return found


def _grams(summary: Summary) -> float | None:
    found: float | None = summary["carbon"]["emissions_g"]
    return found


def chance(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The two-sided chance of the rank test, from 0 to 1."""
    ranks = _double_ranks([*ours, *theirs])
    mean = len(ours) * sum(ranks) / len(ranks)
    distance = abs(sum(ranks[: len(ours)]) - mean)
    ways: dict[tuple[int, int], int] = {(0, 0): 1}
    """How many choices of so many ranks have such a sum."""
    for rank in ranks:
        for (count, total), number in list(ways.items()):
            if count < len(ours):
                key = count + 1, total + rank
                ways[key] = ways.get(key, 0) + number
    far = sum(
        number
        for (count, total), number in ways.items()
        if count == len(ours) and abs(total - mean) >= distance - 1e-9
    )
    return far / math.comb(len(ranks), len(ours))


def _double_ranks(figures: Sequence[float]) -> list[int]:
    """Twice the rank of each figure, which is whole also where several are the same."""
    return [
        sum(each < figure for each in figures) + sum(each <= figure for each in figures) + 1
        for figure in figures
    ]


def least_chance(rounds: int) -> float:
    """The chance of the test where all figures of one command are below all of the other."""
    return 2.0 / math.comb(2 * rounds, rounds)
