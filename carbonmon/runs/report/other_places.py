"""A run's energy at other places, as the forms of a report show it: `elsewhere` and `what_if` of a summary.

Both are reckoned (`analysis/compare_regions.py`), with annual means of intensity and the run's own PUE; they
change no figure of the run itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from carbonmon.runs.report import spreadsheet
from carbonmon.runs.report.details import Section, origin_parts
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.summary.figures import (
    GRAMS,
    MASS_UNITS,
    co2e_text,
    energy_text,
    figure,
    range_text,
    unit_of,
)

COLUMNS = (
    *("run_id", "name", "host", "energy_kwh", "pue_ratio", "place", "place_name", "is_own"),
    *("emissions_kg", "ratio", "rank", "intensity_g_per_kwh", "intensity_source", "intensity_basis"),
    *("intensity_accounting", "intensity_year", "intensity_note"),
)

_WORLD = "WORLD"
_MULTIPLE = 3.0
"""From this ratio on a change is shown as a multiple and not in per cent."""


def what_if_parts(summary: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Of a summary with `what_if`: the place, the amount, its range, and what they rest on, in words."""
    found, intensity = summary["what_if"], summary["what_if"]["intensity"]
    grams, own_g = found["emissions_g"], known_carbon(summary)["emissions_g"]
    unit = unit_of(grams, MASS_UNITS)
    facts = [
        f"{figure(intensity['mean_g_per_kwh'])} g CO2e/kWh: "
        + ", ".join(filter(None, (intensity["zone"], intensity["source"], *origin_parts(intensity)))),
        f"PUE {found['pue']:.2f}",
        f"the run itself: {co2e_text(own_g)}",
        intensity["note"] or "",
    ]
    return (
        place_text(found),
        co2e_text(grams),
        range_text(found["low_g"], found["high_g"], GRAMS[unit]),
        "; ".join(filter(None, facts)),
    )


def what_if_text(summary: Mapping[str, Any]) -> str:
    """The same in a sentence; "" where nobody asked."""
    if summary.get("what_if") is None:
        return ""
    place, amount, span, facts = what_if_parts(summary)
    return f"in {place} it would have been {amount} ({span}); {facts}"


def place_text(place: Mapping[str, Any]) -> str:
    """A place with its code: `Sweden (SE)`."""
    return f"{place['name']} ({place['place']})"


def sections(summary: Mapping[str, Any]) -> list[Section]:
    """The comparison as a table for people; none where nobody asked."""
    found = summary.get("elsewhere")
    return [] if found is None else [_section(summary, found)]


def _section(summary: Mapping[str, Any], found: Mapping[str, Any]) -> Section:
    energy, carbon = summary["energy"], known_carbon(summary)
    unit = unit_of(carbon["emissions_g"], MASS_UNITS)
    table = [
        (
            "–" if place["rank"] is None else f"{place['rank']}",
            place["place"],
            place["name"],
            figure(place["intensity"]["mean_g_per_kwh"]),
            f"{figure(place['emissions_g'] / GRAMS[unit])} {unit}",
            _change(place),
            _counted(place["intensity"]),
        )
        for place in found["places"]
    ]
    mean = carbon["intensity"]["mean_g_per_kwh"]
    really = "" if mean is None else f" at a mean of {figure(mean)} g CO2e/kWh"
    how = "As it ran" if summary.get("settled") is None else "As it was settled"
    notes = [
        f"Ranked among {found['compared']} places by the annual mean of their electricity; every row has the "
        f"energy's own range. {how}: {co2e_text(carbon['emissions_g'])}{really}.",
    ]
    if any(place["rank"] is None for place in found["places"]):
        notes.append("A row with – counts other emissions than the others do: they cannot be compared.")
    sources = dict.fromkeys(place["intensity"]["source"] for place in found["places"])
    notes.append(f"g CO2e/kWh by {', '.join(sources)}.")
    notes.append(
        "Moving has its own cost: the data's way, other hardware, another PUE. "
        "An annual mean says nothing of an hour."
    )
    return Section(
        f"The same {energy_text(energy['total_j'])} elsewhere, at the same PUE of {carbon['pue']:.2f}",
        ("", "place", "", "g/kWh", "CO2e", "change", "counted"),
        table,
        notes,
        numbers=(0, 3, 4, 5),
        cuts=2,
    )


def places_csv(summaries: Iterable[Mapping[str, Any]]) -> str:
    """A row for each place of each run, rounded as in `spreadsheet.py`: what it would have caused there."""
    return spreadsheet.table(COLUMNS, [row for summary in summaries for row in _rows(summary)])


def _rows(summary: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    run, found = summary["run"], summary["elsewhere"]
    for place in found["places"]:
        intensity = place["intensity"]
        keys = ("source", "basis", "accounting", "year", "note")
        facts = {f"intensity_{key}": intensity[key] for key in keys}
        yield {
            "run_id": run["id"],
            "name": run["name"],
            "host": run["host"],
            "energy_kwh": spreadsheet.rounded(summary["energy"]["total_kwh"]),
            "pue_ratio": spreadsheet.rounded(found["pue"]),
            "place": place["place"],
            "place_name": place["name"],
            "is_own": place["is_own"],
            "emissions_kg": spreadsheet.rounded(spreadsheet.kg(place["emissions_g"])),
            "ratio": spreadsheet.rounded(place["ratio"]),
            "rank": place["rank"],
            "intensity_g_per_kwh": spreadsheet.rounded(intensity["mean_g_per_kwh"]),
            **facts,
        }


def _counted(intensity: Mapping[str, Any]) -> str:
    facts = [intensity["basis"], intensity["accounting"], intensity["year"] and str(intensity["year"])]
    facts.append("lower bound" if "lower bound" in (intensity["note"] or "") else "")
    return ", ".join(fact for fact in facts if fact)


def _change(place: Mapping[str, Any]) -> str:
    if place["is_own"]:
        return "assumed" if place["place"] == _WORLD else "its own"
    ratio = place["ratio"]
    if ratio is None:
        return ""
    if ratio >= _MULTIPLE:
        return f"{ratio:.3g} ×"
    return f"{100 * (ratio - 1):+.0f} %".replace("-", "−")
