"""Figures of a run set beside others of it: settled and live, forecasts and outcome, nodes, intensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.runs.report.details import KINDS, Section, settled_parts
from carbonmon.runs.report.markup import readable
from carbonmon.runs.report.sections import HOW_KNOWN, known_text
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

_NONE = "–"


def settled_and_live(summary: Mapping[str, Any]) -> Section:
    """The emissions as charged while the run went on, and with the intensity that was really in force."""
    settled, carbon = summary.get("settled"), summary["carbon"]
    head = ("", "emissions", "range", "intensity", "difference")
    if settled is None:
        return Section("Settled and live", head, ())
    grams = carbon["emissions_g"]
    unit = unit_of(grams, MASS_UNITS)
    live = range_text(carbon["low_g"], carbon["high_g"], GRAMS[unit])
    amount, span, facts = settled_parts(settled)
    difference = settled["emissions_g"] / grams - 1.0 if grams else None
    return Section(
        "Settled and live",
        head,
        (
            ("live", co2e_text(grams), live, _rate_text(carbon["intensity"]), ""),
            ("settled", amount, span, readable(facts, 500), _difference_text(difference)),
        ),
        numbers=(1, 4),
    )


def forecasts_and_outcome(summary: Mapping[str, Any], whose: str = "") -> Section:
    """What the whole run was expected to come to, beside what it came to if it has ended.

    `whose` names one of several nodes, each of which has forecasts of its own.
    """
    energy, made = summary["energy"], summary.get("forecasts") or ()
    title = f"Forecast and outcome{whose}"
    head = ("when", "energy", "range", "against the outcome")
    if not made:
        return Section(title, head, ())
    total_j = energy["total_j"]
    unit = unit_of(
        max(total_j or 0.0, *(forecast["energy_j"]["expected"] for forecast in made)), ENERGY_UNITS
    )
    has_ended = summary["state"] == "final"
    rows = []
    for forecast in made:
        low_j, expected_j, high_j = (forecast["energy_j"][key] for key in ("low", "expected", "high"))
        against = "the run had not ended"
        if has_ended and total_j:
            holds = "in the range" if low_j <= total_j <= high_j else "outside of the range"
            against = f"{_difference_text(expected_j / total_j - 1.0)}; the outcome is {holds}"
        when = f"{forecast['done_ratio'] * 100:.0f} % of the steps"
        ends = range_text(low_j, high_j, JOULES[unit])
        rows.append((when, energy_text(expected_j, unit), f"{ends} {unit}", against))
    span = range_text(energy["low_j"], energy["high_j"], JOULES[unit])
    span = span if energy["low_j"] is None else f"{span} {unit}"
    last = "the outcome" if has_ended else "until now"
    rows.append((last, energy_text(total_j, unit), span, ""))
    return Section(title, head, rows, numbers=(1,))


def nodes(summaries: Sequence[Mapping[str, Any]]) -> Section:
    """What each node has drawn; no rows for a single one."""
    head = ("node", "energy", "share", "emissions", "duration", HOW_KNOWN)
    if len(summaries) < 2:
        return Section("Nodes", head, ())
    total_j = sum(summary["energy"]["total_j"] or 0.0 for summary in summaries)
    unit = unit_of(total_j, ENERGY_UNITS)
    rows = []
    for summary in summaries:
        run, energy = summary["run"], summary["energy"]
        seconds, part_j = run["duration_s"], energy["total_j"]
        rows.append(
            (
                readable(run["host"] or "unknown", 80),
                energy_text(part_j, unit),
                percent_text(part_j / total_j) if total_j and part_j is not None else _NONE,
                co2e_text(summary["carbon"]["emissions_g"]),
                _NONE if seconds is None else duration_text(seconds),
                known_text(energy, part_j),
            )
        )
    return Section("Nodes", head, rows, numbers=(1, 2, 3, 4))


def intensities(carbon: Mapping[str, Any], energy_j: float | None) -> Section:
    """Every intensity that energy was charged with: place, source, kind, year; the largest part first."""
    whole = {**carbon["intensity"], "energy_j": energy_j, "emissions_g": carbon["emissions_g"]}
    parts = [part for part in carbon.get("sources") or () if part["energy_j"]] or [whole]
    charged_j = sum(part["energy_j"] or 0.0 for part in parts)
    rows = [
        (
            readable(part["zone"] or "none", 60),
            readable(part["source"] or "unknown", 120),
            KINDS.get(part["kind"] or "", "unknown"),
            str(part["year"] or _NONE),
            readable(", ".join(filter(None, (part["basis"], part["accounting"]))) or "unknown", 60),
            percent_text(part["energy_j"] / charged_j) if charged_j else _NONE,
            co2e_text(part["emissions_g"]),
        )
        for part in sorted(parts, key=lambda part: -(part["energy_j"] or 0.0))
    ]
    head = ("zone", "source", "kind", "year", "basis", "of the energy", "emissions")
    note = carbon["intensity"]["note"]
    return Section("Carbon intensities", head, rows, [readable(note, 400)] if note else (), (5, 6))


def _rate_text(intensity: Mapping[str, Any]) -> str:
    mean = intensity["mean_g_per_kwh"]
    rate = "unknown" if mean is None else f"{figure(mean)} g CO2e/kWh"
    kind = KINDS.get(intensity["kind"] or "", "")
    return readable(", ".join(filter(None, (rate, intensity["zone"], intensity["source"], kind))), 300)


def _difference_text(ratio: float | None) -> str:
    return _NONE if ratio is None else f"{100 * ratio:+.1f} %".replace("-", "−")
