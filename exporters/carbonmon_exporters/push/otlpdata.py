"""From one snapshot to OTLP's message: the same families as a scrape, and hw.* of each device.

The messages of the protocol are filled directly. The SDK's instruments would let a counter begin when it is
first looked at, and after 2,000 series they would add all others up into one; its records cannot say that a
series has ended.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_CUMULATIVE,
    DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK,
    Metric,
    NumberDataPoint,
)
from prometheus_client.samples import Sample

from carbonmon.core import metrics as f
from carbonmon.core.model import Component, Snapshot
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.collector import SnapshotCollector
from carbonmon_exporters.push.otlpnames import otlp_name
from carbonmon_exporters.push.otlporigin import Origin, set_attributes

NS_PER_S = 1_000_000_000

HW_ENERGY, HW_POWER = "hw.energy", "hw.power"
HW_TYPES: dict[Component, str] = {"gpu": "gpu", "cpu": "cpu", "dram": "memory", "module": "module"}
"""The well-known values of hw.type in the semantic conventions for hardware, and one of ours: they have none
for a meter of several."""

OF_RUNS_TOO = (f.UNCERTAINTY, f.PUE, f.GRID_INTENSITY, f.DEVICE_INFO)
"""What is the node's, and a run's figures are joined with it by their instance: so it is told of each run as
well, as in a file."""

OF_THE_MOMENT = (
    *(f.RUN_POWER, f.RUN_PROCESSES, f.DEVICE_POWER, f.DEVICE_UTILIZATION, f.SENSOR_UP, f.SENSOR_SECONDS),
)
"""What is true only while it is measured."""

OLDEST_ZERO_S = 600.0
"""A counter's zero is sent as at most so old: databases refuse what is much older than their newest."""

ENDED = struct.unpack("<d", (0x7FF0_0000_0000_0002).to_bytes(8, "little"))[0]
"""The NaN by which Prometheus' databases know that a series has ended, beside the flag of the protocol:
VictoriaMetrics 1.112 overlooks the flag and stores the value."""

_FAMILIES = {family.family_name: family for family in f.FAMILIES}

Labels = Mapping[str, str]
Key = tuple[str, bool, tuple[tuple[str, str], ...]]
"""Name of the metric, whether it is of the runs' resource, and labels."""


class Told(NamedTuple):
    """What has arrived: as of when (Unix time, s), since when each counter counts (ns, 0 for unknown), and
    which gauges there were."""

    at_s: float
    starts_ns: Mapping[Key, int]
    gauges: Mapping[Key, Labels]


class Series(NamedTuple):
    """The samples of one metric."""

    name: str
    unit: str
    text: str
    is_counter: bool
    of_runs: bool
    rows: list[tuple[Labels, float]]


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
    for series in _all_series(snapshot, is_last):
        if series.is_counter:
            found[series.of_runs].append(_sum(series, starts, at_ns))
            continue
        now = {_key(series, labels): labels for labels, _ in series.rows}
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
    for labels, value in series.rows:
        key = _key(series, labels)
        start_ns = starts.of(key, labels)
        if value and starts.is_new(key) and 0 < start_ns < at_ns:
            zero_ns = max(start_ns, at_ns - int(OLDEST_ZERO_S * NS_PER_S))
            _fill(metric.sum.data_points.add(), labels, 0.0, zero_ns, start_ns)
        _fill(metric.sum.data_points.add(), labels, value, at_ns, start_ns)
    return metric


def _gauge(series: Series, ended: Iterable[Labels], at_ns: int) -> Metric:
    metric = Metric(name=series.name, description=series.text, unit=series.unit)
    for labels, value in series.rows:
        _fill(metric.gauge.data_points.add(), labels, value, at_ns)
    for labels in ended:
        point = metric.gauge.data_points.add()
        _fill(point, labels, ENDED, at_ns)
        point.flags = DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
    return metric


class _Starts:
    """Since when each counter counts: the run's start, or the last request in which it was not yet there."""

    def __init__(self, snapshot: Snapshot, began_s: float | None, told: Told | None) -> None:
        self.known_ns: dict[Key, int] = {}
        self._told_ns = {} if told is None else told.starts_ns
        self._told_at_s = None if told is None else told.at_s
        # What an earlier monitor began was told by that one.
        self._is_continued = told is None and snapshot.continued
        self._began_s = began_s
        self._at_ns = int(snapshot.at_s * NS_PER_S)
        self._runs_s = {encodable(run.info.id): run.info.started_at_s for run in snapshot.runs}

    def of(self, key: Key, labels: Labels) -> int:
        """Unix time in ns; 0 where it is not known, as the protocol has it."""
        start_ns = self._told_ns.get(key)
        if start_ns is None:
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


def _all_series(snapshot: Snapshot, is_last: bool) -> Iterator[Series]:
    ended = {encodable(run.info.id) for run in snapshot.runs if run.ended_at_s is not None}
    yield _power(snapshot, is_last)
    shown = {family.name: family for family in SnapshotCollector(lambda: snapshot).collect()}
    for name, family in _FAMILIES.items():
        samples = shown[name].samples if name in shown else []
        if family in OF_THE_MOMENT:
            samples = [s for s in samples if not is_last and s.labels.get("run_id") not in ended]
        if samples or family.kind != "counter":
            yield _series(family, samples, "run_id" in family.labels)
        if family in OF_RUNS_TOO:
            yield _series(family, _of_each_run(samples, snapshot), of_runs=True)
        if family is f.DEVICE_ENERGY and samples:
            yield _energy(samples, snapshot)


def _series(family: f.Family, samples: Iterable[Sample], of_runs: bool) -> Series:
    name, unit = otlp_name(family)
    rows: list[tuple[Labels, float]] = [(sample.labels, sample.value) for sample in samples]
    return Series(name, unit, family.help, family.kind == "counter", of_runs, rows)


def _of_each_run(samples: Iterable[Sample], snapshot: Snapshot) -> list[Sample]:
    run_ids = [encodable(run.info.id) for run in snapshot.runs]
    return [s._replace(labels={**s.labels, "run_id": run_id}) for run_id in run_ids for s in samples]


def _power(snapshot: Snapshot, is_last: bool) -> Series:
    """hw.power; how the device may be known is told along, because nobody says by which method a power is."""
    labels = _hardware_labels(snapshot)
    rows: list[tuple[Labels, float]] = []
    for state in snapshot.devices:
        if state.power_w is not None and not is_last:
            methods = {"carbonmon.methods": ",".join(state.device.methods)}
            rows.append(({**labels[encodable(state.device.id)], **methods}, state.power_w))
    text = "Power of the component over the last interval."
    return Series(HW_POWER, "W", text, is_counter=False, of_runs=False, rows=rows)


def _energy(samples: Iterable[Sample], snapshot: Snapshot) -> Series:
    labels = _hardware_labels(snapshot)
    rows: list[tuple[Labels, float]] = [
        ({**labels[sample.labels["device"]], "carbonmon.method": sample.labels["method"]}, sample.value)
        for sample in samples
    ]
    text = "Energy consumed by the component."
    return Series(HW_ENERGY, "J", text, is_counter=True, of_runs=False, rows=rows)


def _hardware_labels(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """The attributes that the conventions ask for, by our name of the device."""
    return {
        encodable(state.device.id): {
            "hw.id": encodable(state.device.id),
            "hw.type": HW_TYPES[state.device.component],
            "hw.name": encodable(state.device.name),
        }
        for state in snapshot.devices
    }


def _key(series: Series, labels: Labels) -> Key:
    return series.name, series.of_runs, tuple(labels.items())


def _fill(point: NumberDataPoint, labels: Labels, value: float, at_ns: int, start_ns: int = 0) -> None:
    set_attributes(point.attributes, labels)
    point.as_double, point.time_unix_nano, point.start_time_unix_nano = float(value), at_ns, start_ns
