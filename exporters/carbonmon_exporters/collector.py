"""From one snapshot to metric families: a scrape reads the reference once, takes no lock of the sampler."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from carbonmon.model import METHODS, RunInfo, RunState, Snapshot
from carbonmon_exporters import families as f
from carbonmon_exporters.births import Births
from carbonmon_exporters.strings import encodable

_log = logging.getLogger(__name__)

_RESERVED_LABELS = frozenset((*f.RUN_INFO.labels, "job", "instance"))
_BAD_LABEL_CHARACTER = re.compile(r"[^a-zA-Z0-9_]")


class SnapshotCollector(Collector):
    """The metrics of the newest snapshot."""

    def __init__(self, latest: Callable[[], Snapshot]) -> None:
        self._latest = latest
        self._births = Births()

    def describe(self) -> list[Metric]:
        """All families without samples, so that `?name[]=` finds them before the first sample."""
        return [family.empty() for family in f.FAMILIES]

    def collect(self) -> Iterator[Metric]:
        snapshot = self._latest()
        parts = (_runs, _devices, _grid, _monitor)
        families = [family for part in parts for family in part(snapshot) if family.samples]
        self._births.at_zero(families, snapshot.continued)
        yield from families


class OwnProcessCollector(Collector):
    """process_* of the monitor itself, from a procfs that may be mounted elsewhere."""

    def __init__(self, procfs: Path) -> None:
        self._inner = ProcessCollector(proc=str(procfs), registry=None)

    def describe(self) -> list[Metric]:
        return [family.empty() for family in f.PROCESS_FAMILIES]

    def collect(self) -> Iterable[Metric]:
        try:
            return self._inner.collect()
        # It raises UnboundLocalError, IndexError or ValueError where a recorded procfs lacks a line,
        # and a raising collector would turn the whole scrape into a 500.
        except Exception:  # noqa: BLE001
            _log.debug("process metrics are left out", exc_info=True)
            return ()


def info_labels(info: RunInfo, zone: str) -> dict[str, str]:
    """The labels of `run_info`: ours, then the user's under names that Prometheus accepts.

    Two keys that become the same name are told apart by a number; none is dropped.
    """
    labels = {
        "run_id": info.id,
        "name": info.name,
        "scheduler": info.scheduler,
        "scheduler_job_id": info.scheduler_job_id,
        "zone": zone,
    }
    for key, value in info.labels:
        name = _BAD_LABEL_CHARACTER.sub("_", key)
        # A leading digit is invalid, a leading double underscore is Prometheus' own.
        if name in _RESERVED_LABELS or not name or name[0].isdigit() or name.startswith("__"):
            name = f"label_{name}"
        unique, number = name, 2
        while unique in labels:
            unique, number = f"{name}_{number}", number + 1
        labels[unique] = value
    return {name: encodable(value) for name, value in labels.items()}


def _put(family: CounterMetricFamily | GaugeMetricFamily, value: float | None, *labels: str) -> None:
    """Add one sample; an unknown value stays absent."""
    if value is not None:
        family.add_metric([encodable(label) for label in labels], value)


def _runs(snapshot: Snapshot) -> Iterator[Metric]:
    energy, emissions = f.RUN_ENERGY.counter(), f.RUN_EMISSIONS.counter()
    power, unobserved = f.RUN_POWER.gauge(), f.RUN_UNOBSERVED.counter()
    start, end, info = f.RUN_START.gauge(), f.RUN_END.gauge(), f.RUN_INFO.info()
    components: dict[str, str] = {state.device.id: state.device.component for state in snapshot.devices}
    for run in snapshot.runs:
        run_id = run.info.id
        for row in run.totals:
            _put(energy, row.energy_j, run_id, row.phase, row.component, row.device_id, row.method)
        for (phase, component), grams in _emissions_by_component(run).items():
            _put(emissions, grams, run_id, phase, component)
        for device_id, watts in run.power_w:
            _put(power, watts, run_id, components.get(device_id, ""), device_id)
        for device_id, seconds in run.unobserved_s:
            _put(unobserved, seconds, run_id, device_id)
        _put(start, run.info.started_at_s, run_id)
        _put(end, run.ended_at_s, run_id)
        info.add_metric((), info_labels(run.info, snapshot.intensity.zone))
    yield from (energy, emissions, power, unobserved, start, end, info)


def _emissions_by_component(run: RunState) -> dict[tuple[str, str], float]:
    grams: dict[tuple[str, str], float] = {}
    for row in run.totals:
        key = (row.phase, row.component)
        grams[key] = grams.get(key, 0.0) + row.emissions_g
    return grams


def _devices(snapshot: Snapshot) -> Iterator[Metric]:
    energy, unattributed = f.DEVICE_ENERGY.counter(), f.DEVICE_UNATTRIBUTED.counter()
    power, utilization = f.DEVICE_POWER.gauge(), f.DEVICE_UTILIZATION.gauge()
    info, anomalies = f.DEVICE_INFO.info(), f.ANOMALIES.counter()
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
        index = "" if device.index is None else str(device.index)
        values = (device.component, device.id, device.name, index)
        info.add_metric((), dict(zip(f.DEVICE_INFO.labels, map(encodable, values), strict=True)))
    yield from (energy, unattributed, power, utilization, info, anomalies)


def _grid(snapshot: Snapshot) -> Iterator[Metric]:
    grid, timestamp, pue = f.GRID_INTENSITY.gauge(), f.GRID_TIMESTAMP.gauge(), f.PUE.gauge()
    now = snapshot.intensity
    _put(grid, now.g_per_kwh, now.zone, now.source, now.kind)
    _put(timestamp, now.timestamp_s, now.zone, now.source)
    _put(pue, snapshot.pue_ratio)
    yield from (grid, timestamp, pue)


def _monitor(snapshot: Snapshot) -> Iterator[Metric]:
    up, seconds, errors = f.SENSOR_UP.gauge(), f.SENSOR_SECONDS.gauge(), f.SENSOR_ERRORS.counter()
    for sensor in snapshot.sensors:
        if sensor.use == "used":
            _put(up, 1 if sensor.up else 0, sensor.name)
            _put(seconds, sensor.read_s, sensor.name)
        for reason, count in sensor.errors:
            _put(errors, count, sensor.name, reason)
    exporter_errors, last = f.EXPORTER_ERRORS.counter(), f.LAST_SAMPLE.gauge()
    for name, count in snapshot.exporter_errors:
        _put(exporter_errors, count, name)
    _put(last, snapshot.at_s if snapshot.samples else None)
    build = f.BUILD_INFO.info()
    build.add_metric((), {"version": snapshot.version})
    yield from (up, seconds, errors, exporter_errors, last, build)
