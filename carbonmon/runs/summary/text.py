"""A summary as a short table for people: what `carbonmon run` prints to stderr at the end."""

from __future__ import annotations

from typing import Any

from carbonmon.core.model import MAIN_PHASE, MEASURED_METHODS, RunState, Snapshot
from carbonmon.core.plain_text import plain, without_exponent
from carbonmon.core.text_layout import labelled, table, wrapped
from carbonmon.core.windows import INTERPOLATED_RATIO
from carbonmon.runs.summary.document import summarize
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
from carbonmon.runs.summary.node_meters import node_meter_lines
from carbonmon.runs.summary.outlook import outlook_lines
from carbonmon.runs.summary.strings import device_text, is_estimated, one_line, phase_text
from carbonmon.runs.summary.work_text import work_lines

MAX_PHASES = 12
MAX_LISTED = 4
"""So many devices are named in a remark in a terminal."""

ANOMALY_WORDS = {
    "reset": "reset{s}",
    "jump": "jump{s}",
    "step_back": "step{s} back",
    "stuck": "time{s} stuck",
    "implausible": "implausible",
}
"""What was rejected of a device's readings, as a table says it."""

OTHER_ANOMALY = "of another kind"
"""A kind that a newer version counts."""

_WHOLE = 1 - 1e-9
"""From this part on it is all of it: the rest is rounding."""

_WHOLE_NODE_RATIO = 0.9995
"""From this share on the run counts as having all of the node, and no line about the rest is printed."""

_SHARED = "shared: "
_INEXACT = ("mig", "container", "share of the package is unknown")
"""What is in the note of a share that is not exact, beside a note that begins with `shared: `."""


def describe(final: Snapshot, width: int | None = None) -> str:
    """The table for the end of a run, of the only run of its last snapshot; "" without one."""
    return describe_run(final, final.runs[0], width) if final.runs else ""


def describe_run(snapshot: Snapshot, run: RunState, width: int | None = None) -> str:
    """The table for the end of one of a snapshot's runs."""
    return table_text(summarize(snapshot, run, "final"), width)


def table_text(summary: dict[str, Any], width: int | None = None) -> str:
    """Return the table, ending in a newline, in lines of at most `width` columns; None: nothing is cut.

    What is estimated is called so in words. All energies share the total's unit, so that they compare.
    """
    run, energy = summary["run"], summary["energy"]
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    lines = wrapped(_title(run, summary["state"]), width, rest="  ")
    lines += labelled("energy", _energy_text(energy), width)
    lines += labelled("node", _node_text(energy.get("node"), unit), width)
    lines += node_meter_lines(summary, unit, width)
    lines += labelled("facility", _facility_text(energy, summary["carbon"]["pue"]), width)
    lines += _carbon_lines(summary["carbon"], width)
    lines += _cost_and_water_lines(summary, width)
    lines += outlook_lines(summary, unit, width)
    lines += work_lines(summary, width)
    lines += _device_lines(energy["devices"], unit, width, _is_given(energy))
    lines += _phase_lines(energy["phases"], energy["total_j"], unit, width)
    lines += _remarks(energy["devices"], width)
    for note in run.get("notes") or ():
        lines += wrapped(one_line(note, 1000), width, "  note: ")
    return "\n".join(plain(line).rstrip() for line in lines) + "\n"


def _title(run: dict[str, Any], state: str) -> str:
    name = "" if run["name"] in ("", run["id"]) else f" ({one_line(run['name'], 30)})"
    duration = "" if run["duration_s"] is None else f", {duration_text(run['duration_s'])}"
    remark = {"running": ", still running", "recovered": ", recovered"}.get(state, "")
    return f"carbonmon: run {one_line(run['id'], 64)}{name}{duration}{remark}"


def _energy_text(energy: dict[str, Any]) -> str:
    total_j, measured = energy["total_j"], energy["measured_ratio"]
    if total_j is None:
        return "unknown: no sensor gave a reading; carbonmon doctor says why"
    unit = unit_of(total_j, ENERGY_UNITS)
    stated_j = energy.get("stated_j") or 0.0
    span = range_text(energy["low_j"], energy["high_j"], JOULES[unit])
    if stated_j and energy["low_j"] == energy["high_j"]:
        span = "no range given"
    if measured is None:
        nothing = "none was drawn" if energy["devices"] else "it used none of what is metered"
        nothing = "all of it estimated (tdp)" if is_estimated(energy["methods"]) else nothing
        share = "how much of it was measured is unknown" if total_j else nothing
    elif measured == 1:
        share = "all of it measured"
    elif measured == 0:
        share = _stated_text(stated_j, total_j)
    else:
        share = f"{percent_text(measured)} measured, {percent_text(1 - measured)} estimated (tdp)"
    return f"{energy_text(total_j, unit)} ({span}), {share}"


def _stated_text(stated_j: float, total_j: float) -> str:
    """How much of what nothing measured is by a power or an energy that the user gave."""
    if not stated_j:
        return "all of it estimated (tdp)"
    ratio = stated_j / total_j
    if ratio >= _WHOLE:
        return "all of it by figures that the user gave"
    return f"{percent_text(ratio)} by figures that the user gave, {percent_text(1 - ratio)} estimated (tdp)"


def _is_given(energy: dict[str, Any]) -> bool:
    """Whether all the energy is by figures that the user gave."""
    return bool(energy["total_j"]) and (energy.get("stated_j") or 0.0) >= _WHOLE * energy["total_j"]


def _facility_text(energy: dict[str, Any], pue: float) -> str:
    """The energy of the data centre beside that of the devices, where an estimate has a PUE."""
    facility_j = energy.get("facility_j")
    if facility_j is None or pue == 1.0:
        return ""
    return f"{energy_text(facility_j)}, energy × PUE {pue:.4g}"


def _node_text(node: dict[str, Any] | None, unit: str) -> str:
    """The energy of the whole node; unknown in files of earlier versions."""
    if node is None or node["share_ratio"] is None or node["share_ratio"] >= _WHOLE_NODE_RATIO:
        return ""
    whole, share = energy_text(node["total_j"], unit), percent_text(node["share_ratio"])
    text = f"{whole} in all while it ran: {share} of it is this run's"
    estimated = _estimated_text(node["measured_ratio"])
    return f"{text}; {estimated}" if estimated else text


def _estimated_text(measured_ratio: float | None) -> str:
    """How much of an energy is estimated; "" for none of it, and where there is no energy."""
    if measured_ratio is None or measured_ratio == 1:
        return ""
    part = "" if measured_ratio == 0 else f"{percent_text(1 - measured_ratio)} "
    return f"{part}estimated (tdp)"


def _split_text(phase: dict[str, Any]) -> str:
    return "interpolated" if (phase.get("interpolated_ratio") or 0.0) > INTERPOLATED_RATIO else ""


def _carbon_lines(carbon: dict[str, Any], width: int | None) -> list[str]:
    grams, now = carbon["emissions_g"], carbon["intensity"]
    unit = unit_of(grams, MASS_UNITS)
    span = range_text(carbon["low_g"], carbon["high_g"], GRAMS[unit])
    mean = now["mean_g_per_kwh"]
    facts = [now["zone"], now["kind"], now["year"], now["basis"], now["source"]]
    origin = ", ".join(str(fact) for fact in facts if fact)
    rate = "unknown" if mean is None else f"{figure(mean)} g CO2e/kWh"
    total = "unknown" if grams is None else f"{mass_text(grams, unit)} CO2e ({span})"
    return [
        *labelled(
            "emissions", f"{total}, PUE {carbon['pue']:.2f} included" if grams is not None else total, width
        ),
        *labelled("intensity", one_line(f"{rate}: {origin}", 400), width),
        *labelled("", _origins_text(carbon.get("sources") or []), width),
    ]


def _origins_text(sources: list[dict[str, Any]]) -> str:
    """How much of the energy was charged with which kind of intensity, if there was more than one."""
    total_j = sum(source["energy_j"] for source in sources)
    if len(sources) < 2 or not total_j:
        return ""
    ordered = sorted(sources, key=lambda source: source["energy_j"], reverse=True)
    zones = {source.get("zone") for source in sources}
    parts = [
        f"{percent_text(source['energy_j'] / total_j)} {_zone_text(source) if len(zones) > 1 else ''}"
        f"{source['kind']} ({source['source'] or 'unknown'})"
        for source in ordered
    ]
    return one_line(f"charged with: {'; '.join(parts)}", 1000)


def _zone_text(source: dict[str, Any]) -> str:
    return f"{source.get('zone') or 'unknown place'}, "


def _cost_and_water_lines(summary: dict[str, Any], width: int | None) -> list[str]:
    """Cost and water, where a price and a WUE were given."""
    lines: list[str] = []
    for cost in summary.get("costs") or ():
        span = _span(cost["low_amount"], cost["high_amount"])
        lack = _known_part_text("price", cost["priced_ratio"])
        text = f"{_amount(cost['amount'])} {cost['currency']}{span}{lack}, PUE included"
        lines += labelled("cost", one_line(text, 200), width)
    water = summary.get("water")
    if water:
        span = _span(water["low_litres"], water["high_litres"])
        wue = "" if water["wue_l_per_kwh"] is None else f", WUE {water['wue_l_per_kwh']:g} l/kWh"
        lack = _known_part_text("WUE", water.get("known_ratio"))
        lines += labelled("water", f"{_amount(water['litres'])} l{span}{lack}{wue}", width)
    return lines


def _known_part_text(what: str, ratio: float | None) -> str:
    """Of how much of the energy a price or a WUE was known, if not of all."""
    if ratio is None or ratio > _WHOLE_NODE_RATIO:
        return ""
    return f", {what} known for {percent_text(ratio)} of the energy"


def _span(low: float | None, high: float | None) -> str:
    return " (range unknown)" if low is None or high is None else f" ({_amount(low)} to {_amount(high)})"


def _amount(number: float) -> str:
    """Four significant digits, never in powers of ten."""
    return without_exponent(f"{number:.4g}")


def _device_lines(
    devices: list[dict[str, Any]], unit: str, width: int | None, is_given: bool = False
) -> list[str]:
    """A line for each device, all of it the run's own part; `is_given`: the user gave power or energy."""
    rows = []
    for device in devices:
        mean_w = device["mean_power_w"]
        rows.append(
            (
                device["component"],
                device_text(device["id"], device["index"], is_short=width is not None),
                _name_text(device["name"] or "", width),
                energy_text(device["energy_j"], unit),
                "power unknown" if mean_w is None else f"mean {figure(mean_w)} W",
                "as given" if device.get("is_stated", is_given) else _methods_text(device),
            )
        )
    return table(rows, numbers=(3, 4), width=width, indent="  ", cuts=2)


def _name_text(name: str, width: int | None) -> str:
    """A device's name; in a terminal without the vendor that most GPUs have."""
    return one_line(name if width is None else name.removeprefix("NVIDIA "), 200)


def _phase_lines(
    phases: dict[str, dict[str, Any]], total_j: float | None, unit: str, width: int | None
) -> list[str]:
    """The phases by their energy, if the training code named any."""
    if not phases.keys() - {MAIN_PHASE}:
        return []
    ordered = sorted(phases.items(), key=lambda item: item[1]["energy_j"] or 0.0, reverse=True)
    rows = []
    for name, phase in ordered[:MAX_PHASES]:
        seconds, joules, grams = phase["duration_s"], phase["energy_j"], phase["emissions_g"]
        rows.append(
            (
                "phase",
                one_line(phase_text(name), 40 if width is not None else 1000),
                energy_text(joules, unit),
                "" if grams is None else f"{mass_text(grams)} CO2e",
                "" if seconds is None else duration_text(seconds),
                percent_text(joules / total_j) if total_j and joules is not None else "",
                ", ".join(filter(None, (_estimated_text(phase.get("measured_ratio")), _split_text(phase)))),
            )
        )
    lines = table(rows, numbers=(2, 3, 4, 5), width=width, indent="  ", cuts=1)
    more = len(ordered) - len(rows)
    return [*lines, f"  phase  and {more} more"] if more else lines


def _methods_text(device: dict[str, Any]) -> str:
    """The methods of a device's energy; what is estimated is called so."""
    used = {method: joules for method, joules in device["methods"].items() if joules}
    total_j = sum(used.values())
    parts = []
    for word, is_measured in (("measured", True), ("estimated", False)):
        of_word = {
            method: joules for method, joules in used.items() if (method in MEASURED_METHODS) is is_measured
        }
        if of_word:
            parts.append((sum(of_word.values()) / total_j, f"{word} ({', '.join(of_word)})"))
    if len(parts) == 1:
        return parts[0][1]
    if not parts:
        if device["energy_j"] is None:
            return "no energy seen"
        return "estimated (tdp)" if is_estimated(device["methods"]) else "it drew none"
    return ", ".join(f"{percent_text(ratio)} {words}" for ratio, words in parts)


def _remarks(devices: list[dict[str, Any]], width: int | None) -> list[str]:
    def name(device: dict[str, Any]) -> str:
        return device_text(device["id"], device["index"], is_short=width is not None)

    gaps = [
        f"{name(device)} {duration_text(device['unobserved_s'])}"
        for device in devices
        if device["unobserved_s"] and device["unobserved_s"] >= 0.05  # less would read as 0.0 s
    ]
    odd = [
        f"{name(device)} {', '.join(texts)}"
        for device in devices
        if (
            texts := [
                _times(n, ANOMALY_WORDS.get(kind, OTHER_ANOMALY))
                for kind, n in (device["anomalies"] or {}).items()
                if n
            ]
        )
    ]
    notes: dict[str, list[str]] = {}
    for device in devices:
        note = device["share_note"]
        if note and (note.startswith(_SHARED) or any(word in note.casefold() for word in _INEXACT)):
            notes.setdefault(one_line(note.removeprefix(_SHARED), 400), []).append(name(device))
    shared = [f"{', '.join(names)} {note}" for note, names in notes.items()]
    remarks = (("shared", shared), ("not observed, and not counted", gaps), ("readings rejected", odd))
    lines: list[str] = []
    for label, items in remarks:
        if items:
            lines += wrapped(f"{label}: {_listed(items, width)}", width, "  ", "    ")
    return lines


def _times(count: int, what: str) -> str:
    """`2 resets` of `reset{s}`."""
    return f"{count} {what.format(s='' if count == 1 else 's')}"


def _listed(items: list[str], width: int | None) -> str:
    """The items; in a terminal the first, and how many more there are."""
    more = 0 if width is None else len(items) - MAX_LISTED
    if more <= 0:
        return "; ".join(items)
    return "; ".join([*items[:MAX_LISTED], f"and {more} more"])
