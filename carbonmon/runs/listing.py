"""Which runs of a folder are listed, in which order, and what groups of them add up to; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from carbonmon.core.records import NamedTuple
from carbonmon.runs.index import ENDED, Entry

SORTS: Mapping[str, Callable[[Entry], Any]] = {
    "start": lambda entry: entry.start_s,
    "name": lambda entry: entry.name,
    "user": lambda entry: entry.uid,
    "host": lambda entry: entry.host,
    "duration": lambda entry: entry.duration_s,
    "energy": lambda entry: entry.energy_j,
    "emissions": lambda entry: entry.emissions_g,
}
"""What runs can be sorted by."""

LABEL_KEY = "label:"
KEYS = ("name", "user", "host", "month", "state")
"""What runs can be grouped by, beside `label:KEY`."""


class Wanted(NamedTuple):
    """Which runs are wanted: names and hosts are patterns of a shell, the times are those of the start."""

    names: Sequence[str] = ()
    labels: Sequence[tuple[str, str]] = ()
    uids: Sequence[int] = ()
    hosts: Sequence[str] = ()
    states: Sequence[str] = ()
    since_s: float = -math.inf
    until_s: float = math.inf

    def has(self, entry: Entry) -> bool:
        """Whether a run is one of those."""
        start_s = -math.inf if entry.start_s is None else entry.start_s
        return (
            self.since_s <= start_s < self.until_s
            and (not self.names or any(fnmatchcase(entry.name, name) for name in self.names))
            and all(entry.labels.get(key) == value for key, value in self.labels)
            and (not self.uids or entry.uid in self.uids)
            and (not self.hosts or any(fnmatchcase(entry.host, host) for host in self.hosts))
            and (not self.states or entry.state in self.states)
        )


class Amount(NamedTuple):
    """What several runs have of one thing: the sum, and of those that ended mean and standard deviation.

    The mean is of whole runs, not of parts of one. Each is over the runs that have a figure; None where none
    has one. The deviation is that of a sample (n − 1), and needs two runs.
    """

    total: float | None
    mean: float | None
    deviation: float | None


class Group(NamedTuple):
    """Runs that have the same of each key. `unknown` of them have no energy, and are in no sum of joules."""

    keys: tuple[str, ...]
    runs: int
    unknown: int
    energy_j: Amount
    measured_ratio: float | None
    emissions_g: Amount
    duration_s: Amount


class Row(NamedTuple):
    """A run, or its part in one month: then `month` names that, and the entry has that part's amounts."""

    entry: Entry
    month: str = ""
    is_part: bool = False


def ordered(rows: Iterable[Row], by: str, reverse: bool = False) -> list[Row]:
    """Rows by one of `SORTS`, and by their start where they have the same; what is unknown comes first."""
    key = SORTS[by]

    def place(row: Row) -> tuple[Any, ...]:
        value = key(row.entry)
        return value is not None, 0 if value is None else value, row.entry.start_s or 0.0, row.entry.id

    return sorted(rows, key=place, reverse=reverse)


def grouped(rows: Iterable[Row], keys: Sequence[Callable[[Row], str]]) -> list[Group]:
    """The groups of the rows that have the same of each key, in the order of the keys."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(key(row) for key in keys), []).append(row)
    return [_group(names, groups[names]) for names in sorted(groups)]


def _group(keys: tuple[str, ...], rows: Sequence[Row]) -> Group:
    entries = [row.entry for row in rows]
    known = [entry for entry in entries if entry.energy_j is not None]
    total_j = sum(entry.energy_j or 0.0 for entry in known)
    measured_j = sum((entry.energy_j or 0.0) * (entry.measured_ratio or 0.0) for entry in known)
    is_known = total_j > 0.0 and all(entry.measured_ratio is not None for entry in known if entry.energy_j)
    return Group(
        keys,
        len({entry.folder for entry in entries}),
        len({entry.folder for entry in entries if entry.energy_j is None}),
        _amount(rows, lambda entry: entry.energy_j),
        min(1.0, measured_j / total_j) if is_known else None,
        _amount(rows, lambda entry: entry.emissions_g),
        _amount(rows, lambda entry: entry.duration_s),
    )


def _amount(rows: Sequence[Row], of: Callable[[Entry], float | None]) -> Amount:
    figures = [figure for row in rows if (figure := of(row.entry)) is not None]
    whole = [
        figure
        for row in rows
        if row.entry.state in ENDED and not row.is_part and (figure := of(row.entry)) is not None
    ]
    mean = math.fsum(whole) / len(whole) if whole else None
    deviation = None
    if mean is not None and len(whole) > 1:
        deviation = math.sqrt(math.fsum((figure - mean) ** 2 for figure in whole) / (len(whole) - 1))
    return Amount(math.fsum(figures) if figures else None, mean, deviation)
