"""From the series of one snapshot to OTLP's message, for whoever has been told an earlier one.

The messages of the protocol are filled directly. The SDK's instruments would let a counter begin when it is
first looked at, and after 2,000 series they would add all others up into one; its records cannot say that a
series has ended.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK,
    Metric,
    NumberDataPoint,
)

from carbonmon.core.model import Snapshot
from carbonmon.core.records import NamedTuple
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.push.otlporigin import Origin, set_attributes
from carbonmon_exporters.push.otlpseries import Labels, Series, all_series

NS_PER_S = 1_000_000_000

OLDEST_ZERO_S = 600.0
"""A counter's zero is sent as at most so old: databases refuse what is much older than their newest."""

ENDED = struct.unpack("<d", (0x7FF0_0000_0000_0002).to_bytes(8, "little"))[0]
"""The NaN by which Prometheus' databases know that a series has ended, beside the flag of the protocol:
VictoriaMetrics 1.112 overlooks the flag and stores the value."""

Key = tuple[str, bool, tuple[tuple[str, str], ...]]
"""Name of the metric, whether it is of the runs' resource, and labels."""


class Told(NamedTuple):
    """What has arrived: as of when (Unix time, s), since when each counter counts (ns, 0 for unknown), and
    which gauges there were."""

    at_s: float
    starts_ns: Mapping[Key, int]
    gauges: Mapping[Key, Labels]


def message(
    snapshot: Snapshot, origin: Origin, told: Told | None, is_last: bool
) -> tuple[ExportMetricsServiceRequest, Told]:
    """The request that tells a snapshot to whoever has been told that before, and what he knows then.

    All sums are cumulative. A counter that is new comes with two points, 0 when it began and its value, so
    that nothing of it is lost to whoever counts from the first point. A gauge that is no more comes once
    more, as not recorded; with the last request of all so are those of the moment.
    """
    starts = _Starts(snapshot, origin.began_s, told)
    at_ns = int(snapshot.at_s * NS_PER_S)
    before: dict[tuple[str, bool], dict[Key, Labels]] = {}
    for key, labels in (told.gauges if told else {}).items():
        before.setdefault(key[:2], {})[key] = labels
    gauges: dict[Key, Labels] = {}
    found: dict[bool, list[Metric]] = {True: [], False: []}
    for series in all_series(snapshot, is_last):
        if series.is_counter:
            found[series.of_runs].append(_sum(series, starts, at_ns))
            continue
        now = {_key(series, row.labels): row.labels for row in series.rows}
        gauges.update(now)
        known = before.get((series.name, series.of_runs), {})
        ended = [labels for key, labels in known.items() if key not in now]
        if now or ended:
            found[series.of_runs].append(_gauge(series, ended, at_ns))
    request = ExportMetricsServiceRequest()
    for of_runs, metrics in found.items():
        if metrics:
            part = request.resource_metrics.add()
            set_attributes(part.resource.attributes, origin.runs if of_runs else origin.monitor)
            of_scope = part.scope_metrics.add()
            of_scope.scope.name, of_scope.scope.version = "carbonmon", origin.version
            of_scope.metrics.extend(metrics)
    return request, Told(snapshot.at_s, starts.known_ns, gauges)


def _sum(series: Series, starts: _Starts, at_ns: int) -> Metric:
    metric = Metric(name=series.name, description=series.text, unit=series.unit)
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.sum.is_monotonic = True
    for labels, value, start_s in series.rows:
        key = _key(series, labels)
        start_ns = starts.of(key, labels, start_s)
        if value and starts.is_new(key) and 0 < start_ns < at_ns:
            zero_ns = max(start_ns, at_ns - int(OLDEST_ZERO_S * NS_PER_S))
            _fill(metric.sum.data_points.add(), labels, 0.0, zero_ns, start_ns)
        _fill(metric.sum.data_points.add(), labels, value, at_ns, start_ns)
    return metric


def _gauge(series: Series, ended: Iterable[Labels], at_ns: int) -> Metric:
    metric = Metric(name=series.name, description=series.text, unit=series.unit)
    for labels, value, _ in series.rows:
        _fill(metric.gauge.data_points.add(), labels, value, at_ns)
    for labels in ended:
        point = metric.gauge.data_points.add()
        _fill(point, labels, ENDED, at_ns)
        point.flags = DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
    return metric


class _Starts:
    """Since when each counter counts: its own start, else the run's, or the last request without it."""

    def __init__(self, snapshot: Snapshot, began_s: float | None, told: Told | None) -> None:
        self.known_ns: dict[Key, int] = {}
        self._told_ns = {} if told is None else told.starts_ns
        self._told_at_s = None if told is None else told.at_s
        # What an earlier monitor began was told by that one.
        self._is_continued = told is None and snapshot.continued
        self._began_s = began_s
        self._at_ns = int(snapshot.at_s * NS_PER_S)
        self._runs_s = {encodable(run.info.id): run.info.started_at_s for run in snapshot.runs}

    def of(self, key: Key, labels: Labels, start_s: float | None) -> int:
        """Unix time in ns; 0 where it is not known, as the protocol has it."""
        start_ns = self._told_ns.get(key)
        if start_ns is None:
            if start_s is None:
                run_id = labels.get("run_id")
                start_s = self._began_s if run_id is None else self._runs_s.get(run_id)
            if self._told_at_s is not None and start_s is not None:
                start_s = max(start_s, self._told_at_s)
            start_ns = 0 if start_s is None else int(start_s * NS_PER_S)
        # A wall clock that was set back since would leave a start after its end, which is not allowed.
        self.known_ns[key] = min(start_ns, self._at_ns)
        return self.known_ns[key]

    def is_new(self, key: Key) -> bool:
        return key not in self._told_ns and not self._is_continued


def _key(series: Series, labels: Labels) -> Key:
    return series.name, series.of_runs, tuple(labels.items())


def _fill(point: NumberDataPoint, labels: Labels, value: float, at_ns: int, start_ns: int = 0) -> None:
    set_attributes(point.attributes, labels)
    point.as_double, point.time_unix_nano, point.start_time_unix_nano = float(value), at_ns, start_ns
