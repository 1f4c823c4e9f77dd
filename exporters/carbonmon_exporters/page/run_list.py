"""The document of `/api/v1/runs`: the runs that go on and those that ended lately, the newest first."""

from __future__ import annotations

from typing import Any

from carbonmon.core.model import MEASURED_METHODS, RunState, Snapshot
from carbonmon.runs.summary.ranges import is_seen, seen_totals
from carbonmon_exporters.page.known_by import KnownBy


def run_list(snapshot: Snapshot, known_by: KnownBy) -> dict[str, Any]:
    """The document without its version."""
    newest_first = sorted(
        snapshot.runs, key=lambda run: (run.ended_at_s is None, run.info.started_at_s), reverse=True
    )
    return {"at_s": snapshot.at_s, "runs": [listed(run, known_by) for run in newest_first]}


def listed(run: RunState, known_by: KnownBy) -> dict[str, Any]:
    """A run in a line. Powers are those of its devices whose power is known: of `unknown_devices` it is
    not."""
    is_running = run.ended_at_s is None
    known = [(device_id, watts) for device_id, watts in run.power_w if watts is not None]
    if not is_running:
        known = []
    estimated = [(device_id, watts) for device_id, watts in known if known_by.of(device_id) != "measured"]
    estimated_w = sum(watts for _, watts in estimated)
    power_w = sum(watts for _, watts in known)
    totals = seen_totals(run)
    energy_j = sum(total.energy_j for total in totals) if is_seen(run) else None
    measured_j = sum(total.energy_j for total in totals if total.method in MEASURED_METHODS)
    return {
        "id": run.info.id,
        "name": run.info.name,
        "host": run.info.host,
        "state": "running" if is_running else "ended",
        "started_at_s": run.info.started_at_s,
        "ended_at_s": run.ended_at_s,
        "duration_s": run.duration_s,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "phase": run.phase if is_running else None,
        "power_w": power_w if known else None,
        "estimated_power_w": estimated_w if known else None,
        "power_known_by": _known_by(len(known), len(estimated)),
        "unknown_devices": len(run.power_w) - len(known) if is_running else None,
        "energy_j": energy_j,
        "measured_ratio": measured_j / energy_j if energy_j else None,
        "emissions_g": sum(total.emissions_g for total in totals) if is_seen(run) else None,
    }


def _known_by(known: int, estimated: int) -> str | None:
    """How the power of so many devices is known, also where it is 0 W: None without a device."""
    if not known:
        return None
    return "measured" if not estimated else "estimated" if estimated == known else "both"
