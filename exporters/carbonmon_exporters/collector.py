"""From one snapshot to metric families: a scrape reads the reference once, takes no lock of the sampler."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from carbonmon.core import metrics as f
from carbonmon.core.model import MEASURED_METHODS, METHODS, Component, Device, Method, Snapshot
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.ended import answer
from carbonmon_exporters.ended.runs import Ended, EndedRuns
from carbonmon_exporters.ended.visits import RecentScrapers, visiting
from carbonmon_exporters.families import Counter, Gauge, RowFamily, as_counter, as_gauge, as_info, empty
from carbonmon_exporters.node_meters import node_meter_families
from carbonmon_exporters.outlook import outlook_families
from carbonmon_exporters.remembered import Remembered
from carbonmon_exporters.runs import run_families
from carbonmon_exporters.starts import Starts, plain, present

_log = logging.getLogger(__name__)

_Bounds = dict[tuple[Component, Method], tuple[float, float]]


class SnapshotCollector(Collector):
    """The metrics of the newest snapshot."""

    def __init__(
        self,
        latest: Callable[[], Snapshot],
        scrapers: RecentScrapers | None = None,
        ended: EndedRuns | None = None,
    ) -> None:
        """`scrapers` is told who scrapes; `ended` are runs of earlier monitors that are shown as well."""
        self._latest = latest
        self._scrapers = scrapers or RecentScrapers()
        self._ended = ended or EndedRuns()

    def describe(self) -> list[Metric]:
        """All families without samples, so that `?name[]=` finds them before the first sample."""
        return [empty(family) for family in f.FAMILIES]

    def collect(self) -> list[Metric]:
        """To a scraper what is new to it is shown with its start (`starts.py`)."""
        snapshot = self._latest()
        scrape, visit = present.get(), visiting.get()
        shown = families(snapshot, plain(snapshot) if scrape is None else scrape.starts(snapshot))
        if visit is not None:
            self._scrapers.came(visit, snapshot.clock_s)
        for ended in self._ended.shown({run.info.id for run in snapshot.runs}):
            answer.add(shown, ended.families(visit, only_runs=True))
        return shown


def families(snapshot: Snapshot, starts: Starts) -> list[Metric]:
    """The families of a snapshot that have samples."""
    of_runs, of_the_node = (run_families, outlook_families), (_devices, node_meter_families, _uncertainty)
    parts = (*of_runs, *of_the_node, _grid, _monitor)
    return [family for part in parts for family in part(snapshot, starts) if not family.is_empty]


def last_answer(final: Snapshot, scrapers: RecentScrapers, until_s: float) -> Ended:
    """The last snapshot of a monitor for those who have not seen it yet, until then (monotonic clock, s)."""
    lasting = answer.lasting(families(final, Starts(final, -math.inf, final.at_s)))
    offset_s = final.at_s - final.clock_s
    waited = {
        program: recent._replace(seen_s=recent.seen_s + offset_s)
        for program, recent in scrapers.recent().items()
    }
    text_seen_s = final.clock_s if final.continued else scrapers.text_seen_s
    return Ended(
        [run.info.id for run in final.runs],
        lasting,
        waited,
        until_s,
        None if text_seen_s is None else text_seen_s + offset_s,
    )


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


def _put(family: Gauge, value: float | None, *labels: str) -> None:
    """Add one sample; an unknown value stays absent."""
    if value is not None:
        family.rows.append((tuple(map(encodable, labels)), value, None))


class _Counters:
    """Adds samples of counters that began with the monitor's totals."""

    def __init__(self, snapshot: Snapshot, starts: Starts) -> None:
        self._starts, self._start_s = starts, snapshot.start_s

    def put(self, family: Counter, value: float, *labels: str) -> None:
        self._starts.add(family, tuple(map(encodable, labels)), value, self._start_s)

    def put_late(self, family: Counter, value: float, *labels: str) -> None:
        """Add one that appears when it is counted for the first time."""
        self._starts.add_late(family, tuple(map(encodable, labels)), value, self._start_s)


def _devices(snapshot: Snapshot, starts: Starts) -> Iterator[RowFamily]:
    energy, unattributed = as_counter(f.DEVICE_ENERGY), as_counter(f.DEVICE_UNATTRIBUTED)
    power, utilization = as_gauge(f.DEVICE_POWER), as_gauge(f.DEVICE_UTILIZATION)
    info, anomalies = as_info(f.DEVICE_INFO), as_counter(f.ANOMALIES)
    start_s = snapshot.start_s
    for state in snapshot.devices:
        device = state.device
        device_id = encodable(device.id)
        own = (device.component, device_id)
        joules_by_method = {"counter": state.counter_j, "power": state.power_j, "tdp": state.tdp_j}
        for method in METHODS:
            joules = joules_by_method[method]
            # A rung is shown from the start; one that the device has lost keeps what it once gave.
            if method in device.methods or joules:
                starts.add(energy, (*own, method), joules, start_s)
        starts.add(unattributed, own, state.unattributed_j, start_s)
        if state.power_w is not None:
            power.add_metric(own, state.power_w)
        if state.utilization_ratio is not None:
            utilization.add_metric(own, state.utilization_ratio)
        if "counter" in device.methods:
            starts.add(anomalies, (device_id, "reset"), state.resets, start_s)
            starts.add(anomalies, (device_id, "jump"), state.jumps, start_s)
        # Rare kinds are shown when they happen, so that an idle node keeps its budget of series.
        rare = (("step_back", state.step_backs), ("stuck", state.stuck), ("implausible", state.implausible))
        for kind, count in rare:
            if count:
                starts.add_late(anomalies, (device_id, kind), count, start_s)
        info.add_named(_device_info((device,)))
    yield from (energy, unattributed, power, utilization, info, anomalies)


def _made_info(device: Device) -> tuple[tuple[str, str], ...]:
    index = "" if device.index is None else str(device.index)
    values = (device.component, device.id, device.name, index)
    return tuple(zip(f.DEVICE_INFO.labels, map(encodable, values), strict=True))


_device_info = Remembered[Device, "tuple[tuple[str, str], ...]"](_made_info)


def _uncertainty(snapshot: Snapshot, _: Starts) -> Iterator[RowFamily]:
    family = as_gauge(f.UNCERTAINTY)
    for key, (low, high) in _bounds(tuple([state.device for state in snapshot.devices])).items():
        _put(family, low, *key, "low")
        _put(family, high, *key, "high")
    yield family


def _made_bounds(*devices: Device) -> _Bounds:
    """How far each method may be off: of the devices of a component, the widest."""
    bounds: _Bounds = {}
    for device in devices:
        for method in device.methods:
            spec = None if device.spec is None else device.spec.uncertainty
            found = device.measured_uncertainty if method in MEASURED_METHODS else spec
            if found is not None:
                key = device.component, method
                low, high = bounds.get(key, (0.0, 0.0))
                bounds[key] = max(low, found.low_ratio), max(high, found.high_ratio)
    return bounds


_bounds = Remembered[Device, _Bounds](_made_bounds, 4)


def _grid(snapshot: Snapshot, starts: Starts) -> Iterator[RowFamily]:
    grid, timestamp, pue = as_gauge(f.GRID_INTENSITY), as_gauge(f.GRID_TIMESTAMP), as_gauge(f.PUE)
    errors, wue, price = as_counter(f.GRID_ERRORS), as_gauge(f.WUE), as_gauge(f.PRICE)
    now = snapshot.intensity
    _put(grid, now.g_per_kwh, now.zone, now.source, now.kind)
    _put(timestamp, now.timestamp_s, now.zone, now.source)
    counters = _Counters(snapshot, starts)
    for source, reason, count in snapshot.fetch_errors:
        counters.put_late(errors, count, source, reason)
    _put(pue, snapshot.pue_ratio)
    _put(wue, snapshot.wue_l_per_kwh)
    _put(price, snapshot.price_per_kwh, snapshot.currency)
    yield from (grid, timestamp, errors, pue, wue, price)


def _monitor(snapshot: Snapshot, starts: Starts) -> Iterator[RowFamily]:
    up, seconds, errors = as_gauge(f.SENSOR_UP), as_gauge(f.SENSOR_SECONDS), as_counter(f.SENSOR_ERRORS)
    counters = _Counters(snapshot, starts)
    for sensor in snapshot.sensors:
        if sensor.use == "used":
            _put(up, 1 if sensor.up else 0, sensor.name)
            _put(seconds, sensor.read_s, sensor.name)
        for reason, count in sensor.errors:
            counters.put_late(errors, count, sensor.name, reason)
    exporter_errors, last = as_counter(f.EXPORTER_ERRORS), as_gauge(f.LAST_SAMPLE)
    failures: dict[str, int] = {}
    for name, count in snapshot.exporter_errors:  # there may be two of a kind, with two addresses
        failures[name] = failures.get(name, 0) + count
    for name, count in failures.items():
        counters.put(exporter_errors, count, name)
    _put(last, snapshot.at_s if snapshot.samples else None)
    interval = as_gauge(f.SAMPLE_INTERVAL)
    _put(interval, snapshot.interval_s)
    build = as_info(f.BUILD_INFO)
    build.add_metric((), {"version": snapshot.version})
    yield from (up, seconds, errors, exporter_errors, last, interval, build)
