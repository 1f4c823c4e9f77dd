"""A monitor's last answer as families of metrics: without what was true only at a moment, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from carbonmon.core import metrics as f
from carbonmon_exporters.families import empty

_MOMENTARY = frozenset(family.family_name for family in f.MOMENTARY)
_FAMILIES = {family.family_name: family for family in f.FAMILIES}


def lasting(families: Iterable[Metric]) -> list[Metric]:
    """What stays true when nobody measures any more: totals, times and texts, no power and no state."""
    return [family for family in families if family.name not in _MOMENTARY]


def of_runs(families: Iterable[Metric]) -> list[Metric]:
    """The samples that belong to a run; devices, grid and monitor are the next monitor's to show."""
    return [family for family in families if "run_id" in _FAMILIES[family.name].labels]


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
    """Families as values of JSON: [name, [[name of the sample, labels, value], …]]."""
    return [
        [family.name, [[sample.name, sample.labels, sample.value] for sample in family.samples]]
        for family in families
    ]


def from_rows(rows: Sequence[Any]) -> list[Metric]:
    """The families of `to_rows`, less those that this version does not know; raises ValueError, TypeError."""
    families = []
    for name, samples in rows:
        if name in _FAMILIES:
            family = empty(_FAMILIES[name])
            family.samples = [Sample(str(own), dict(labels), float(value)) for own, labels, value in samples]
            families.append(family)
    return families
