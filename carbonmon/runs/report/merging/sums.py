"""Sums, means and lists of values of several summaries, some of which may be unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LONGEST_LIST = 200
"""Characters of a list of hosts, or of other texts that each node has its own of."""

Part = Mapping[str, Any]


def each(parts: Iterable[Part], key: str) -> list[Any]:
    """The value of each part under a key, None where it lacks the key."""
    return [part.get(key) for part in parts]


def sum_of_anomalies(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Rejected readings by kind; a kind that an older version did not count yet is 0 there."""
    kinds = dict.fromkeys(kind for each_one in counts for kind in each_one)
    return {kind: sum(each_one.get(kind, 0) for each_one in counts) for kind in kinds}


def total(amounts: Iterable[float | None]) -> float | None:
    """The sum; None where one is unknown."""
    amounts = list(amounts)
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def known_total(amounts: Iterable[float | None]) -> float | None:
    """The sum of those that are known; None where none is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if known else None


def same(values: Iterable[Any]) -> Any:
    """The value that all share, else None."""
    values = list(values)
    return values[0] if values and all(value == values[0] for value in values) else None


def weighted(parts: Sequence[Part], key: str, weight: str) -> float | None:
    """The mean of a value, weighted by another; None without weight, or where a part's value is unknown."""
    pairs = [(part[key], part[weight]) for part in parts if part[weight]]
    if not pairs or any(value is None for value, _ in pairs):
        return None
    alike = same(value for value, _ in pairs)
    if alike is not None:
        return float(alike)  # exactly, whatever the weights
    return float(sum(value * amount for value, amount in pairs) / sum(amount for _, amount in pairs))


def measured(parts: Sequence[Part], weight: str = "energy_j") -> float | None:
    """The measured part of the sum of several energies."""
    ratio = weighted(parts, "measured_ratio", weight)
    return None if ratio is None else min(1.0, ratio)


def listed(texts: Iterable[str | None], mark: str = ", ") -> str:
    """The texts, each once, up to `LONGEST_LIST` characters, and how many more there are."""
    found = list(dict.fromkeys(text for text in texts if text))
    line = found[0] if found else ""
    for position, text in enumerate(found[1:], start=1):
        if len(line) + len(mark) + len(text) > LONGEST_LIST:
            return f"{line}{mark}… and {len(found) - position} more"
        line += mark + text
    return line
