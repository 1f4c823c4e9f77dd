"""`node_meters` of the summary: what meters of the whole machine measured while the run lasted, and its text.

The devices are in it: their part is the coverage, the rest are fans, disks, network, losses of supplies, and
devices that nobody meters. None of it is in any other figure of the summary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.node_meter import NodeEnergy
from carbonmon.runs.summary.figures import duration_text, energy_text, figure, percent_text
from carbonmon.runs.summary.strings import one_line

_LEAST_S = 0.05
"""Fewer seconds would read as 0.0 s."""


def node_meters_summary(snapshot: Snapshot, run: RunState) -> list[dict[str, Any]]:
    """A row for each meter; empty where the machine has none."""
    steps = {state.total.meter: state.counter_step_j for state in snapshot.node_meters}
    return [_row(total, steps.get(total.meter)) for total in run.node_meters]


def _row(total: NodeEnergy, step_j: float | None) -> dict[str, Any]:
    energy_j = total.energy_j if total.observed_s > 0.0 else None
    return {
        "meter": total.meter,
        "energy_j": energy_j,
        "methods": {"counter": total.counter_j, "power": total.power_j},
        "mean_power_w": None if energy_j is None else energy_j / total.observed_s,
        "devices_energy_j": None if energy_j is None else total.covered_j,
        "rest_energy_j": None if energy_j is None else energy_j - total.covered_j,
        "coverage_ratio": total.covered_j / energy_j if energy_j else None,
        "observed_s": total.observed_s,
        "unobserved_s": total.unobserved_s,
        "counter_step_j": step_j,
        "rejected": total.rejected,
    }


def node_meter_lines(summary: Mapping[str, Any], unit: str, width: int) -> list[str]:
    """A line for each meter in the table at the end of a run."""
    return [
        one_line(f"  whole node {meter_text(row, unit)} (meter {row['meter']})", width)
        for row in summary.get("node_meters") or ()
    ]


def meter_text(row: Mapping[str, Any], unit: str = "") -> str:
    """What one meter measured, in words."""
    if row["energy_j"] is None:
        text = "unknown"
    else:
        parts = [energy_text(row["energy_j"], unit)]
        if row["mean_power_w"] is not None:
            parts.append(f"mean {figure(row['mean_power_w'])} W")
        if row["coverage_ratio"] is not None:
            parts.append(f"devices {percent_text(row['coverage_ratio'])} of it")
        text = ", ".join(parts)
    lost_s = row["unobserved_s"]
    return text + (f"; not observed {duration_text(lost_s)}" if lost_s >= _LEAST_S else "")
