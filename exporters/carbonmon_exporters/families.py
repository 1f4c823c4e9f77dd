"""The metric families of `carbonmon.core.metrics` as prometheus_client's, to be filled with samples.

An answer has some fifty of them. The library's constructors check each name again: here that is done once,
and each answer gets copies without samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    Sample,
    Timestamp,
)

from carbonmon.core.metrics import Family

_Kind = TypeVar("_Kind", bound=Metric)


class _Counter(CounterMetricFamily):
    """The library's counter, without a name made anew for each of hundreds of samples."""

    def __init__(self, family: Family) -> None:
        super().__init__(family.name, family.help, labels=family.labels)
        self._sample_name = f"{self.name}_total"

    def add_metric(
        self,
        labels: Sequence[str],
        value: float,
        created: float | None = None,
        timestamp: Timestamp | float | None = None,
        exemplar: Exemplar | None = None,
    ) -> None:
        named = dict(zip(self._labelnames, labels))  # noqa: B905 (as the library does)
        self.samples.append(Sample(self._sample_name, named, value, timestamp, exemplar))
        if created is not None:
            self.samples.append(Sample(f"{self.name}_created", named, created, timestamp))


def as_counter(family: Family) -> CounterMetricFamily:
    return _copy(_counter(family))


def as_gauge(family: Family) -> GaugeMetricFamily:
    return _copy(_gauge(family))


def as_info(family: Family) -> InfoMetricFamily:
    """An OpenMetrics info; the classic text format shows it as a gauge that is always 1."""
    return _copy(_info(family))


def empty(family: Family) -> Metric:
    """The family without samples, of its own kind."""
    if family.kind == "counter":
        return as_counter(family)
    return as_gauge(family) if family.kind == "gauge" else as_info(family)


def _copy(made: _Kind) -> _Kind:
    """The same family, without samples."""
    copied = object.__new__(type(made))
    copied.__dict__.update(made.__dict__, samples=[])
    return copied


@cache
def _counter(family: Family) -> _Counter:
    return _Counter(family)


@cache
def _gauge(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)


@cache
def _info(family: Family) -> InfoMetricFamily:
    return InfoMetricFamily(family.family_name, family.help)
