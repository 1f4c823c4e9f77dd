"""A run as a Markdown report for a wiki or an appendix: tables, an impact statement, equivalents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.model import MAIN_PHASE
from carbonmon.core.windows import INTERPOLATED_RATIO
from carbonmon.runs.report.details import Section, basis_text, settled_parts
from carbonmon.runs.report.equivalents import equivalents
from carbonmon.runs.report.impact import statement
from carbonmon.runs.report.markup import escaped, table
from carbonmon.runs.report.outlook_rows import outlook_rows
from carbonmon.runs.report.work import work_rows
from carbonmon.runs.summary.figures import (
    ENERGY_UNITS,
    GRAMS,
    JOULES,
    MASS_UNITS,
    duration_text,
    energy_text,
    figure,
    mass_text,
    percent_text,
    range_text,
    unit_of,
)
from carbonmon.runs.summary.strings import phase_text

_COMPONENTS = {"gpu": "GPU", "cpu": "CPU", "dram": "memory", "module": "module"}
_NONE = "–"


def markdown_text(summary: Mapping[str, Any], sections: Sequence[Section] = ()) -> str:
    """The whole report, ending in a newline."""
    energy = summary["energy"]
    blocks = [
        [f"# Energy and carbon of run {escaped(summary['run']['id'], 64)}"],
        table(("run", escaped(summary["run"]["id"], 64)), _facts(summary)),
        ["## Result"],
        table(("", "figure", "range", "how known"), _results(summary)),
    ]
    if energy["devices"]:
        head = ("device", "name", "component", "energy", "mean power", "peak", "utilisation", "how known")
        blocks += [["## Devices"], table(head, _devices(energy), numbers=(3, 4, 5, 6))]
    if energy["phases"].keys() - {MAIN_PHASE}:
        columns = ("phase", "energy", "share", "emissions", "duration", "measured")
        blocks += [["## Phases"], table(columns, _phases(energy), numbers=(1, 2, 3, 4, 5))]
    if energy["methods"]:
        blocks += [
            ["## Methods"],
            table(("method", "energy", "range", "who states the range"), _of_methods(energy)),
        ]
    if summary["monitor"]["sources"]:
        blocks += [["## Sensors"], table(("sensor", "state", "reason"), _sensors(summary["monitor"]))]
    blocks.append(["## Impact statement"])
    blocks += [[paragraph] for paragraph in statement(summary)]
    like = [f"- {escaped(found.sentence)} ({escaped(found.source)})" for found in equivalents(summary)]
    if like:
        blocks += [["## What it is like"], like]
    for section in sections:
        blocks += _section(section)
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def section_markdown(section: Section) -> str:
    """A table with notes by itself, ending in a newline."""
    return "\n\n".join("\n".join(block) for block in _section(section)) + "\n"


def _facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    run, monitor = summary["run"], summary["monitor"]
    ended = {
        "running": "still running",
        "recovered": "recovered from a checkpoint",
        "estimated": "an estimate",
    }
    end = run["ended_at"] or "unknown"
    facts = {
        "name": run["name"],
        "command": " ".join(run["command"]),
        "labels": ", ".join(f"{key}={value}" for key, value in run["labels"].items()),
        "host": run["host"],
        "scheduler": " ".join(filter(None, (run["scheduler"], run["scheduler_job_id"]))),
        "started": run["started_at"] or "unknown",
        "ended": end if summary["state"] == "final" else ended[summary["state"]],
        "duration": _NONE if run["duration_s"] is None else duration_text(run["duration_s"]),
        "exit code": "" if run["exit_code"] is None else str(run["exit_code"]),
        "signal": "" if run["signal"] is None else str(run["signal"]),
        "carbonmon": f"{monitor['version']}, a sample every {monitor['interval_s']:g} s",
    }
    return [(name, escaped(value)) for name, value in facts.items() if value]


def _results(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    energy, carbon = summary["energy"], summary["carbon"]
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    ends = range_text(energy["low_j"], energy["high_j"], JOULES[unit])
    rows = [("energy", energy_text(energy["total_j"], unit), ends, _known(energy, energy["total_j"]))]
    for component, part in energy["components"].items():
        known = _known(part, part["energy_j"])
        rows.append((f"– {_COMPONENTS[component]}", energy_text(part["energy_j"], unit), "", known))
    node = energy.get("node")
    if node is not None:
        share = node["share_ratio"]
        part_of = "" if share is None else f"; {percent_text(share)} of it is the run's"
        known = _known(node, node["total_j"]) + part_of
        rows.append(("whole node meanwhile", energy_text(node["total_j"], unit), "", known))
    intensity = carbon["intensity"]
    mean = intensity["mean_g_per_kwh"]
    where = [intensity["zone"], intensity["source"], basis_text(intensity)]
    rate = "unknown" if mean is None else f"{figure(mean)} g CO2e/kWh"
    rows.append(("carbon intensity", rate, "", escaped(", ".join(filter(None, where)), 500)))
    pue_source = carbon.get("pue_source") or ("not applied" if carbon["pue"] == 1 else "")
    rows.append(("PUE", f"{carbon['pue']:.2f}", "", escaped(pue_source)))
    grams = carbon["emissions_g"]
    unit = unit_of(grams, MASS_UNITS)
    ends = range_text(carbon["low_g"], carbon["high_g"], GRAMS[unit])
    rows.append(("emissions", _co2e(grams), ends, "energy × PUE × intensity"))
    if summary.get("settled") is not None:
        amount, ends, facts = settled_parts(summary["settled"])
        rows.append(("emissions, settled", amount, ends, escaped(facts, 500)))
    made = summary.get("embodied")
    if made is not None:
        amount = "unknown" if made["low_g"] is None else "only a range is known"
        rows.append(("embodied carbon", amount, _range_g(made), escaped("; ".join(made["sources"]), 2000)))
    return rows + _cost_and_water_rows(summary) + work_rows(summary) + outlook_rows(summary)


def _range_g(ends: Mapping[str, Any]) -> str:
    low_g, high_g = ends["low_g"], ends["high_g"]
    return "" if low_g is None or high_g is None else f"{mass_text(low_g)} to {mass_text(high_g)} CO2e"


def _cost_and_water_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Cost and water, where a price and a WUE were given."""
    rows = []
    for cost in summary.get("costs") or ():
        ends = range_text(cost["low_amount"], cost["high_amount"], 1.0)
        amount = f"{cost['amount']:.4g} {escaped(cost['currency'], 10)}"
        facts = [escaped(cost["source"] or ""), _known_part_text("price", cost["priced_ratio"])]
        rows.append(("cost", amount, ends, "; ".join(filter(None, facts))))
    water = summary.get("water")
    if water is not None:
        ends = range_text(water["low_litres"], water["high_litres"], 1.0)
        wue = water["wue_l_per_kwh"]
        facts = ["" if wue is None else f"WUE {wue:g} l/kWh", escaped(water["source"] or "")]
        facts.append(_known_part_text("WUE", water.get("known_ratio")))
        rows.append(("water", f"{figure(water['litres'])} l", ends, ", ".join(filter(None, facts))))
    return rows


def _known_part_text(what: str, ratio: float | None) -> str:
    """Of how much of the energy a price or a WUE was known, if not of all."""
    return "" if ratio is None or ratio == 1 else f"{what} known for {percent_text(ratio)} of the energy"


def _known(part: Mapping[str, Any], energy_j: float | None) -> str:
    """Measured, estimated, or how much of each."""
    ratio = part["measured_ratio"]
    if energy_j is None:
        return "nothing was seen of it"
    if ratio is None:
        return "unknown" if energy_j else "no energy was seen"
    if ratio in (0, 1):
        return "measured" if ratio else "estimated"
    return f"{percent_text(ratio)} measured, {percent_text(1 - ratio)} estimated"


def _devices(energy: Mapping[str, Any]) -> list[list[str]]:
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    rows = []
    for device in energy["devices"]:
        used = {method: joules for method, joules in device["methods"].items() if joules}
        words = [
            f"{_METHODS[method]} {percent_text(joules / sum(used.values()))}"
            for method, joules in used.items()
        ]
        known = _METHODS[next(iter(used))] if len(used) == 1 else ", ".join(words) or "no energy seen"
        lost = device["unobserved_s"] or 0.0
        note = f"; not observed {duration_text(lost)}" if lost >= 0.05 else ""
        use = device["utilization_ratio"]
        rows.append(
            [
                escaped(device["id"], 80),
                escaped(device["name"] or "unknown", 80),
                _COMPONENTS[device["component"]],
                energy_text(device["energy_j"], unit),
                _watts(device["mean_power_w"]),
                _watts(device["peak_power_w"]),
                _NONE if use is None else percent_text(use),
                known + note,
            ]
        )
    return rows


_METHODS = {"counter": "measured (counter)", "power": "measured (power)", "tdp": "estimated (tdp)"}


def _co2e(grams: float | None) -> str:
    return mass_text(grams) if grams is None else f"{mass_text(grams)} CO2e"


def _watts(power_w: float | None) -> str:
    return _NONE if power_w is None else f"{figure(power_w)} W"


def _phases(energy: Mapping[str, Any]) -> list[list[str]]:
    total_j = energy["total_j"]
    unit = unit_of(total_j, ENERGY_UNITS)
    split = {
        name: " (interpolated)" if (phase.get("interpolated_ratio") or 0.0) > INTERPOLATED_RATIO else ""
        for name, phase in energy["phases"].items()
    }
    return [
        [
            escaped(phase_text(name), 80) or _NONE,
            energy_text(phase["energy_j"], unit) + split[name],
            percent_text(phase["energy_j"] / total_j) if total_j else _NONE,
            _co2e(phase["emissions_g"]),
            _NONE if phase["duration_s"] is None else duration_text(phase["duration_s"]),
            _NONE if (ratio := phase.get("measured_ratio")) is None else percent_text(ratio),
        ]
        for name, phase in energy["phases"].items()
    ]


def _of_methods(energy: Mapping[str, Any]) -> list[list[str]]:
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    rows = []
    for method, part in energy["methods"].items():
        low, high = part["low_ratio"], part["high_ratio"]
        known = low is not None and high is not None
        ends = f"−{percent_text(low)} to +{percent_text(high)}" if known else "unknown"
        sources = escaped("; ".join(part["sources"]), 1000) or _NONE
        rows.append([_METHODS[method], energy_text(part["energy_j"], unit), ends, sources])
    return rows


def _sensors(monitor: Mapping[str, Any]) -> list[list[str]]:
    return [
        [escaped(sensor["sensor"], 60), sensor["state"], escaped(sensor["reason"] or "", 300)]
        for sensor in monitor["sources"]
    ]


def _section(section: Section) -> list[list[str]]:
    rows = [[escaped(cell) for cell in row] for row in section.rows]
    blocks = [[f"## {escaped(section.title)}"]]
    if rows:
        blocks.append(table([escaped(cell) for cell in section.head], rows, section.numbers))
    return blocks + [[escaped(note, 400)] for note in section.notes]
