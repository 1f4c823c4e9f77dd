"""What a report says of a run, table by table, as plain texts: whoever prints them adds the markup."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from carbonmon.core.efficiency import done, quotient
from carbonmon.core.model import MAIN_PHASE
from carbonmon.core.windows import INTERPOLATED_RATIO
from carbonmon.runs.report.details import Section, basis_text, settled_parts
from carbonmon.runs.report.markup import readable
from carbonmon.runs.report.other_places import what_if_parts
from carbonmon.runs.report.outlook_rows import outlook_rows
from carbonmon.runs.report.work import work_rows
from carbonmon.runs.summary.figures import (
    ENERGY_UNITS,
    GRAMS,
    JOULES,
    MASS_UNITS,
    co2e_text,
    duration_text,
    energy_text,
    figure,
    mass_text,
    percent_text,
    range_text,
    unit_of,
)
from carbonmon.runs.summary.node_meters import charge_text, meter_text
from carbonmon.runs.summary.strings import is_estimated, phase_text
from carbonmon.runs.summary.work_text import epoch_text, joules_text

COMPONENTS = {"gpu": "GPU", "cpu": "CPU", "dram": "memory", "module": "module"}
HOW_KNOWN = "how known"
"""The column that says what is measured and what is estimated."""
_NONE = "–"


def facts(summary: Mapping[str, Any]) -> Section:
    """Which run it was, and how it ended; its head is the run's id."""
    return Section("Run", ("run", readable(summary["run"]["id"], 64)), _facts(summary))


def results(summary: Mapping[str, Any]) -> Section:
    """Energy, carbon, cost, water, work: each figure with its range and how it is known."""
    return Section("Result", ("", "figure", "range", HOW_KNOWN), _results(summary))


def devices(energy: Mapping[str, Any]) -> Section:
    """The run's part of each device; no rows where none was seen."""
    head = ("device", "name", "component", "energy", "mean power", "peak", "utilisation", HOW_KNOWN)
    return Section("Devices", head, _devices(energy), numbers=(3, 4, 5, 6))


def phases(energy: Mapping[str, Any]) -> Section:
    """Energy and time of each phase; no rows where the training code named none."""
    head = ("phase", "energy", "share", "emissions", "duration", "measured")
    rows = _phases(energy) if energy["phases"].keys() - {MAIN_PHASE} else []
    return Section("Phases", head, rows, numbers=(1, 2, 3, 4, 5))


def epochs(summary: Mapping[str, Any]) -> Section:
    """Energy and time of each epoch; no rows where fewer than two were told."""
    each = (summary.get("work") or {}).get("each_epoch") or []
    head = ("epoch", "energy", "mean power", "duration", "an epoch")
    return Section("Epochs", head, _epochs(each) if len(each) > 1 else [], numbers=(1, 2, 3, 4))


def methods(energy: Mapping[str, Any]) -> Section:
    """The methods by which the energy is known, with their ranges."""
    return Section("Methods", ("method", "energy", "range", "who states the range"), _of_methods(energy))


def sensors(monitor: Mapping[str, Any]) -> Section:
    """Every source: whether it was used, and why not."""
    return Section("Sensors", ("sensor", "state", "reason"), _sensors(monitor))


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
        "user": run.get("user") or "",
        "scheduler": " ".join(filter(None, (run["scheduler"], run["scheduler_job_id"]))),
        "started": run["started_at"] or "unknown",
        "ended": end if summary["state"] == "final" else ended[summary["state"]],
        "duration": _NONE if run["duration_s"] is None else duration_text(run["duration_s"]),
        "exit code": "" if run["exit_code"] is None else str(run["exit_code"]),
        "signal": "" if run["signal"] is None else str(run["signal"]),
        "carbonmon": f"{monitor['version']}, a sample every {monitor['interval_s']:g} s",
    }
    return [(name, readable(value)) for name, value in facts.items() if value]


def _results(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    energy, carbon = summary["energy"], summary["carbon"]
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    ends = range_text(energy["low_j"], energy["high_j"], JOULES[unit])
    known = known_text(energy, energy["total_j"], energy["methods"])
    rows = [("energy", energy_text(energy["total_j"], unit), ends, known)]
    for component, part in energy["components"].items():
        methods = {
            method
            for device in energy["devices"]
            if device["component"] == component
            for method in device["methods"]
        }
        known = known_text(part, part["energy_j"], methods)
        rows.append((f"– {COMPONENTS[component]}", energy_text(part["energy_j"], unit), "", known))
    node = energy.get("node")
    if node is not None:
        share = node["share_ratio"]
        part_of = "" if share is None else f"; {percent_text(share)} of it is the run's"
        known = known_text(node, node["total_j"], energy["methods"]) + part_of
        rows.append(("whole node meanwhile", energy_text(node["total_j"], unit), "", known))
    rows += _machine_rows(summary)
    intensity = carbon["intensity"]
    mean = intensity["mean_g_per_kwh"]
    where = [intensity["zone"], intensity["source"], basis_text(intensity)]
    rate = "unknown" if mean is None else f"{figure(mean)} g CO2e/kWh"
    rows.append(("carbon intensity", rate, "", readable(", ".join(filter(None, where)), 500)))
    pue_source = carbon.get("pue_source") or ("not applied" if carbon["pue"] == 1 else "")
    rows.append(("PUE", f"{carbon['pue']:.2f}", "", readable(pue_source)))
    grams = carbon["emissions_g"]
    unit = unit_of(grams, MASS_UNITS)
    ends = range_text(carbon["low_g"], carbon["high_g"], GRAMS[unit])
    rows.append(("emissions", co2e_text(grams), ends, "energy × PUE × intensity"))
    if summary.get("settled") is not None:
        amount, ends, facts = settled_parts(summary["settled"])
        rows.append(("emissions, settled", amount, ends, readable(facts, 500)))
    if summary.get("what_if") is not None:
        place, amount, ends, facts = what_if_parts(summary)
        rows.append((f"emissions, what if in {readable(place)}", amount, ends, readable(facts, 500)))
    made = summary.get("embodied")
    if made is not None:
        amount = "unknown" if made["low_g"] is None else "only a range is known"
        rows.append(("embodied carbon", amount, _range_g(made), readable("; ".join(made["sources"]), 2000)))
    return rows + _cost_and_water_rows(summary) + work_rows(summary) + outlook_rows(summary)


def _machine_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What meters of the whole machine say, and the run's charge of it."""
    rows = []
    for row in summary.get("node_meters") or ():
        known = f"measured ({readable(row['meter'], 40)}), the devices in it; no other figure holds it"
        rows.append(("whole machine", meter_text(row), "", known))
    charge = summary.get("charge") or {}
    if charge.get("by") == "node":
        known = f"its devices' part of the whole machine's energy ({readable(charge['meter'], 40)})"
        rows.append(("charged (--charge node)", charge_text(charge), "", known))
    return rows


def _range_g(ends: Mapping[str, Any]) -> str:
    low_g, high_g = ends["low_g"], ends["high_g"]
    return "" if low_g is None or high_g is None else f"{mass_text(low_g)} to {mass_text(high_g)} CO2e"


def _cost_and_water_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Cost and water, where a price and a WUE were given."""
    rows = []
    for cost in summary.get("costs") or ():
        ends = range_text(cost["low_amount"], cost["high_amount"], 1.0)
        amount = f"{cost['amount']:.4g} {readable(cost['currency'], 10)}"
        facts = [readable(cost["source"] or ""), _known_part_text("price", cost["priced_ratio"])]
        rows.append(("cost", amount, ends, "; ".join(filter(None, facts))))
    water = summary.get("water")
    if water is not None:
        ends = range_text(water["low_litres"], water["high_litres"], 1.0)
        wue = water["wue_l_per_kwh"]
        facts = ["" if wue is None else f"WUE {wue:g} l/kWh", readable(water["source"] or "")]
        facts.append(_known_part_text("WUE", water.get("known_ratio")))
        rows.append(("water", f"{figure(water['litres'])} l", ends, ", ".join(filter(None, facts))))
    return rows


def _known_part_text(what: str, ratio: float | None) -> str:
    """Of how much of the energy a price or a WUE was known, if not of all."""
    return "" if ratio is None or ratio == 1 else f"{what} known for {percent_text(ratio)} of the energy"


def known_text(part: Mapping[str, Any], energy_j: float | None, methods: Collection[str] = ()) -> str:
    """Measured, estimated, or how much of each; `methods` are those by which 0 J are known."""
    ratio = part["measured_ratio"]
    if energy_j is None:
        return "nothing was seen of it"
    if ratio is None:
        nothing = "estimated" if is_estimated(methods) else "none was drawn"
        return "unknown" if energy_j else nothing
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
        known = _METHODS[next(iter(used))] if len(used) == 1 else ", ".join(words)
        if not used:
            nothing = _METHODS["tdp"] if is_estimated(device["methods"]) else "it drew none"
            known = "no energy seen" if device["energy_j"] is None else nothing
        lost = device["unobserved_s"] or 0.0
        note = f"; not observed {duration_text(lost)}" if lost >= 0.05 else ""
        use = device["utilization_ratio"]
        rows.append(
            [
                readable(device["id"], 80),
                readable(device["name"] or "unknown", 80),
                COMPONENTS[device["component"]],
                energy_text(device["energy_j"], unit),
                _watts(device["mean_power_w"]),
                _watts(device["peak_power_w"]),
                _NONE if use is None else percent_text(use),
                known + note,
            ]
        )
    return rows


_METHODS = {"counter": "measured (counter)", "power": "measured (power)", "tdp": "estimated (tdp)"}


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
            readable(phase_text(name), 80) or _NONE,
            energy_text(phase["energy_j"], unit) + split[name],
            percent_text(phase["energy_j"] / total_j) if total_j else _NONE,
            co2e_text(phase["emissions_g"]),
            _NONE if phase["duration_s"] is None else duration_text(phase["duration_s"]),
            _NONE if (ratio := phase.get("measured_ratio")) is None else percent_text(ratio),
        ]
        for name, phase in energy["phases"].items()
    ]


def _epochs(each: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    unit = unit_of(max(epoch["energy_j"] or 0.0 for epoch in each), ENERGY_UNITS)
    return [
        [
            epoch_text(epoch),
            _NONE if (joules := epoch["energy_j"]) is None else energy_text(joules, unit),
            _watts(quotient(joules, epoch["duration_s"])),
            _NONE if epoch["duration_s"] is None else duration_text(epoch["duration_s"]),
            _NONE if (per := quotient(joules, done(epoch))) is None else joules_text(per),
        ]
        for epoch in each
    ]


def _of_methods(energy: Mapping[str, Any]) -> list[list[str]]:
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    rows = []
    for method, part in energy["methods"].items():
        low, high = part["low_ratio"], part["high_ratio"]
        known = low is not None and high is not None
        ends = f"−{percent_text(low)} to +{percent_text(high)}" if known else "unknown"
        sources = readable("; ".join(part["sources"]), 1000) or _NONE
        rows.append([_METHODS[method], energy_text(part["energy_j"], unit), ends, sources])
    return rows


def _sensors(monitor: Mapping[str, Any]) -> list[list[str]]:
    return [
        [readable(sensor["sensor"], 60), sensor["state"], readable(sensor["reason"] or "", 300)]
        for sensor in monitor["sources"]
    ]
