"""The metric families of `carbonmon.core.metrics` as prometheus_client's, to be filled with samples."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from carbonmon.core.metrics import Family


def as_counter(family: Family) -> CounterMetricFamily:
    return CounterMetricFamily(family.name, family.help, labels=family.labels)


def as_gauge(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)


def as_info(family: Family) -> InfoMetricFamily:
    """An OpenMetrics info; the classic text format shows it as a gauge that is always 1."""
    return InfoMetricFamily(family.family_name, family.help)


def empty(family: Family) -> Metric:
    """The family without samples, of its own kind."""
    if family.kind == "counter":
        return as_counter(family)
    return as_gauge(family) if family.kind == "gauge" else as_info(family)
