"""The energy part of the technical documentation that the EU's AI Act asks of a general-purpose model.

Regulation (EU) 2024/1689, Annex XI, section 1, point 2: (d) the computational resources of the training, (e)
the energy consumption, known or estimated; where it is unknown it may rest on the computational resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.plain_text import without_exponent
from carbonmon.core.times import known_time, utc_text
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.report.impact import hardware, statement
from carbonmon.runs.report.markup import escaped
from carbonmon.runs.summary.figures import co2e_text, duration_text, percent_text
from carbonmon.runs.summary.strings import is_estimated

_MWH_J = JOULES_PER_KWH * 1e3


def annex_xi_text(summary: Mapping[str, Any], place: str = "") -> str:
    """Points (d) and (e) in Markdown, ending in a newline; `place` names the zone, "" where it is unknown."""
    run = summary["run"]
    name = _shown(run["name"] or run["id"])
    lines = [
        f"# Energy consumption of the training: {name}",
        "",
        "Technical documentation, Regulation (EU) 2024/1689 (AI Act), Annex XI, section 1, point 2 (d), (e).",
        "This covers one run. Earlier, failed and repeated runs of the same model are to be added.",
        "",
        "## Point 2 (d): computational resources",
        "",
        f"- Floating point operations: {_flops(summary)}",
        f"- Training time: {_time(summary)}",
        f"- Hardware: {_shown(hardware(summary['energy']['devices'])) or 'none is named'}",
        f"- Place: {_shown(place) or 'not known'}",
        f"- Work done: {_work(summary)}",
        "",
        "## Point 2 (e): energy consumption",
        "",
        *_energy(summary),
        "",
        "## Method",
        "",
        "\n\n".join(statement(summary)),
    ]
    return "\n".join(lines) + "\n"


def _shown(text: str) -> str:
    return escaped(text, 400)


def _mwh(joules: float) -> str:
    """Megawatt-hours with three significant digits, without powers of ten."""
    number = float(f"{joules / _MWH_J:.3g}")
    return without_exponent(f"{number:.3g}") if number < 1000 else f"{number:.0f}"


def _flops(summary: Mapping[str, Any]) -> str:
    flops = (summary.get("work") or {}).get("flops")
    return "not told by the training code" if not flops else f"{flops:.3g}"


def _time(summary: Mapping[str, Any]) -> str:
    run, held = summary["run"], (summary.get("gpu_time") or {}).get("held_s")
    begin, end = (known_time(run[key]) for key in ("started_at", "ended_at"))
    texts = [
        "" if run["duration_s"] is None else duration_text(run["duration_s"]),
        "" if begin is None or end is None else f"from {utc_text(begin)} to {utc_text(end)}",
        "" if not held else f"{held / 3600:,.6g} GPU-hours held",
    ]
    return ", ".join(filter(None, texts)) or "not known"


def _work(summary: Mapping[str, Any]) -> str:
    work = summary.get("work") or {}
    counts = ((work.get(key), key) for key in ("steps", "epochs", "samples", "tokens"))
    return (
        ", ".join(f"{count:,.6g} {key}" for count, key in counts if count) or "not told by the training code"
    )


def _energy(summary: Mapping[str, Any]) -> list[str]:
    energy, carbon = summary["energy"], known_carbon(summary)
    total_j, measured = energy["total_j"], energy["measured_ratio"]
    if total_j is None:
        return [
            "- Status: unknown. No sensor gave a reading. By point 2 (e) it may rest on the computational "
            "resources: `carbonmon estimate --flops`"
        ]
    if measured == 1:
        status = "known: measured by hardware"
    elif energy.get("stated_j") and energy["low_j"] == energy["high_j"]:
        status = "a figure that was given: carbonmon measured nothing"
    elif measured is None and is_estimated(energy["methods"]):
        status = "estimated: from specifications and utilisation, nothing was measured"
    elif measured is None:
        status = "how much of it was measured is not known" if total_j else "known: no energy was drawn"
    elif measured == 0:
        stated_j = energy.get("stated_j")
        given = (
            f", {percent_text(stated_j / total_j)} a figure that was given" if stated_j and total_j else ""
        )
        status = f"estimated: from specifications and utilisation{given}, nothing was measured"
    else:
        status = f"{percent_text(measured)} known by measurement, the rest estimated"
    span = (
        "range not stated"
        if energy["low_j"] is None or energy["high_j"] is None or energy["low_j"] == energy["high_j"]
        else f"{_mwh(energy['low_j'])} to {_mwh(energy['high_j'])}"
    )
    lines = [f"- Status: {status}", f"- Energy of the devices: {_mwh(total_j)} MWh ({span})"]
    if carbon["pue"] == 1 and summary["carbon"].get("pue_source") is None:
        lines.append("- Energy of the data centre: not known, no PUE above 1 was given")
    else:
        lines.append(
            f"- Energy of the data centre: {_mwh(total_j * carbon['pue'])} MWh, "
            f"at a PUE of {carbon['pue']:.4g}"
        )
    return [*lines, f"- Emissions, location-based: {co2e_text(carbon['emissions_g'])}"]
