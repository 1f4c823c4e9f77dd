"""Builds the document of summary.json: one run of one snapshot as plain JSON values; pure."""

from __future__ import annotations

import math
from typing import Any, Literal

from carbonmon.core.model import (
    JOULES_PER_KWH,
    MAIN_PHASE,
    METHODS,
    DeviceState,
    Intensity,
    RunState,
    Snapshot,
)
from carbonmon.core.pauses import Pauses
from carbonmon.core.times import rfc3339
from carbonmon.core.work import Work
from carbonmon.runs.summary.devices import devices_summary
from carbonmon.runs.summary.node import node_summary
from carbonmon.runs.summary.node_meters import charge_summary, node_meters_summary
from carbonmon.runs.summary.outlook import budgets_summary, forecasts_summary
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
from carbonmon.runs.summary.strings import encodable
from carbonmon.runs.summary.work import gpu_time_summary, work_summary

SCHEMA = "carbonmon.summary/1"

_ROUNDING = 1e-9
"""Sums of the same joules in another order differ by less than this part of them."""

State = Literal["running", "final", "recovered", "estimated"]


def summarize(
    snapshot: Snapshot,
    run: RunState,
    state: State,
    own_peak_rss_bytes: int | None = None,
) -> dict[str, Any]:
    """Return the summary of a run; what is unknown is None, never 0.

    `own_peak_rss_bytes` is the largest memory of the monitor itself.
    """
    devices = {device_state.device.id: device_state for device_state in snapshot.devices}
    is_estimate = state == "estimated"
    is_known = is_estimate or is_seen(run)
    totals = run.totals if is_estimate else seen_totals(run)
    rows = [with_uncertainty(total, devices) for total in totals]
    document: dict[str, Any] = clean(
        {
            "schema": SCHEMA,
            "state": state,
            "run": _run(run),
            "energy": _energy(run, rows, devices, is_known),
            "carbon": _carbon(snapshot, run, rows, is_known),
            "water": _water(snapshot, run, rows),
            "costs": _costs(snapshot, run, rows),
            "forecasts": forecasts_summary(run.forecasts) if is_seen(run) else [],
            "budgets": budgets_summary(run),
            "work": work_summary(run),
            "gpu_time": gpu_time_summary(run.gpu_time),
            "node_meters": node_meters_summary(snapshot, run),
            "charge": charge_summary(run),
            "monitor": _monitor(snapshot, run, own_peak_rss_bytes),
        }
    )
    return document


def _run(run: RunState) -> dict[str, Any]:
    info = run.info
    return {
        "id": info.id,
        "name": info.name,
        "command": list(info.command),
        "labels": dict(info.labels),
        "host": info.host,
        "uid": info.uid,
        "user": info.user or None,
        "scheduler": info.scheduler or None,
        "scheduler_job_id": info.scheduler_job_id or None,
        "idle_policy": info.idle_policy,
        "started_at": rfc3339(info.started_at_s),
        "ended_at": rfc3339(run.ended_at_s),
        "duration_s": run.duration_s,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "cpu_s": run.cpu_s,
        "progress": _progress(run.work),
        "ranks": [
            {"rank": rank.rank, "local_rank": rank.local_rank, "world_size": rank.world_size}
            for rank in run.ranks
        ],
        "pauses": _pauses(run.pauses),
        "notes": list(run.notes),
    }


def _pauses(pauses: Pauses | None) -> dict[str, Any] | None:
    if pauses is None:
        return None
    return {"above_g_per_kwh": pauses.above_g_per_kwh, "count": pauses.number, "paused_s": pauses.paused_s}


def _progress(work: Work | None) -> dict[str, Any] | None:
    return None if work is None or work.steps is None else {"step": work.steps, "total": work.total_steps}


def _energy(
    run: RunState, rows: list[Row], devices: dict[str, DeviceState], is_known: bool
) -> dict[str, Any]:
    total_j, (low_j, high_j) = energy_j(rows), energy_range_j(rows)
    amounts = {"total_j": total_j, "total_kwh": total_j / JOULES_PER_KWH, "low_j": low_j, "high_j": high_j}
    by_method = grouped(rows, lambda total: total.method)
    return {
        **(amounts if is_known else dict.fromkeys(amounts)),
        "measured_ratio": measured_ratio(rows),
        "recovered_j": run.recovered_j,
        "methods": {method: _method(by_method[method]) for method in METHODS if method in by_method},
        "components": _components(rows),
        "node": node_summary(run, devices),
        "devices": devices_summary(run, rows, devices),
        "phases": _phases(run, rows, is_known),
    }


def _components(rows: list[Row]) -> dict[str, Any]:
    return {
        component: {"energy_j": energy_j(group), "measured_ratio": measured_ratio(group)}
        for component, group in grouped(rows, lambda total: total.component).items()
    }


def _method(rows: list[Row]) -> dict[str, Any]:
    total_j = energy_j(rows)
    low_j, high_j = energy_range_j(rows)
    return {
        "energy_j": total_j,
        "low_ratio": None if low_j is None or not total_j else 1 - low_j / total_j,
        "high_ratio": None if high_j is None or not total_j else high_j / total_j - 1,
        "sources": sorted({row.uncertainty.source for row in rows if row.uncertainty}),
    }


def _phases(run: RunState, rows: list[Row], is_known: bool) -> dict[str, Any]:
    """Energy and emissions of each phase; `main` first, then in order of first appearance."""
    by_phase = grouped(rows, lambda total: total.phase)
    seconds = dict(run.phases_s)
    doubts = None if run.doubts_j is None else dict(run.doubts_j)
    names = {**seconds, **by_phase}
    return {
        name: {
            "energy_j": energy_j(by_phase.get(name, [])) if is_known else None,
            "emissions_g": emissions_g(by_phase.get(name, [])) if is_known else None,
            "duration_s": seconds.get(name),
            **_phase(by_phase.get(name, []), None if doubts is None else doubts.get(name, 0.0)),
        }
        for name in sorted(names, key=lambda name: name != MAIN_PHASE)
    }


def _phase(rows: list[Row], doubt_j: float | None) -> dict[str, Any]:
    total_j = energy_j(rows)
    return {
        "measured_ratio": measured_ratio(rows),
        "interpolated_ratio": None if doubt_j is None or not total_j else min(1.0, doubt_j / total_j),
        "components": _components(rows),
    }


def _carbon(snapshot: Snapshot, run: RunState, rows: list[Row], is_known: bool) -> dict[str, Any]:
    grams, (low_g, high_g) = emissions_g(rows), emissions_range_g(rows)
    amounts = {"emissions_g": grams, "low_g": low_g, "high_g": high_g}
    pue = _mean(snapshot.pue_ratio, run.facility_j, energy_j(rows)) or snapshot.pue_ratio
    drawn_kwh = energy_j(rows) / JOULES_PER_KWH * pue
    now = _main_origin(snapshot.intensity, run)
    return {
        **(amounts if is_known else dict.fromkeys(amounts)),
        "pue": pue,
        "pue_source": _origin(snapshot.pue_source, snapshot.pue_ratio, pue),
        "intensity": {
            "mean_g_per_kwh": grams / drawn_kwh if drawn_kwh else now.g_per_kwh,
            "zone": now.zone,
            "source": now.source,
            "basis": now.basis,
            "accounting": now.accounting,
            "kind": now.kind,
            "year": now.year,
            "note": now.note or None,
        },
        "sources": [
            {
                "source": charge.source,
                "zone": charge.zone,
                "kind": charge.kind,
                "basis": charge.basis,
                "accounting": charge.accounting,
                "year": charge.year,
                "energy_j": charge.energy_j,
                "emissions_g": charge.emissions_g,
            }
            for charge in run.charges
        ],
    }


def _main_origin(now: Intensity, run: RunState) -> Intensity:
    """The intensity in force; if most of the energy was charged with another one, that one's origin."""
    most = max(run.charges, key=lambda charge: charge.energy_j, default=None)
    if most is None or not most.energy_j:
        return now
    several = len(run.charges) > 1
    in_force = now.source, now.zone, now.kind, now.basis, now.accounting, now.year
    if not several and most[: len(in_force)] == in_force:
        return now
    return Intensity(
        *(now.g_per_kwh, now.low_g_per_kwh, now.high_g_per_kwh, most.zone, most.source, most.kind),
        most.basis,
        most.accounting,
        most.year,
        note=f"{len(run.charges)} sources or kinds of intensity: see carbon.sources" if several else "",
    )


def _mean(last: float | None, amount: float | None, over: float | None) -> float | None:
    """The mean of a factor that may have changed during the run: exactly the last one if it did not."""
    if amount is None or not over:
        return last
    mean = amount / over
    return last if last is not None and math.isclose(mean, last, rel_tol=_ROUNDING) else mean


def _origin(source: str, last: float | None, mean: float | None) -> str | None:
    """The source of a factor; where it changed during the run, that the figure is its mean."""
    if mean == last:
        return source or None
    at_last = "none" if last is None else f"{last:g}"
    return f"the mean over the energy; at last {at_last}{f' ({source})' if source else ''}"


def _part(known_j: float | None, total_j: float) -> float | None:
    """The part of the energy for which a figure is known; exactly 1 in spite of rounding."""
    if known_j is None or not total_j:
        return None
    return 1.0 if known_j >= total_j * (1 - _ROUNDING) else known_j / total_j


def _water(snapshot: Snapshot, run: RunState, rows: list[Row]) -> dict[str, Any] | None:
    """Litres with the range of the energy; None without a WUE."""
    if run.water_l is None:
        return None
    low, high = _scaled_range(run.water_l, rows)
    watered_kwh = None if run.watered_j is None else run.watered_j / JOULES_PER_KWH
    wue = _mean(snapshot.wue_l_per_kwh, run.water_l, watered_kwh)
    return {
        "litres": run.water_l,
        "low_litres": low,
        "high_litres": high,
        "wue_l_per_kwh": wue,
        "known_ratio": _part(run.watered_j, energy_j(rows)),
        "source": _origin(snapshot.wue_source, snapshot.wue_l_per_kwh, wue),
    }


def _costs(snapshot: Snapshot, run: RunState, rows: list[Row]) -> list[dict[str, Any]]:
    """Costs with the range of the energy, and the part of the energy whose price was known."""
    total_j = energy_j(rows)
    costs = []
    for cost in run.costs:
        low, high = _scaled_range(cost.amount, rows)
        costs.append(
            {
                "currency": cost.currency,
                "amount": cost.amount,
                "low_amount": low,
                "high_amount": high,
                "priced_ratio": _part(cost.priced_j, total_j),
                "source": snapshot.price_source or None,
            }
        )
    return costs


def _scaled_range(amount: float, rows: list[Row]) -> tuple[float | None, float | None]:
    """The range of an amount that is proportional to the energy."""
    total_j = energy_j(rows)
    low_j, high_j = energy_range_j(rows)
    if not total_j or low_j is None or high_j is None:
        return None, None
    ends = amount * low_j / total_j, amount * high_j / total_j
    return min(ends), max(ends)


def _monitor(snapshot: Snapshot, run: RunState, own_peak_rss_bytes: int | None) -> dict[str, Any]:
    return {
        "version": snapshot.version,
        "interval_s": snapshot.interval_s,
        "samples": snapshot.samples if run.samples is None else run.samples,
        "own_cpu_s": run.monitor_cpu_s,
        "own_peak_rss_bytes": own_peak_rss_bytes,
        "sources": [
            {"sensor": sensor.name, "state": sensor.use, "reason": sensor.reason or None}
            for sensor in snapshot.sensors
        ],
    }


def clean(value: Any) -> Any:
    """Make every value valid for JSON: NaN and infinity become None, and all text is valid UTF-8."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {encodable(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    return value
