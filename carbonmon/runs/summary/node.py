"""All energy of a node while a run lasted, whoever caused it: for the summary and the metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from carbonmon.core.model import DeviceState, NodeTotal, RunState
from carbonmon.runs.summary.ranges import is_seen

_ROUNDING = 1e-3
"""A run's part and the whole are separate sums, and the whole is a difference of two large sums."""


def drawn_j(total: NodeTotal) -> float:
    """Joules by all methods."""
    return total.counter_j + total.power_j + total.tdp_j


def components_of(run: RunState, devices: Mapping[str, DeviceState]) -> dict[str, str]:
    """The component of each device by its id; of one no longer in the machine, from the run's own totals."""
    of_totals: dict[str, str] = {total.device_id: total.component for total in run.totals}
    return of_totals | {device_id: state.device.component for device_id, state in devices.items()}


def node_summary(run: RunState, devices: Mapping[str, DeviceState]) -> dict[str, Any] | None:
    """`energy.node` of the summary; None where the node's energy was not recorded, or nothing seen of it."""
    if not run.node or not is_seen(run):
        return None
    components = components_of(run, devices)
    groups: dict[str, list[NodeTotal]] = {}
    for total in run.node:
        if total.device_id in components:
            groups.setdefault(components[total.device_id], []).append(total)
    total_j = sum(map(drawn_j, run.node))
    return {
        "total_j": total_j,
        "emissions_g": sum(total.emissions_g for total in run.node),
        "measured_ratio": _measured_ratio(run.node),
        "share_ratio": _share_ratio(run, total_j),
        "components": {
            component: {"energy_j": sum(map(drawn_j, group)), "measured_ratio": _measured_ratio(group)}
            for component, group in groups.items()
        },
    }


def _measured_ratio(totals: Iterable[NodeTotal]) -> float | None:
    totals = list(totals)
    total_j = sum(map(drawn_j, totals))
    return sum(total.counter_j + total.power_j for total in totals) / total_j if total_j else None


def _share_ratio(run: RunState, node_j: float) -> float | None:
    """The run's part of the node; unknown where the node's total lacks some of what the run was charged."""
    known = {total.device_id for total in run.node}
    run_j = sum(total.energy_j for total in run.totals)
    is_whole = all(total.device_id in known for total in run.totals if total.energy_j)
    if not node_j or not is_whole or run_j > node_j * (1.0 + _ROUNDING):
        return None
    return min(1.0, run_j / node_j)
