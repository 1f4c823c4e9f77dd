"""The metric families of `carbonmon.core.metrics` as prometheus_client's, to be filled with samples.

An answer has some fifty of them with up to thousands of samples. The library's constructors check each name
again, and a sample of the library's is an object with a dictionary of its labels: here the checks are made
once for all answers, and samples are kept as rows. `exposition.py` writes these as they are; whoever
asks for `samples` gets the library's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar, Sample, Timestamp

from carbonmon.core.metrics import Family

Row = tuple[Sequence[Any], float, "Timestamp | float | None"]
"""Values of the labels in the family's order (an info's: its labels as pairs), the value, the time (s)."""

_Kind = TypeVar("_Kind", bound="RowFamily")


def escaped(text: str) -> str:
    """A label's value as both text formats write it."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Beginnings(dict[Sequence[Any], str]):
    """What lines begin with, their name and labels, by the labels of a row: these hardly ever change."""

    def __init__(self, name: str, label_names: Sequence[str]) -> None:
        super().__init__()
        self._name = name
        self._label_names = label_names

    def named(self, labels: Sequence[Any]) -> Iterable[tuple[str, str]]:
        """The labels of a row with their names, as the library pairs them."""
        return zip(self._label_names, labels)  # noqa: B905

    def __missing__(self, labels: Sequence[Any]) -> str:
        text = ",".join([f'{name}="{escaped(value)}"' for name, value in sorted(self.named(labels))])
        begin = self[labels] = f"{self._name}{{{text}}} " if text else f"{self._name} "
        return begin

    def keep(self, count: int) -> None:
        """Forget all where more than twice as many are known as an answer has: runs come and go."""
        if len(self) > 2 * count:
            self.clear()


class _InfoBeginnings(Beginnings):
    def named(self, labels: Sequence[Any]) -> Iterable[tuple[str, str]]:
        return labels


class RowFamily(Metric):
    """A family of the library's whose samples are rows until somebody asks for the library's."""

    suffix = ""
    _beginnings: type[Beginnings] = Beginnings
    _labelnames: tuple[str, ...]
    rows: list[Row]
    sample_name: str
    beginnings: Beginnings
    library_samples: list[Sample]
    """Empty while all samples are rows."""

    def own_class(self: _Kind) -> type[_Kind]:
        """A class whose objects are this family without samples: all but these is of the class."""
        name = self.name + self.suffix
        beginnings = self._beginnings(name, self._labelnames)
        content = {**vars(self), "sample_name": name, "beginnings": beginnings}
        del content["rows"], content["library_samples"]
        return type(type(self).__name__, (type(self),), content)

    @property
    def is_empty(self) -> bool:
        return not self.rows and not self.library_samples

    @property
    def samples(self) -> list[Sample]:
        """The rows become samples: what is added to this list, or put in its place, is the family's."""
        if self.rows:
            name, named = self.sample_name, self.beginnings.named
            self.library_samples += [Sample(name, dict(named(row[0])), row[1], row[2]) for row in self.rows]
            self.rows = []
        return self.library_samples

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        self.rows, self.library_samples = [], samples


def _empty(kind: type[_Kind]) -> _Kind:
    made = object.__new__(kind)
    made.rows, made.library_samples = [], []
    return made


class Counter(RowFamily, CounterMetricFamily):
    suffix = "_total"

    def add_metric(
        self,
        labels: Sequence[str],
        value: float,
        created: float | None = None,
        timestamp: Timestamp | float | None = None,
        exemplar: Exemplar | None = None,
    ) -> None:
        if created is None and exemplar is None:
            self.rows.append((tuple(labels), value, timestamp))
        else:
            _ = self.samples  # what was added before comes before
            super().add_metric(labels, value, created, timestamp, exemplar)


class Gauge(RowFamily, GaugeMetricFamily):
    def add_metric(
        self, labels: Sequence[str], value: float, timestamp: Timestamp | float | None = None
    ) -> None:
        self.rows.append((tuple(labels), value, timestamp))


class Info(RowFamily, InfoMetricFamily):
    """An OpenMetrics info; the classic text format shows it as a gauge that is always 1."""

    suffix = "_info"
    _beginnings = _InfoBeginnings

    def add_metric(
        self, labels: Sequence[str], value: Mapping[str, str], timestamp: Timestamp | float | None = None
    ) -> None:
        named = {**dict(zip(self._labelnames, labels)), **value}  # noqa: B905 (as the library does)
        self.add_named(tuple(named.items()), timestamp)

    def add_named(self, labels: tuple[tuple[str, str], ...], time_s: Timestamp | float | None = None) -> None:
        """Add one with its labels as pairs of name and value."""
        self.rows.append((labels, 1.0, time_s))


def as_counter(family: Family) -> Counter:
    return _empty(_counter(family))


def as_gauge(family: Family) -> Gauge:
    return _empty(_gauge(family))


def as_info(family: Family) -> Info:
    return _empty(_info(family))


def empty(family: Family) -> RowFamily:
    """The family without samples, of its own kind."""
    if family.kind == "counter":
        return as_counter(family)
    return as_gauge(family) if family.kind == "gauge" else as_info(family)


@cache
def _counter(family: Family) -> type[Counter]:
    return Counter(family.name, family.help, labels=family.labels).own_class()


@cache
def _gauge(family: Family) -> type[Gauge]:
    return Gauge(family.name, family.help, labels=family.labels).own_class()


@cache
def _info(family: Family) -> type[Info]:
    return Info(family.family_name, family.help).own_class()
