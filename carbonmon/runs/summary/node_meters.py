"""`node_meters` of the summary: what meters of the whole machine measured while the run lasted, and its text.

The devices are in it: their part is the coverage, the rest are fans, disks, network, losses of supplies, and
devices that nobody meters. None of it is in any other figure of the summary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.node_meter import NodeEnergy
from carbonmon.core.text_layout import labelled
from carbonmon.runs.summary.figures import co2e_text, duration_text, energy_text, figure, percent_text
from carbonmon.runs.summary.ranges import is_seen
from carbonmon.runs.summary.strings import one_line

_ROUNDING_S = 1e-6

_LEAST_S = 0.05
"""Fewer seconds would read as 0.0 s."""


def node_meters_summary(snapshot: Snapshot, run: RunState) -> list[dict[str, Any]]:
    """A row for each meter; empty where the machine has none."""
    steps = {state.total.meter: state.counter_step_j for state in snapshot.node_meters}
    return [_row(run, total, steps.get(total.meter)) for total in run.node_meters]


def lost_s(run: RunState, total: NodeEnergy) -> float:
    """Seconds of the run that a meter did not observe."""
    # What an earlier part of the run did not have as a meter observed nothing then.
    seconds = total.unobserved_s if run.ended_at_s is None else run.duration_s - total.observed_s
    return seconds if seconds > _ROUNDING_S else 0.0


def _row(run: RunState, total: NodeEnergy, step_j: float | None) -> dict[str, Any]:
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
        "unobserved_s": lost_s(run, total),
        "counter_step_j": step_j,
        "rejected": total.rejected,
    }


def charge_summary(run: RunState) -> dict[str, Any]:
    """What the run was charged with: what its devices drew, or its part of the whole machine's energy too.

    That part is unknown where nothing is known of what the run's devices drew.
    """
    charges = run.node_charges
    if not charges:
        return {"by": "devices", **dict.fromkeys(("meter", "energy_j", "emissions_g", "low_g", "high_g"))}
    observed_s = {total.meter: total.observed_s for total in run.node_meters}
    is_known = any(charge.energy_j or (observed_s.get(charge.meter) and is_seen(run)) for charge in charges)
    return {
        "by": "node",
        "meter": ", ".join(charge.meter for charge in charges),
        "energy_j": sum(charge.energy_j for charge in charges) if is_known else None,
        "emissions_g": sum(charge.emissions_g for charge in charges) if is_known else None,
        "low_g": sum(charge.emissions_low_g for charge in charges) if is_known else None,
        "high_g": sum(charge.emissions_high_g for charge in charges) if is_known else None,
    }


def charge_text(charge: Mapping[str, Any], unit: str = "") -> str:
    """The run's part of the whole machine, in words."""
    if charge["energy_j"] is None:
        return "unknown"
    return f"{energy_text(charge['energy_j'], unit)}, {co2e_text(charge['emissions_g'])}"


def node_meter_lines(summary: Mapping[str, Any], unit: str, width: int | None) -> list[str]:
    """Each meter behind its label in the table at the end of a run, and the run's charge of the machine."""
    lines: list[str] = []
    for row in summary.get("node_meters") or ():
        text = f"{meter_text(row, unit)} (meter {row['meter']})"
        lines += labelled("machine", one_line(text, 400), width)
    charge = summary.get("charge") or {}
    if charge.get("by") == "node":
        text = f"{charge_text(charge, unit)}: its devices' part of the machine's (meter {charge['meter']})"
        lines += labelled("charged", one_line(text, 400), width)
    return lines


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
    seconds = row["unobserved_s"]
    return text + (f"; not observed {duration_text(seconds)}" if seconds >= _LEAST_S else "")
