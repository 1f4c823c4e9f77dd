"""How far the ratio of two runs' amounts may lie from the truth, when some of their errors are the same.

A sensor that reads 4 % high does so in both runs: in the ratio of energies that it alone measured nothing
is left of that. So each part of an energy has a gain g between 1 − low and 1 + high, and parts of both runs
with the same source of error have the same g. The ratio (Σ gᵢ·bᵢ) / (Σ gᵢ·aᵢ) rises or falls in each gain,
so that its ends are at ends of the gains: a common gain is high for the largest ratio where bᵢ/aᵢ is above
that ratio, and low below. That makes one more candidate than there are common gains, and all are tried.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from carbonmon.core.records import NamedTuple


class Part(NamedTuple):
    """A part of an energy, what its error comes from, and how far it may be off (ratios; None is unknown)."""

    source: Hashable
    energy_j: float
    low_ratio: float | None
    high_ratio: float | None


class Gain(NamedTuple):
    """A common source of error: the energy that it has in both runs, and the ends of its gain."""

    base_j: float
    other_j: float
    low: float
    high: float


def ratio_range(base: Sequence[Part], other: Sequence[Part]) -> tuple[float | None, float | None]:
    """The least and the largest ratio of the energies, other over base; None where an error is unknown."""
    gains = common_gains(base, other)
    if gains is None or not sum(part.energy_j for part in base):
        return None, None
    common = common_sources(base, other)
    alone = [[part for part in parts if part.source not in common] for parts in (base, other)]
    (base_low, base_high), (other_low, other_high) = map(_ends, alone)
    gains.sort(key=lambda gain: gain.other_j / gain.base_j)
    largest = max(
        _ratio([*_at(gains[place:], "high"), *_at(gains[:place], "low")], base_low, other_high)
        for place in range(len(gains) + 1)
    )
    least = min(
        _ratio([*_at(gains[place:], "low"), *_at(gains[:place], "high")], base_high, other_low)
        for place in range(len(gains) + 1)
    )
    return least, largest


def common_sources(base: Sequence[Part], other: Sequence[Part]) -> set[Hashable]:
    """The sources of error that both runs have energy of."""
    sums = [_sums(parts) for parts in (base, other)]
    return {source for source in sums[0] if sums[0][source] and sums[1].get(source)}


def common_gains(base: Sequence[Part], other: Sequence[Part]) -> list[Gain] | None:
    """The common sources with their energies; None where the error of any energy is unknown."""
    if any(None in (part.low_ratio, part.high_ratio) for part in (*base, *other) if part.energy_j):
        return None
    sums = _sums(base), _sums(other)
    gains = []
    for source in sorted(common_sources(base, other), key=repr):
        of_source = [part for part in (*base, *other) if part.source == source and part.energy_j]
        low = 1.0 - max(part.low_ratio or 0.0 for part in of_source)
        high = 1.0 + max(part.high_ratio or 0.0 for part in of_source)
        gains.append(Gain(sums[0][source], sums[1][source], low, high))
    return gains


def _sums(parts: Sequence[Part]) -> Mapping[Hashable, float]:
    sums: dict[Hashable, float] = {}
    for part in parts:
        sums[part.source] = sums.get(part.source, 0.0) + part.energy_j
    return sums


def _ends(parts: Sequence[Part]) -> tuple[float, float]:
    """The least and the most joules of parts whose errors have nothing in common with the other run."""
    low_j = sum(part.energy_j * (1.0 - (part.low_ratio or 0.0)) for part in parts)
    return low_j, sum(part.energy_j * (1.0 + (part.high_ratio or 0.0)) for part in parts)


def _at(gains: Sequence[Gain], end: str) -> list[tuple[float, float]]:
    return [(gain.base_j * getattr(gain, end), gain.other_j * getattr(gain, end)) for gain in gains]


def _ratio(common: Sequence[tuple[float, float]], base_j: float, other_j: float) -> float:
    base_j += sum(base for base, _ in common)
    other_j += sum(other for _, other in common)
    return other_j / base_j if base_j else float("inf")
