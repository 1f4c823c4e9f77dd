"""From one snapshot to OpenTelemetry's metrics data: the same families as a scrape, and hw.* of each device.

The SDK's instruments are left aside, only its records are used. An instrument would let a counter begin
when it is first looked at, though a run that is gone on with began earlier, and after 2,000 series it would
add all others up into one.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Shown
from prometheus_client.samples import Sample

from carbonmon.core import metrics as f
from carbonmon.core.model import Component, Snapshot
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.collector import SnapshotCollector
from carbonmon_exporters.push.otlpnames import otlp_name

NS_PER_S = 1_000_000_000

HW_TYPES: dict[Component, str] = {"gpu": "gpu", "cpu": "cpu", "dram": "memory", "module": "module"}
"""The well-known values of hw.type in the semantic conventions for hardware, and one of ours: they have none
for a meter of several."""

OF_RUNS_TOO = (f.UNCERTAINTY, f.PUE, f.GRID_INTENSITY, f.DEVICE_INFO)
"""What is the node's, and a run's figures are joined with it by their instance: so it is told of each run as
well, as in a file."""

_FAMILIES = {family.family_name: family for family in f.FAMILIES}


class Origin:
    """Who tells the metrics, and since when the counters that belong to no run count.

    There are two resources. The runs' has the host as its instance, so that a run's series go on where
    another monitor goes on with the run. The devices' and the monitor's own is this process, because two
    monitors of a host do not count the same.
    """

    def __init__(self, version: str, began_s: float | None, host: str | None = None) -> None:
        """`began_s` is the Unix time of the monitor's start, None where an earlier one began to count.

        `host` is the machine's name, by default its own.
        """
        host = encodable(host or platform.node() or "unknown")
        common = {"service.name": "carbonmon", "service.version": version, "host.name": host}
        # OTEL_RESOURCE_ATTRIBUTES may add to them; what we know ourselves stands.
        more = OTELResourceDetector().detect()
        self.runs = more.merge(Resource({**common, "service.instance.id": host}))
        self.monitor = more.merge(Resource({**common, "service.instance.id": f"{host}:{os.getpid()}"}))
        self.scope = InstrumentationScope("carbonmon", version)
        self.began_s = began_s


def collect(snapshot: Snapshot) -> list[Shown]:
    """The families of a snapshot, as a scrape has them."""
    return list(SnapshotCollector(lambda: snapshot).collect())


def metrics_data(snapshot: Snapshot, families: Iterable[Shown], origin: Origin) -> MetricsData:
    """The request that shows these families of the snapshot; all sums are cumulative."""
    times = _Times(snapshot, origin.began_s)
    of_runs: list[Metric] = []
    of_monitor = list(_hardware(snapshot, times))
    for shown in families:
        family = _FAMILIES[shown.name]
        metric = _metric(shown, family, times)
        (of_runs if "run_id" in family.labels else of_monitor).append(metric)
        if family in OF_RUNS_TOO and snapshot.runs:
            of_runs.append(_metric(_of_each_run(shown, snapshot), family, times))
        if family is f.DEVICE_ENERGY:
            of_monitor.append(_hardware_energy(shown.samples, snapshot, times))
    parts = ((origin.runs, of_runs), (origin.monitor, of_monitor))
    return MetricsData(
        [
            ResourceMetrics(resource, [ScopeMetrics(origin.scope, metrics, "")], "")
            for resource, metrics in parts
            if metrics
        ]
    )


class _Times:
    """When a snapshot was taken, and since when each of its counters counts, in ns of Unix time."""

    def __init__(self, snapshot: Snapshot, began_s: float | None) -> None:
        self._at_s = snapshot.at_s
        self.at_ns = int(snapshot.at_s * NS_PER_S)
        self._monitor_ns = self._start_ns(began_s)
        self._runs_ns = {
            encodable(run.info.id): self._start_ns(run.info.started_at_s) for run in snapshot.runs
        }

    def start_ns(self, labels: Mapping[str, str]) -> int:
        """0 where it is not known, as the protocol has it."""
        run_id = labels.get("run_id")
        return self._monitor_ns if run_id is None else self._runs_ns.get(run_id, 0)

    def _start_ns(self, start_s: float | None) -> int:
        # A wall clock that was set back since then would leave a start after its end, which is not allowed.
        return 0 if start_s is None else int(min(start_s, self._at_s) * NS_PER_S)


def _metric(shown: Shown, family: f.Family, times: _Times) -> Metric:
    name, unit = otlp_name(family)
    if family.kind == "counter":
        return _sum(name, unit, family.help, [(s.labels, s.value) for s in shown.samples], times)
    return _gauge(name, unit, family.help, [(s.labels, s.value) for s in shown.samples], times)


def _of_each_run(shown: Shown, snapshot: Snapshot) -> Shown:
    repeated = Shown(shown.name, shown.documentation, shown.type)
    for run in snapshot.runs:
        run_id = {"run_id": encodable(run.info.id)}
        repeated.samples += [sample._replace(labels={**sample.labels, **run_id}) for sample in shown.samples]
    return repeated


def _hardware(snapshot: Snapshot, times: _Times) -> Iterator[Metric]:
    """hw.power; how the device may be known is told along, because nobody says by which method a power is."""
    labels = _hardware_labels(snapshot)
    rows = []
    for state in snapshot.devices:
        if state.power_w is not None:
            methods = {"carbonmon.methods": ",".join(state.device.methods)}
            rows.append(({**labels[encodable(state.device.id)], **methods}, state.power_w))
    if rows:
        yield _gauge("hw.power", "W", "Power of the component over the last interval.", rows, times)


def _hardware_energy(samples: Iterable[Sample], snapshot: Snapshot, times: _Times) -> Metric:
    labels = _hardware_labels(snapshot)
    rows = [
        ({**labels[sample.labels["device"]], "carbonmon.method": sample.labels["method"]}, sample.value)
        for sample in samples
    ]
    return _sum("hw.energy", "J", "Energy consumed by the component.", rows, times)


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


Rows = list[tuple[dict[str, str], float]]


def _sum(name: str, unit: str, text: str, rows: Rows, times: _Times) -> Metric:
    points = [_point(labels, value, times, times.start_ns(labels)) for labels, value in rows]
    return Metric(name, text, unit, Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True))


def _gauge(name: str, unit: str, text: str, rows: Rows, times: _Times) -> Metric:
    return Metric(name, text, unit, Gauge([_point(labels, value, times, 0) for labels, value in rows]))


def _point(labels: Mapping[str, Any], value: float, times: _Times, start_ns: int) -> NumberDataPoint:
    return NumberDataPoint(
        attributes=labels, start_time_unix_nano=start_ns, time_unix_nano=times.at_ns, value=float(value)
    )
