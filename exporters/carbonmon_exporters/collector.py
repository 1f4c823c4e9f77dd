"""From one snapshot to metric families: a scrape reads the reference once, takes no lock of the sampler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from carbonmon.core import metrics as f
from carbonmon.core.model import MEASURED_METHODS, METHODS, Component, Method, Snapshot
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.births import Births
from carbonmon_exporters.ended import answer
from carbonmon_exporters.ended.runs import EndedRuns
from carbonmon_exporters.ended.scrapes import RecentScrapers, present
from carbonmon_exporters.families import as_counter, as_gauge, as_info, empty
from carbonmon_exporters.runs import run_families

_log = logging.getLogger(__name__)


class SnapshotCollector(Collector):
    """The metrics of the newest snapshot."""

    def __init__(
        self,
        latest: Callable[[], Snapshot],
        clock: Callable[[], float] = time.monotonic,
        scrapers: RecentScrapers | None = None,
        ended: EndedRuns | None = None,
    ) -> None:
        """`scrapers` is told who scrapes; `ended` are runs of earlier monitors that are shown as well."""
        self._latest = latest
        self._scrapers = scrapers or RecentScrapers()
        self._ended = ended or EndedRuns()
        self._births = Births(clock)

    def describe(self) -> list[Metric]:
        """All families without samples, so that `?name[]=` finds them before the first sample."""
        return [empty(family) for family in f.FAMILIES]

    def collect(self) -> Iterator[Metric]:
        snapshot = self._latest()
        families = families_of(snapshot)
        self._births.at_zero(families, snapshot)
        scrape = present.get()
        if scrape is not None:
            self._scrapers.came(scrape, snapshot.at_s)
        for ended in self._ended.shown({run.info.id for run in snapshot.runs}):
            answer.add(families, ended.families(scrape, only_runs=True))
        yield from families


def families_of(snapshot: Snapshot) -> list[Metric]:
    """The families of a snapshot that have samples."""
    parts = (run_families, _devices, _uncertainty, _grid, _monitor)
    return [family for part in parts for family in part(snapshot) if family.samples]


class OwnProcessCollector(Collector):
    """process_* of the monitor itself, from a procfs that may be mounted elsewhere."""

    def __init__(self, procfs: Path) -> None:
        self._inner = ProcessCollector(proc=str(procfs), registry=None)

    def describe(self) -> list[Metric]:
        return [empty(family) for family in f.PROCESS_FAMILIES]

    def collect(self) -> Iterable[Metric]:
        try:
            return self._inner.collect()
        # It raises UnboundLocalError, IndexError or ValueError where a recorded procfs lacks a line,
        # and a raising collector would turn the whole scrape into a 500.
        except Exception:  # noqa: BLE001
            _log.debug("process metrics are left out", exc_info=True)
            return ()


def _put(family: CounterMetricFamily | GaugeMetricFamily, value: float | None, *labels: str) -> None:
    """Add one sample; an unknown value stays absent."""
    if value is not None:
        family.add_metric([encodable(label) for label in labels], value)


def _devices(snapshot: Snapshot) -> Iterator[Metric]:
    energy, unattributed = as_counter(f.DEVICE_ENERGY), as_counter(f.DEVICE_UNATTRIBUTED)
    power, utilization = as_gauge(f.DEVICE_POWER), as_gauge(f.DEVICE_UTILIZATION)
    info, anomalies = as_info(f.DEVICE_INFO), as_counter(f.ANOMALIES)
    for state in snapshot.devices:
        device = state.device
        own = (device.component, device.id)
        joules_by_method = {"counter": state.counter_j, "power": state.power_j, "tdp": state.tdp_j}
        for method in METHODS:
            joules = joules_by_method[method]
            # A rung is born at 0; one that the device has lost keeps what it once gave.
            if method in device.methods or joules:
                _put(energy, joules, *own, method)
        _put(unattributed, state.unattributed_j, *own)
        _put(power, state.power_w, *own)
        _put(utilization, state.utilization_ratio, *own)
        if "counter" in device.methods:
            _put(anomalies, state.resets, device.id, "reset")
            _put(anomalies, state.jumps, device.id, "jump")
        # Rare kinds are born when they happen, so that an idle node keeps its budget of series.
        _put(anomalies, state.step_backs or None, device.id, "step_back")
        _put(anomalies, state.stuck or None, device.id, "stuck")
        _put(anomalies, state.implausible or None, device.id, "implausible")
        index = "" if device.index is None else str(device.index)
        values = (device.component, device.id, device.name, index)
        info.add_metric((), dict(zip(f.DEVICE_INFO.labels, map(encodable, values), strict=True)))
    yield from (energy, unattributed, power, utilization, info, anomalies)


def _uncertainty(snapshot: Snapshot) -> Iterator[Metric]:
    """How far each method may be off: of the devices of a component, the widest."""
    bounds: dict[tuple[Component, Method], tuple[float, float]] = {}
    for state in snapshot.devices:
        device = state.device
        for method in device.methods:
            spec = None if device.spec is None else device.spec.uncertainty
            found = device.measured_uncertainty if method in MEASURED_METHODS else spec
            if found is not None:
                key = device.component, method
                low, high = bounds.get(key, (0.0, 0.0))
                bounds[key] = max(low, found.low_ratio), max(high, found.high_ratio)
    family = as_gauge(f.UNCERTAINTY)
    for key, (low, high) in bounds.items():
        _put(family, low, *key, "low")
        _put(family, high, *key, "high")
    yield family


def _grid(snapshot: Snapshot) -> Iterator[Metric]:
    grid, timestamp, pue = as_gauge(f.GRID_INTENSITY), as_gauge(f.GRID_TIMESTAMP), as_gauge(f.PUE)
    errors, wue, price = as_counter(f.GRID_ERRORS), as_gauge(f.WUE), as_gauge(f.PRICE)
    now = snapshot.intensity
    _put(grid, now.g_per_kwh, now.zone, now.source, now.kind)
    _put(timestamp, now.timestamp_s, now.zone, now.source)
    for source, reason, count in snapshot.fetch_errors:
        _put(errors, count, source, reason)
    _put(pue, snapshot.pue_ratio)
    _put(wue, snapshot.wue_l_per_kwh)
    _put(price, snapshot.price_per_kwh, snapshot.currency)
    yield from (grid, timestamp, errors, pue, wue, price)


def _monitor(snapshot: Snapshot) -> Iterator[Metric]:
    up, seconds, errors = as_gauge(f.SENSOR_UP), as_gauge(f.SENSOR_SECONDS), as_counter(f.SENSOR_ERRORS)
    for sensor in snapshot.sensors:
        if sensor.use == "used":
            _put(up, 1 if sensor.up else 0, sensor.name)
            _put(seconds, sensor.read_s, sensor.name)
        for reason, count in sensor.errors:
            _put(errors, count, sensor.name, reason)
    exporter_errors, last = as_counter(f.EXPORTER_ERRORS), as_gauge(f.LAST_SAMPLE)
    failures: dict[str, int] = {}
    for name, count in snapshot.exporter_errors:  # there may be two of a kind, with two addresses
        failures[name] = failures.get(name, 0) + count
    for name, count in failures.items():
        _put(exporter_errors, count, name)
    _put(last, snapshot.at_s if snapshot.samples else None)
    interval = as_gauge(f.SAMPLE_INTERVAL)
    _put(interval, snapshot.interval_s)
    build = as_info(f.BUILD_INFO)
    build.add_metric((), {"version": snapshot.version})
    yield from (up, seconds, errors, exporter_errors, last, interval, build)
