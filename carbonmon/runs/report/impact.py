"""The impact statement of a run, as in a life-cycle assessment: result, scope, methods and sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carbonmon.core.model import MEASURED_METHODS
from carbonmon.runs.report.details import KINDS, embodied_of, settled_text
from carbonmon.runs.report.markup import escaped
from carbonmon.runs.report.work import work_paragraphs
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
from carbonmon.runs.summary.strings import UNNAMED_HARDWARE, is_estimated, numbered

_PARTS = {
    "gpu": "GPUs",
    "cpu": "CPU packages",
    "dram": "memory",
    "module": "modules (GPU, CPU and memory by one meter)",
}
_IDLE = {
    "proportional": "Of CPUs and memory the run has its share by CPU time, of idle energy the same share.",
    "exclusive": "The run is charged with all of the node that no other run used, idle energy included.",
    "none": "Of CPUs and memory the run has its share by CPU time; their idle energy, where their idle power "
    "was observed, is charged to nobody.",
}


Shown = Callable[[str, int], str]
"""How a name or a text of somebody else is shown, in at most so many characters."""


def statement(summary: Mapping[str, Any], shown: Shown = escaped) -> list[str]:
    """Paragraphs of Markdown, or with another `shown` of plain text."""
    return [
        _result(summary, shown),
        *work_paragraphs(summary, shown),
        _scope(summary, embodied_of(summary), shown),
        _methods_and_range(summary["energy"]),
        _grid(summary, shown),
        _version_and_interval(summary["monitor"], summary["state"], shown),
    ]


def hardware(
    devices: Sequence[Mapping[str, Any]], components: Sequence[str] = ("gpu", "module", "cpu")
) -> str:
    """The devices by name, how many of each: `8 × NVIDIA A100-SXM4-80GB, 2 × AMD EPYC 7742`.

    A name alone where nobody said how many; "" where none is named.
    """
    counts: dict[str, int | None] = {}
    for component in components:
        for device in devices:
            if device["component"] == component and device["name"] != UNNAMED_HARDWARE:
                count, name = numbered(device)
                before = counts.get(name, 0)
                counts[name] = None if count is None or before is None else before + count
    return ", ".join(name if count is None else f"{count} × {name}" for name, count in counts.items())


def _result(summary: Mapping[str, Any], shown: Shown) -> str:
    run, energy, carbon = summary["run"], summary["energy"], summary["carbon"]
    unit = unit_of(energy["total_j"], ENERGY_UNITS)
    is_given = bool(energy.get("stated_j"))
    span = _range(energy["low_j"], energy["high_j"], JOULES[unit], is_given)
    drawn = f"{energy_text(energy['total_j'], unit)} of electricity ({span})"
    if energy["total_j"] is None:
        drawn = "an unknown amount of electricity"
    verb = "used an estimated" if energy["measured_ratio"] == 0 else "used"
    verb = "is estimated to use" if summary["state"] == "estimated" else verb
    lasted = "" if run["duration_s"] is None else f" in {duration_text(run['duration_s'])}"
    names = hardware(energy["devices"])
    place = f" on {shown(names, 400)}" if names else ""
    name = "" if run["name"] in ("", run["id"]) else f" ({shown(run['name'], 60)})"
    grams = carbon["emissions_g"]
    unit = unit_of(grams, MASS_UNITS)
    span = _range(carbon["low_g"], carbon["high_g"], GRAMS[unit], is_given)
    mean = carbon["intensity"]["mean_g_per_kwh"]
    rate = (
        "an unknown carbon intensity" if mean is None else f"a carbon intensity of {figure(mean)} g CO2e/kWh"
    )
    what = f"{mass_text(grams, unit)} CO2e ({span})" if grams is not None else "an unknown amount of CO2e"
    text = (
        f"Run {shown(run['id'], 64)}{name} {verb} {drawn}{lasted}{place}. At {rate} and a PUE of "
        f"{carbon['pue']:.2f} that is {what}."
    )
    settled = summary.get("settled")
    if settled is not None:
        how = "the annual mean of its right region" if settled.get("region") else "the actual grid intensity"
        text += f" Recalculated with {how}: {shown(settled_text(settled), 400)}."
    return text


def _range(low: float | None, high: float | None, unit: float, is_given: bool) -> str:
    """The range in words; figures that a user gave have none."""
    return "no range given" if is_given and low == high else range_text(low, high, unit)


def _scope(summary: Mapping[str, Any], embodied: str, shown: Shown) -> str:
    energy, pue = summary["energy"], summary["carbon"]["pue"]
    counted = [words for part, words in _PARTS.items() if part in energy["components"]]
    missing = [words for part, words in _PARTS.items() if part not in ("module", *energy["components"])]
    if "module" in energy["components"]:  # it holds what has no meter of its own
        missing = []
    is_estimate = summary["state"] == "estimated"
    policy = "" if is_estimate else _IDLE.get(summary["run"].get("idle_policy") or "", "")
    text = f"Counted is the use phase: the electricity of {_and(counted) or 'no device, for none was seen'}."
    text += f" {policy}" if policy else ""
    left_out = [
        *(f"{words} (none was {'given' if is_estimate else 'metered'})" for words in missing),
        "the rest of the machine (fans, losses of power supplies, disks)",
        "network and storage outside of it",
        "cooling and the building's losses" + (" beyond the PUE" if pue != 1 else " (a PUE of 1 adds none)"),
    ]
    if not embodied:
        left_out.append("making and scrapping the hardware")
    text += f" Not counted: {', '.join(left_out)}."
    return f"{text} On top: {shown(embodied, 2000)}." if embodied else text


def _methods_and_range(energy: Mapping[str, Any]) -> str:
    total_j = energy["total_j"]
    if total_j is None:
        return "Nothing was seen of its energy: no sensor gave a reading."
    if not total_j and is_estimated(energy["methods"]):
        return f"All was estimated from {_METHODS['tdp']}, and came to 0 J."
    if not total_j:
        return "None was drawn by what was metered."
    shares = []
    for method, part in energy["methods"].items():
        if part["energy_j"]:
            ratio = min(1.0, part["energy_j"] / total_j)
            share = "all" if ratio == 1 else percent_text(ratio)
            word = "measured by" if method in MEASURED_METHODS else "estimated from"
            shares.append(f"{share} was {word} {_METHODS[method]}")
    given = min(1.0, (energy.get("stated_j") or 0.0) / total_j)
    if given:  # of an estimate, which has no other method
        rest = [f"{percent_text(1 - given)} was estimated from {_METHODS['tdp']}"] if given < _WHOLE else []
        share = percent_text(given) if rest else "all"
        shares = [f"{share} is a figure that was given, taken as exact", *rest]
    text = f"Of the energy, {_and(shares)}." if shares else "How the energy was known is not said."
    if given < _WHOLE and energy["low_j"] is not None and energy["high_j"] is not None:
        text += " The range adds up the systematic errors that are stated for these methods."
    recovered = energy["recovered_j"]
    if recovered:
        text += (
            f" {percent_text(recovered / total_j)} was drawn while no monitor ran and credited from counters."
        )
    lost = [device["unobserved_s"] for device in energy["devices"] if (device["unobserved_s"] or 0.0) >= 0.05]
    if lost:
        text += f" Not observed and not counted: {duration_text(sum(lost))} of device time."
    return text


_WHOLE = 1.0 - 1e-9

_METHODS = {
    "counter": "hardware energy counters",
    "power": "power sensors",
    "tdp": "specifications (TDP) and utilisation",
}


def _grid(summary: Mapping[str, Any], shown: Shown) -> str:
    intensity = summary["carbon"]["intensity"]
    sources = [part for part in summary["carbon"].get("sources") or () if part["energy_j"]]
    total_j = sum(part["energy_j"] for part in sources)
    if len(sources) < 2:
        text = f"The intensity is {_origin(intensity, shown)}."
    else:
        ordered = sorted(sources, key=lambda part: -part["energy_j"])
        parts = [f"{percent_text(part['energy_j'] / total_j)} {_origin(part, shown)}" for part in ordered]
        text = f"The energy was charged with several intensities: {'; '.join(parts)}."
    if intensity["note"]:
        text += f" Note: {shown(intensity['note'], 400)}."
    source = summary["carbon"].get("pue_source")
    whose = "the user's" if source == "user" else shown(source or "", 200)
    return f"{text} The PUE is {whose}." if source else text


def _origin(part: Mapping[str, Any], shown: Shown) -> str:
    """Zone, source, kind, year, basis and accounting of an intensity."""
    basis, accounting, year = part["basis"], part["accounting"], part["year"]
    facts = [
        f"for {shown(part['zone'], 60)}" if part["zone"] else "",
        f"by {shown(part['source'], 120)}" if part["source"] else "",
        KINDS[part["kind"]] + (f" of {year}" if year and part["kind"] == "table" else ""),
        f"{shown(basis, 30)} emissions" if basis else "basis unknown",
        f"{shown(accounting, 30)}-based" if accounting else "accounting unknown",
    ]
    return ", ".join(filter(None, facts))


def _version_and_interval(monitor: Mapping[str, Any], state: str, shown: Shown) -> str:
    made = f"Made with carbonmon {shown(monitor['version'], 40)}"
    if state == "estimated":
        return f"{made}, without a measurement."
    text = f"{made}, a sample every {monitor['interval_s']:g} s."
    if state == "running":
        text += " The run was still active: these are its figures so far."
    if state == "recovered":
        text += " The monitor was lost before the run's end: these are the figures of its last checkpoint."
    return text


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
