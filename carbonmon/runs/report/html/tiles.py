"""The figures of a run at the top of its report: each a name, a value, its range and how it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.efficiency import UNITS
from carbonmon.runs.report.details import settled_parts
from carbonmon.runs.report.html.elements import Markup, h, marked
from carbonmon.runs.report.html.layers import UNKNOWN
from carbonmon.runs.report.sections import known_text
from carbonmon.runs.summary.figures import (
    ENERGY_UNITS,
    GRAMS,
    JOULES,
    MASS_UNITS,
    co2e_text,
    duration_text,
    energy_text,
    figure,
    percent_text,
    range_text,
    unit_of,
)
from carbonmon.runs.summary.outlook import spent_text
from carbonmon.runs.summary.work_text import joules_text

_RATES = ("tokens", "samples", "steps")
"""Of what the training code counts, the finest is shown."""


def tiles(summary: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> Markup:
    """The headline figures of a run; its budgets are those of its nodes."""
    return h(
        "dl",
        {"class": "figures"},
        _energy(summary["energy"]),
        _emissions(summary),
        _settled(summary.get("settled")),
        _duration(summary),
        _intensity(summary["carbon"]["intensity"]),
        _costs(summary),
        _work(summary.get("work") or {}),
        *map(_budgets, nodes),
    )


def _energy(energy: Mapping[str, Any]) -> Markup:
    total_j = energy["total_j"]
    unit = unit_of(total_j, ENERGY_UNITS)
    if total_j is None:
        return _tile("Energy", UNKNOWN, "no sensor gave a reading")
    ends = range_text(energy["low_j"], energy["high_j"], JOULES[unit])
    ends = f"{ends} {unit}" if energy["low_j"] is not None else ends
    return _tile("Energy", energy_text(total_j, unit), ends, marked(known_text(energy, total_j)))


def _emissions(summary: Mapping[str, Any]) -> Markup:
    carbon = summary["carbon"]
    if carbon["emissions_g"] is None:
        return _tile("Emissions", UNKNOWN)
    unit = unit_of(carbon["emissions_g"], MASS_UNITS)
    ends = range_text(carbon["low_g"], carbon["high_g"], GRAMS[unit])
    ends = f"{ends} {unit}" if carbon["low_g"] is not None else ends
    return _tile("Emissions", co2e_text(carbon["emissions_g"]), ends, f"PUE {carbon['pue']:.2f} included")


def _settled(settled: Mapping[str, Any] | None) -> Markup | None:
    if settled is None:
        return None
    amount, ends, _ = settled_parts(settled)
    return _tile("Emissions, settled", amount, ends, "with the intensity that was really in force")


def _duration(summary: Mapping[str, Any]) -> Markup:
    run = summary["run"]
    words = {"running": "still running", "recovered": "its monitor was lost", "estimated": "an estimate"}
    code = "exit code unknown" if run["exit_code"] is None else f"exit code {run['exit_code']}"
    end = code if run["signal"] is None else f"ended by signal {run['signal']}"
    value = UNKNOWN if run["duration_s"] is None else duration_text(run["duration_s"])
    return _tile("Duration", value, words.get(summary["state"], end))


def _intensity(intensity: Mapping[str, Any]) -> Markup:
    mean = intensity["mean_g_per_kwh"]
    where = " ".join(str(part) for part in (intensity["zone"], intensity["year"]) if part)
    value = UNKNOWN if mean is None else f"{figure(mean)} g/kWh"
    return _tile("Intensity, mean", value, where or "no zone", intensity["source"] or "source unknown")


def _costs(summary: Mapping[str, Any]) -> list[Markup]:
    found = [
        _tile("Cost", f"{cost['amount']:.4g} {cost['currency']}", cost["source"] or "")
        for cost in summary.get("costs") or ()
    ]
    water = summary.get("water")
    return found if water is None else [*found, _tile("Water", f"{figure(water['litres'])} l")]


def _work(work: Mapping[str, Any]) -> Markup | None:
    """Energy per token, sample or step, whichever is known first."""
    for what in _RATES:
        joules = work.get(f"energy_per_{UNITS[what]}_j")
        if joules is not None:
            return _tile(
                f"Energy per {UNITS[what]}", joules_text(joules), "from the first to the last report"
            )
    return None


def _budgets(summary: Mapping[str, Any]) -> list[Markup]:
    found = []
    for budget in summary.get("budgets") or ():
        reached = f"reached: {budget['action']}" if budget["reached_at"] else "not reached"
        is_known = budget["limit"] and budget["spent"] is not None
        part = percent_text(budget["spent"] / budget["limit"]) if is_known else UNKNOWN
        found.append(_tile(f"Budget {budget['budget']}", f"{part} spent", spent_text(budget), reached))
    return found


def _tile(name: str, value: str, *details: str) -> Markup:
    lines = (h("span", {"class": "detail"}, detail) for detail in details if detail)
    return h("div", None, h("dt", None, name), h("dd", None, h("span", {"class": "value"}, value), lines))
