"""The devices of a run in its summary: its own energy and power of each, and how each worked meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.model import METHODS, DeviceState, NodeTotal, RunState
from carbonmon.runs.summary.node import drawn_j
from carbonmon.runs.summary.ranges import Row, energy_j, grouped, known

_SHORTEST_S = 1e-6
"""Seconds are sums of differences: less than this is nothing."""

_ROUNDING = 1e-3
"""A run's part of a device and the whole are separate sums; the whole is a difference of large ones."""


def devices_summary(
    run: RunState, rows: list[Row], devices: Mapping[str, DeviceState]
) -> list[dict[str, Any]]:
    """The devices that the run used, in the machine's order, then those that are no longer in the machine."""
    by_device = grouped(rows, lambda total: total.device_id)
    used = {*by_device, *dict(run.unobserved_s), *dict(run.power_w)}
    found = [
        _device(run, state, by_device.get(device_id, []))
        for device_id, state in devices.items()
        if device_id in used
    ]
    found += [
        _former_device(run, device_id, group)
        for device_id, group in by_device.items()
        if device_id not in devices
    ]
    drawn = {total.device_id: drawn_j(total) for total in run.node}
    unobserved_s = dict(run.unobserved_s)
    for device in found:
        device["node_energy_j"] = drawn.get(device["id"])
        device["unobserved_s"] = unobserved_s.get(device["id"])
    return found


def _device(run: RunState, state: DeviceState, rows: list[Row]) -> dict[str, Any]:
    device = state.device
    total = next((each for each in run.node if each.device_id == device.id), None)
    own_j = known(energy_j, rows)
    return {
        "id": device.id,
        "name": device.name,
        "index": device.index,
        "component": device.component,
        "energy_j": own_j,
        "methods": _joules_by_method(rows),
        "share_note": dict(run.shares).get(device.id) or device.share_note or None,
        **(_of_the_machine(state) if total is None else _of_the_run(run, total, own_j)),
    }


def _of_the_run(run: RunState, total: NodeTotal, own_j: float | None) -> dict[str, Any]:
    """Figures from the run's begin to its end: its own share and power, the device's use and faults."""
    observed_s = run.duration_s - dict(run.unobserved_s).get(total.device_id, 0.0)
    known_s = total.utilization_s
    return {
        "share_ratio": _share_ratio(own_j, drawn_j(total)),
        "mean_power_w": own_j / observed_s if own_j is not None and observed_s > _SHORTEST_S else None,
        "peak_power_w": dict(run.peaks_w).get(total.device_id),
        "utilization_ratio": min(1.0, total.utilized_s / known_s) if known_s > _SHORTEST_S else None,
        "anomalies": _anomalies(total),
    }


def _of_the_machine(state: DeviceState) -> dict[str, Any]:
    """The device's own figures, where nobody noted what it did during the run: an estimate, an old file."""
    return {
        "share_ratio": state.device.share_ratio,
        "mean_power_w": state.mean_power_w,
        "peak_power_w": state.peak_power_w,
        "utilization_ratio": state.utilization_mean_ratio,
        "anomalies": _anomalies(state),
    }


def _former_device(run: RunState, device_id: str, rows: list[Row]) -> dict[str, Any]:
    """A device that has totals from before a restart and is no longer in the machine."""
    return {
        "id": device_id,
        "name": None,
        "index": None,
        "component": rows[0].total.component,
        "energy_j": energy_j(rows),
        "methods": _joules_by_method(rows),
        "share_note": dict(run.shares).get(device_id) or None,
        "share_ratio": None,
        "mean_power_w": None,
        "peak_power_w": None,
        "utilization_ratio": None,
        "anomalies": None,
    }


def _share_ratio(own_j: float | None, node_j: float) -> float | None:
    """The run's part of what the device drew; None where that is nothing, or less than its charge."""
    if own_j is None or not node_j or own_j > node_j * (1.0 + _ROUNDING):
        return None
    return min(1.0, own_j / node_j)


def _anomalies(counts: NodeTotal | DeviceState) -> dict[str, int]:
    return {
        "reset": counts.resets,
        "jump": counts.jumps,
        "step_back": counts.step_backs,
        "stuck": counts.stuck,
        "implausible": counts.implausible,
    }


def _joules_by_method(rows: list[Row]) -> dict[str, float]:
    groups = grouped(rows, lambda total: total.method)
    return {method: energy_j(groups[method]) for method in METHODS if method in groups}
