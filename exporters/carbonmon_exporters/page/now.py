"""The document of `/api/v1/now`: the node and one of its runs at the newest sample; unknown is None."""

from __future__ import annotations

from typing import Any

from carbonmon.core.model import DeviceState, Intensity, RunState, SensorState, Snapshot
from carbonmon.core.node_meter import NodeMeterState
from carbonmon.runs.summary.ranges import (
    Row,
    emissions_g,
    emissions_range_g,
    energy_j,
    energy_range_j,
    grouped,
    is_seen,
    measured_ratio,
    seen_totals,
    with_uncertainty,
)
from carbonmon.runs.summary.work import work_summary
from carbonmon_exporters.page.known_by import KnownBy
from carbonmon_exporters.page.outlook import outlook
from carbonmon_exporters.page.run_list import listed


def now(snapshot: Snapshot, run_id: str, known_by: KnownBy, host: str) -> dict[str, Any]:
    """The document without its version; the run is the one that is asked for, else the newest."""
    run = chosen(snapshot, run_id)
    ended = sum(each.ended_at_s is not None for each in snapshot.runs)
    return {
        "state": "measuring" if snapshot.samples else "starting",
        "at_s": snapshot.at_s,
        "interval_s": snapshot.interval_s,
        "version": snapshot.version,
        "host": host,
        "runs": {"running": len(snapshot.runs) - ended, "ended": ended},
        "run": None if run is None else _run(snapshot, run, known_by),
        "node": _node(snapshot, known_by),
        "intensity": _intensity(snapshot.intensity),
        "pue_ratio": snapshot.pue_ratio,
        "fetch_errors": [
            {"source": source, "reason": reason, "count": count}
            for source, reason, count in snapshot.fetch_errors
        ],
        "sensors": [_sensor(sensor) for sensor in snapshot.sensors],
    }


def chosen(snapshot: Snapshot, run_id: str) -> RunState | None:
    """The run of this id; without one the newest of those that go on, else the newest."""
    if run_id:
        return next((run for run in snapshot.runs if run.info.id == run_id), None)
    return max(snapshot.runs, key=lambda run: (run.ended_at_s is None, run.info.started_at_s), default=None)


def _run(snapshot: Snapshot, run: RunState, known_by: KnownBy) -> dict[str, Any]:
    states = {state.device.id: state for state in snapshot.devices}
    rows = [with_uncertainty(total, states) for total in seen_totals(run)]
    low_j, high_j = energy_range_j(rows) if is_seen(run) else (None, None)
    low_g, high_g = emissions_range_g(rows) if is_seen(run) else (None, None)
    return {
        **listed(run, known_by),
        "labels": dict(run.info.labels),
        "progress_ratio": None if run.work is None else run.work.ratio,
        "work": _work(run),
        "energy_low_j": low_j,
        "energy_high_j": high_j,
        "emissions_low_g": low_g,
        "emissions_high_g": high_g,
        "water_l": run.water_l,
        "costs": [{"currency": cost.currency, "amount": cost.amount} for cost in run.costs],
        "devices": _devices_of(run, rows),
        "phases": _phases_of(run, rows),
        **outlook(snapshot, run),
        "notes": list(run.notes),
    }


def _work(run: RunState) -> dict[str, Any] | None:
    """What the training code has counted, and the energy of each; None where it told nothing."""
    found = work_summary(run)
    return None if found is None else {key: value for key, value in found.items() if key != "spans"}


def _devices_of(run: RunState, rows: list[Row]) -> list[dict[str, Any]]:
    """The run's part of each device that it used."""
    by_device = grouped(rows, lambda total: total.device_id)
    power_w = dict(run.power_w) if run.ended_at_s is None else {}
    unobserved_s = dict(run.unobserved_s)
    return [
        {
            "id": device_id,
            "power_w": power_w.get(device_id),
            "energy_j": energy_j(by_device[device_id]) if device_id in by_device else None,
            "measured_ratio": measured_ratio(by_device.get(device_id, [])),
            "unobserved_s": unobserved_s.get(device_id),
        }
        for device_id in dict.fromkeys((*dict(run.power_w), *by_device))
    ]


def _phases_of(run: RunState, rows: list[Row]) -> list[dict[str, Any]]:
    by_phase = grouped(rows, lambda total: total.phase)
    seconds = dict(run.phases_s)
    return [
        {
            "name": name,
            "duration_s": seconds.get(name),
            "energy_j": energy_j(by_phase[name]) if name in by_phase else None,
            "emissions_g": emissions_g(by_phase[name]) if name in by_phase else None,
        }
        for name in dict.fromkeys((*seconds, *by_phase))
    ]


def _node(snapshot: Snapshot, known_by: KnownBy) -> dict[str, Any]:
    states = snapshot.devices
    watts = [state.power_w for state in states if state.power_w is not None]
    return {
        "power_w": sum(watts) if watts else None,
        "energy_j": sum(state.energy_j for state in states) if states else None,
        "unattributed_j": sum(state.unattributed_j for state in states) if states else None,
        "devices": [_device(state, known_by) for state in states],
        "meters": [_meter(state) for state in snapshot.node_meters],
    }


def _meter(state: NodeMeterState) -> dict[str, Any]:
    """A meter of the whole machine: the devices are in it, and none of it is in another figure."""
    return {
        "meter": state.total.meter,
        "power_w": state.power_w,
        "energy_j": state.total.energy_j,
        "coverage_ratio": state.coverage_ratio,
        "unobserved_s": state.total.unobserved_s,
    }


def _device(state: DeviceState, known_by: KnownBy) -> dict[str, Any]:
    device = state.device
    return {
        "id": device.id,
        "component": device.component,
        "name": device.name,
        "index": device.index,
        "known_by": known_by.of(device.id),
        "power_w": state.power_w,
        "peak_power_w": state.peak_power_w,
        "utilization_ratio": state.utilization_ratio,
        "energy_j": state.energy_j,
        "unattributed_j": state.unattributed_j,
        "unobserved_s": state.unobserved_s,
    }


def _intensity(found: Intensity) -> dict[str, Any]:
    return {
        "g_per_kwh": found.g_per_kwh,
        "low_g_per_kwh": found.low_g_per_kwh,
        "high_g_per_kwh": found.high_g_per_kwh,
        "zone": found.zone or None,
        "source": found.source,
        "kind": found.kind,
        "basis": found.basis,
        "year": found.year,
        "timestamp_s": found.timestamp_s,
        "note": found.note or None,
    }


def _sensor(sensor: SensorState) -> dict[str, Any]:
    return {
        "name": sensor.name,
        "is_used": sensor.use == "used",
        "is_up": sensor.up if sensor.use == "used" else None,
        "reason": sensor.reason or None,
        "remedy": sensor.remedy or None,
        "errors": dict(sensor.errors),
    }
