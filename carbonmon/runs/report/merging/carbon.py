"""Emissions, intensity, water and cost of a run from those of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.runs.report.merging.sums import Part, each, known_total, listed, same, total, weighted

_ORIGIN = ("source", "zone", "kind", "basis", "accounting", "year")


def carbon(summaries: Sequence[Part]) -> dict[str, Any]:
    """`carbon` of the whole; the mean intensity is weighted by the energy that it was charged on."""
    parts = [_with_energy(summary, summary["carbon"]) for summary in summaries]
    sources = _sources(parts)
    document = {**_amounts(parts), "intensity": _intensity(parts, sources)}
    if any("pue_source" in part for part in parts):
        document["pue_source"] = listed(each(parts, "pue_source"), "; ") or None
    if len(sources) > 1 or any("sources" in part for part in parts):
        document["sources"] = sources
    count = sum(1 for summary in summaries if summary.get("settled"))
    if 0 < count < len(summaries):
        note = f"{count} of {len(summaries)} parts are settled: settle the others to settle the whole"
        document["intensity"]["note"] = listed([document["intensity"]["note"], note], "; ")
    return document


def settled(summaries: Sequence[Part]) -> dict[str, Any]:
    """The settled emissions of parts that are all settled."""
    parts = [_with_energy(summary, summary["settled"]) for summary in summaries]
    intensity = _intensity(parts, _sources(parts))
    if "forecast" in [part["intensity"]["kind"] for part in parts]:
        intensity["kind"] = "forecast"  # as within one run: a part was not observed yet
    return {
        **{key: value for key, value in parts[0].items() if key not in ("energy_j", "former")},
        **_amounts(parts),
        "intensity": intensity,
        "covered_ratio": weighted(parts, "covered_ratio", "energy_j"),
        "settled_at": max(each(parts, "settled_at")),
        **{key: same(each(parts, key)) for key in ("by_uid", "region") if any(key in part for part in parts)},
    }


def _with_energy(summary: Part, carbon: Part) -> dict[str, Any]:
    """The carbon with the energy beside it; of a part whose energy is unknown nothing was charged."""
    return {**carbon, "energy_j": summary["energy"]["total_j"] or 0.0}


def _amounts(parts: Sequence[Part]) -> dict[str, Any]:
    """Grams, and the PUE that they include; without any energy it is that of the first node."""
    pue = weighted(parts, "pue", "energy_j")
    return {
        "emissions_g": known_total(each(parts, "emissions_g")),
        "low_g": total(each(parts, "low_g")),
        "high_g": total(each(parts, "high_g")),
        "pue": parts[0]["pue"] if pue is None else pue,
    }


def _intensity(parts: Sequence[Part], sources: Sequence[Part]) -> dict[str, Any]:
    """The intensity of all; of several origins, that of the most energy, and a note of the others."""
    intensities = [part["intensity"] for part in parts]
    first = intensities[0]
    document = {**first, "mean_g_per_kwh": _mean(parts)}
    notes = each(intensities, "note")
    if not all(same(each(intensities, key)) == first.get(key) for key in _ORIGIN):
        most = max(sources, key=lambda source: source["energy_j"])
        document.update({key: most[key] for key in _ORIGIN if key in first})
        notes.append(f"{len(sources)} origins of intensity: {listed(map(_origin_text, sources), '; ')}")
        bases = listed(each(sources, "basis"))
        if same(each(sources, "basis")) is None and bases:
            notes.append(f"emissions of different basis are added: {bases}")
    document["note"] = listed(notes, "; ") or None
    return document


def _origin_text(source: Part) -> str:
    """Zone, source, kind and year of an intensity: `DE, Ember, table, 2024`."""
    facts = [source[key] for key in ("zone", "source", "kind", "year")]
    return ", ".join(str(fact) for fact in facts if fact)


def _mean(parts: Sequence[Part]) -> float | None:
    """gCO2e/kWh over all; without energy, what all have in common."""
    kwh = sum(part["energy_j"] * part["pue"] for part in parts) / JOULES_PER_KWH
    means = [part["intensity"]["mean_g_per_kwh"] for part in parts]
    alike = same(means)
    if alike is not None or not kwh:
        return None if alike is None else float(alike)
    return float((known_total(each(parts, "emissions_g")) or 0.0) / kwh)


def _sources(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The intensities that the energy was charged with; a file that does not list them has one."""
    sums: dict[tuple[Any, ...], list[float]] = {}
    for part in parts:
        whole = {**part["intensity"], "energy_j": part["energy_j"], "emissions_g": part["emissions_g"]}
        for source in part.get("sources") or [whole]:
            amounts = sums.setdefault(tuple(source.get(key) for key in _ORIGIN), [0.0, 0.0])
            amounts[0] += source["energy_j"]
            amounts[1] += source["emissions_g"] or 0.0
    return [
        {**dict(zip(_ORIGIN, origin, strict=True)), "energy_j": energy_j, "emissions_g": grams}
        for origin, (energy_j, grams) in sums.items()
    ]


def water(summaries: Sequence[Part]) -> dict[str, Any] | None:
    """Litres; unknown where those of one node are unknown."""
    parts = [
        {"known_ratio": 1.0, **_with_energy(summary, summary["water"])}
        for summary in summaries
        if summary.get("water")
    ]
    if len(parts) < len(summaries):
        return None
    for part in parts:
        part["watered_j"] = part["energy_j"] * (part["known_ratio"] or 0.0)
    return {
        "litres": sum(part["litres"] for part in parts),
        "low_litres": total(each(parts, "low_litres")),
        "high_litres": total(each(parts, "high_litres")),
        "wue_l_per_kwh": weighted(parts, "wue_l_per_kwh", "watered_j"),
        "known_ratio": weighted(parts, "known_ratio", "energy_j"),
        "source": listed(each(parts, "source"), "; ") or None,
    }


def costs(summaries: Sequence[Part]) -> list[dict[str, Any]]:
    """Money by currency; a node without a price in it lowers the part of the energy whose price was known."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for summary in summaries:
        for cost in summary.get("costs") or ():
            groups.setdefault(cost["currency"], []).append(_with_energy(summary, cost))
    total_j = known_total(summary["energy"]["total_j"] for summary in summaries)
    return [
        {
            "currency": currency,
            "amount": sum(cost["amount"] for cost in group),
            "low_amount": total(each(group, "low_amount")),
            "high_amount": total(each(group, "high_amount")),
            "priced_ratio": _priced_ratio(group, total_j),
            "source": listed(each(group, "source"), "; ") or None,
        }
        for currency, group in groups.items()
    ]


def _priced_ratio(group: Sequence[Part], total_j: float | None) -> float | None:
    drawing = [cost for cost in group if cost["energy_j"]]
    priced_j = total(
        None if cost["priced_ratio"] is None else cost["priced_ratio"] * cost["energy_j"] for cost in drawing
    )
    return None if priced_j is None or not total_j else min(1.0, priced_j / total_j)


def embodied(parts: Sequence[Part]) -> dict[str, Any]:
    """Embodied emissions of the devices whose figures are known; the others are listed."""
    lows, highs = (
        [amount for amount in each(parts, key) if amount is not None] for key in ("low_g", "high_g")
    )
    return {
        **{key: same(each(parts, key)) for key in parts[0]},
        "low_g": sum(lows) if lows else None,
        "high_g": sum(highs) if highs else None,
        "unknown": list(dict.fromkeys(name for part in parts for name in part["unknown"])),
        "sources": list(dict.fromkeys(source for part in parts for source in part["sources"])),
    }
