"""A summary as a short table for people: what `carbonmon run` prints to stderr at the end."""

from __future__ import annotations

from typing import Any

from carbonmon.core.model import MAIN_PHASE, MEASURED_METHODS, RunState, Snapshot
from carbonmon.core.plain_text import plain
from carbonmon.core.windows import INTERPOLATED_RATIO
from carbonmon.runs.summary.columns import aligned
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
from carbonmon.runs.summary.strings import one_line
from carbonmon.runs.summary.work_text import work_lines

WIDTH = 100
MAX_PHASES = 12

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


def describe(final: Snapshot) -> str:
    """The table for the end of a run, of the only run of its last snapshot; "" without one."""
    return describe_run(final, final.runs[0]) if final.runs else ""


def describe_run(snapshot: Snapshot, run: RunState) -> str:
    """The table for the end of one of a snapshot's runs."""
    return table_text(summarize(snapshot, run, "final"))


def table_text(summary: dict[str, Any]) -> str:
    """Return the table, ending in a newline, in lines of at most about 100 characters.

    What is estimated is called so in words. All energies share the total's unit, so that they compare.
    """
    run, energy = summary["run"], summary["energy"]
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    lines = [_title(run, summary["state"]), _energy_line(energy), *_node_lines(energy.get("node"), unit)]
    lines += node_meter_lines(summary, unit, WIDTH)
    lines += _facility_lines(energy, summary["carbon"]["pue"])
    lines += _carbon_lines(summary["carbon"])
    lines += _cost_and_water_lines(summary)
    lines += outlook_lines(summary, unit, WIDTH)
    lines += work_lines(summary)
    lines += _device_lines(energy["devices"], unit, _is_given(energy))
    lines += _phase_lines(energy["phases"], energy["total_j"], unit)
    lines += _remarks(energy["devices"])
    lines += [one_line(f"  note: {note}", 2 * WIDTH) for note in run.get("notes") or ()]
    return "\n".join(plain(line).rstrip() for line in lines) + "\n"


def _title(run: dict[str, Any], state: str) -> str:
    name = "" if run["name"] in ("", run["id"]) else f" ({one_line(run['name'], 30)})"
    duration = "" if run["duration_s"] is None else f", {duration_text(run['duration_s'])}"
    remark = {"running": ", still running", "recovered": ", recovered"}.get(state, "")
    return f"carbonmon: run {one_line(run['id'], 64)}{name}{duration}{remark}"


def _energy_line(energy: dict[str, Any]) -> str:
    total_j, measured = energy["total_j"], energy["measured_ratio"]
    unit = unit_of(total_j, ENERGY_UNITS)
    stated_j = energy.get("stated_j") or 0.0
    span = range_text(energy["low_j"], energy["high_j"], JOULES[unit])
    if stated_j and energy["low_j"] == energy["high_j"]:
        span = "no range given"
    if measured is None:
        share = "how much of it was measured is unknown" if total_j else "no energy was seen"
    elif measured == 1:
        share = "all of it measured"
    elif measured == 0:
        share = _stated_text(stated_j, total_j)
    else:
        share = f"{percent_text(measured)} measured, {percent_text(1 - measured)} estimated (tdp)"
    return f"  energy     {figure(total_j / JOULES[unit])} {unit} ({span}), {share}"


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


def _facility_lines(energy: dict[str, Any], pue: float) -> list[str]:
    """The energy of the data centre beside that of the devices, where an estimate has a PUE."""
    facility_j = energy.get("facility_j")
    if facility_j is None or pue == 1.0:
        return []
    return [f"  facility   {energy_text(facility_j)}, energy × PUE {pue:.4g}"]


def _node_lines(node: dict[str, Any] | None, unit: str) -> list[str]:
    """The energy of the whole node; unknown in files of earlier versions."""
    if node is None or node["share_ratio"] is None or node["share_ratio"] >= _WHOLE_NODE_RATIO:
        return []
    whole, share = energy_text(node["total_j"], unit), percent_text(node["share_ratio"])
    line = f"  node       {whole} in all while it ran: {share} of it is this run's"
    estimated = _estimated_text(node["measured_ratio"])
    return [f"{line}; {estimated}" if estimated else line]


def _estimated_text(measured_ratio: float | None) -> str:
    """How much of an energy is estimated; "" for none of it, and where there is no energy."""
    if measured_ratio is None or measured_ratio == 1:
        return ""
    part = "" if measured_ratio == 0 else f"{percent_text(1 - measured_ratio)} "
    return f"{part}estimated (tdp)"


def _split_text(phase: dict[str, Any]) -> str:
    return "interpolated" if (phase.get("interpolated_ratio") or 0.0) > INTERPOLATED_RATIO else ""


def _carbon_lines(carbon: dict[str, Any]) -> list[str]:
    grams, now = carbon["emissions_g"], carbon["intensity"]
    unit = unit_of(grams, MASS_UNITS)
    span = range_text(carbon["low_g"], carbon["high_g"], GRAMS[unit])
    mean = now["mean_g_per_kwh"]
    facts = [now["zone"], now["kind"], now["year"], now["basis"], now["source"]]
    origin = ", ".join(str(fact) for fact in facts if fact)
    rate = "unknown" if mean is None else f"{figure(mean)} g CO2e/kWh"
    total = f"{figure(grams / GRAMS[unit])} {unit} CO2e"
    return [
        f"  emissions  {total} ({span}), PUE {carbon['pue']:.2f} included",
        one_line(f"  intensity  {rate}: {origin}", WIDTH),
        *_origin_lines(carbon.get("sources") or []),
    ]


def _origin_lines(sources: list[dict[str, Any]]) -> list[str]:
    """How much of the energy was charged with which kind of intensity, if there was more than one."""
    total_j = sum(source["energy_j"] for source in sources)
    if len(sources) < 2 or not total_j:
        return []
    ordered = sorted(sources, key=lambda source: source["energy_j"], reverse=True)
    parts = [
        f"{percent_text(source['energy_j'] / total_j)} {source['kind']} ({source['source'] or 'unknown'})"
        for source in ordered
    ]
    return [_listed("             charged with: ", parts)]


def _cost_and_water_lines(summary: dict[str, Any]) -> list[str]:
    """Cost and water, where a price and a WUE were given."""
    lines = []
    for cost in summary.get("costs") or ():
        span = _span(cost["low_amount"], cost["high_amount"])
        lack = _known_part_text("price", cost["priced_ratio"])
        lines.append(f"  cost       {cost['amount']:.4g} {cost['currency']}{span}{lack}, PUE included")
    water = summary.get("water")
    if water:
        span = _span(water["low_litres"], water["high_litres"])
        wue = "" if water["wue_l_per_kwh"] is None else f", WUE {water['wue_l_per_kwh']:g} l/kWh"
        lack = _known_part_text("WUE", water.get("known_ratio"))
        lines.append(f"  water      {water['litres']:.4g} l{span}{lack}{wue}")
    return [one_line(line, WIDTH) for line in lines]


def _known_part_text(what: str, ratio: float | None) -> str:
    """Of how much of the energy a price or a WUE was known, if not of all."""
    if ratio is None or ratio > _WHOLE_NODE_RATIO:
        return ""
    return f", {what} known for {percent_text(ratio)} of the energy"


def _span(low: float | None, high: float | None) -> str:
    return " (range unknown)" if low is None or high is None else f" ({low:.4g} to {high:.4g})"


def _device_lines(devices: list[dict[str, Any]], unit: str, is_given: bool = False) -> list[str]:
    """A line for each device; `is_given`: the user gave their power or their energy."""
    rows = []
    for device in devices:
        mean_w = device["mean_power_w"]
        rows.append(
            (
                device["component"],
                short_id(device["id"]),
                f"{device['name'] or '':12}",
                energy_text(device["energy_j"], unit),
                "power unknown" if mean_w is None else f"mean {figure(mean_w)} W",
                "as given" if is_given else _methods_text(device["methods"]),
            )
        )
    return [f"  {line}" for line in aligned(rows, numbers=(3, 4), room=WIDTH - 2, elastic=2)]


def _phase_lines(phases: dict[str, dict[str, Any]], total_j: float, unit: str) -> list[str]:
    """The phases by their energy, if the training code named any."""
    if not phases.keys() - {MAIN_PHASE}:
        return []
    ordered = sorted(phases.items(), key=lambda item: item[1]["energy_j"], reverse=True)
    rows = []
    for name, phase in ordered[:MAX_PHASES]:
        seconds = phase["duration_s"]
        rows.append(
            (
                one_line(name, 40),
                energy_text(phase["energy_j"], unit),
                f"{mass_text(phase['emissions_g'])} CO2e",
                "" if seconds is None else duration_text(seconds),
                percent_text(phase["energy_j"] / total_j) if total_j else "",
                ", ".join(filter(None, (_estimated_text(phase.get("measured_ratio")), _split_text(phase)))),
            )
        )
    table = aligned(rows, numbers=(1, 2, 3, 4), room=WIDTH - len("  phase  "), elastic=0)
    lines = [f"  phase  {line}" for line in table]
    more = len(ordered) - len(rows)
    return [*lines, f"  phase  and {more} more"] if more else lines


def short_id(device_id: str) -> str:
    """A GPU's UUID by its first group, as nvidia-smi users know it; other ids whole."""
    return one_line(device_id[:12] if device_id.startswith(("GPU-", "MIG-")) else device_id, 28)


def _methods_text(methods: dict[str, float]) -> str:
    """The methods of a device's energy; what is estimated is called so."""
    used = {method: joules for method, joules in methods.items() if joules}
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
    return ", ".join(f"{percent_text(ratio)} {words}" for ratio, words in parts) or "no energy seen"


def _remarks(devices: list[dict[str, Any]]) -> list[str]:
    gaps = [
        f"{short_id(device['id'])} {duration_text(device['unobserved_s'])}"
        for device in devices
        if device["unobserved_s"] and device["unobserved_s"] >= 0.05  # less would read as 0.0 s
    ]
    odd = [
        f"{short_id(device['id'])} {', '.join(texts)}"
        for device in devices
        if (
            texts := [
                _times(n, ANOMALY_WORDS.get(kind, OTHER_ANOMALY))
                for kind, n in (device["anomalies"] or {}).items()
                if n
            ]
        )
    ]
    shared = [
        one_line(f"{short_id(device['id'])} {note.removeprefix(_SHARED)}", WIDTH - len("  shared: "))
        for device in devices
        if (note := device["share_note"])
        and (note.startswith(_SHARED) or any(word in note.casefold() for word in _INEXACT))
    ]
    lines = []
    if shared:
        lines.append(_listed("  shared: ", shared))
    if gaps:
        lines.append(_listed("  not observed, and not counted: ", gaps))
    if odd:
        lines.append(_listed("  readings rejected: ", odd))
    return lines


def _times(count: int, what: str) -> str:
    """`2 resets` of `reset{s}`."""
    return f"{count} {what.format(s='' if count == 1 else 's')}"


def _listed(start: str, items: list[str]) -> str:
    """One line with as many of the items as fit, and how many more there are."""
    line = start + items[0]
    for position, item in enumerate(items[1:], start=1):
        if len(line) + len(item) > WIDTH - 14:
            return f"{line}; and {len(items) - position} more"
        line += f"; {item}"
    return line
