"""A monitor's last answer as families of metrics: without what was true only at a moment, and as JSON.

A counter's sample holds when the counter began (Unix time) in the place of a time stamp, None where that is
not known: whoever has not been shown it yet is shown 0 at that time as well (`starts.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from carbonmon.core import metrics as f
from carbonmon_exporters.families import empty
from carbonmon_exporters.starts import LEAST_GAP_S

_MOMENTARY = frozenset(family.family_name for family in f.MOMENTARY)
_ROUNDED_S = 0.001
_FAMILIES = {family.family_name: family for family in f.FAMILIES}


def lasting(families: Iterable[Metric]) -> list[Metric]:
    """What stays true when nobody measures any more: totals, times and texts, no power and no state.

    `families` are shown with all starts; a sample that is a start becomes that of its counter.
    """
    return [_with_starts(family) for family in families if family.name not in _MOMENTARY]


def of_runs(families: Iterable[Metric]) -> list[Metric]:
    """The samples that belong to a run; devices, grid and monitor are the next monitor's to show."""
    return [family for family in families if "run_id" in _FAMILIES[family.name].labels]


def shown(families: Iterable[Metric], since_s: float, at_s: float) -> list[Metric]:
    """The families for an answer at `at_s`: counters that began at `since_s` or later with their starts."""
    found: list[Metric] = []
    for family in families:
        own = empty(_FAMILIES[family.name])
        for sample in family.samples:
            plain = sample._replace(timestamp=None)
            start_s = sample.timestamp
            if start_s is None or not since_s - _ROUNDED_S <= float(start_s) <= at_s - LEAST_GAP_S:
                own.samples.append(plain)
            else:
                own.samples += [sample._replace(value=0.0), plain._replace(timestamp=at_s)]
        found.append(own)
    return found


def add(families: list[Metric], more: Iterable[Metric]) -> None:
    """Add samples of other runs to families, in place; a family appears once in an answer."""
    by_name = {family.name: family for family in families}
    for family in more:
        known = by_name.get(family.name)
        if known is None:
            known = by_name[family.name] = empty(_FAMILIES[family.name])
            families.append(known)
        known.samples.extend(family.samples)


def to_rows(families: Iterable[Metric]) -> list[Any]:
    """Families as values of JSON: [name, [[name of the sample, labels, value, start], …]]."""
    return [[family.name, [list(sample[:4]) for sample in family.samples]] for family in families]


def from_rows(rows: Sequence[Any]) -> list[Metric]:
    """The families of `to_rows`, less those that this version does not know; raises ValueError, TypeError."""
    families: list[Metric] = []
    for name, samples in rows:
        if name in _FAMILIES:
            family = empty(_FAMILIES[name])
            for own, labels, value, start_s in samples:
                start = None if start_s is None else float(start_s)
                family.samples.append(Sample(str(own), dict(labels), float(value), start))
            families.append(family)
    return families


def _with_starts(family: Metric) -> Metric:
    """One sample for each pair of a start and a value, which follow each other."""
    own = empty(_FAMILIES[family.name])
    start_s = None
    for sample in family.samples:
        if sample.timestamp is not None and start_s is None:
            start_s = float(sample.timestamp)
            continue
        own.samples.append(sample._replace(timestamp=start_s))
        start_s = None
    return own
