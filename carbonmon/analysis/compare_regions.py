"""Compares a run's emissions in other regions, by annual intensity: of a cloud provider, or countries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.data import CLOUD_REGIONS, INTENSITIES, rows, using
from carbonmon.grid.regions import WORLD, preferred_rows, table_intensity
from carbonmon.runs.report.details import Section
from carbonmon.runs.summary.figures import GRAMS, MASS_UNITS, energy_text, figure, mass_text, unit_of

COUNTRIES = "countries"
BEST = 5
"""So many of the best countries are listed."""

_MULTIPLE = 3.0
"""From this ratio on a change is shown as a multiple and not in per cent."""
_CLOUD_NOTE = re.compile(r"\b([a-z]+:[a-z0-9-]+) lies in ")
"""The note of the table's intensity of a cloud region, with the region."""


class Place(NamedTuple):
    """A place and the emissions of the run's energy there, at its annual mean and the run's PUE.

    `rank` is 1 for the least among places whose figures have the same basis and accounting; None for a place
    with another basis, which cannot be compared.
    """

    code: str
    name: str
    intensity: Intensity
    emissions_g: float
    rank: int | None
    is_own: bool


class Comparison(NamedTuple):
    """The places in order: the comparable ones from the least to the most, then the others.

    `compared` is how many comparable places there were, of which only some may be listed. `own_g` is the
    run at the annual intensity of its own place, None where that is unknown or has another basis.
    """

    places: tuple[Place, ...]
    compared: int
    own_g: float | None


def providers() -> list[str]:
    """The cloud providers of the table, by name."""
    return sorted({row["provider"] for row in rows(CLOUD_REGIONS)})


def compare_regions(summary: Mapping[str, Any], where: str = "") -> Comparison:
    """The run at other places: a provider's regions, or a short list of countries.

    `where` is a provider, `countries`, or "" for the provider of the run's own region, if it was in one.
    Raises `ConfigError` for anything else, and for tables that cannot be used.
    """
    with using(INTENSITIES, CLOUD_REGIONS):
        return _compare(summary, where)


def place_name(summary: Mapping[str, Any]) -> str:
    """The place of a run, for people: `France (FR)`; "" for the world and for a place not in the table."""
    zone = summary["carbon"]["intensity"]["zone"]
    with using(INTENSITIES):
        name = next((row["name"] for row in preferred_rows() if row["zone"] == zone != WORLD), "")
    cloud = _own_cloud(summary)
    where = f"{name} ({zone})" if name else ""
    return f"{where}, {cloud}" if where and cloud else where


def _compare(summary: Mapping[str, Any], where: str) -> Comparison:
    zones = {row["zone"]: row for row in preferred_rows()}
    own_cloud = _own_cloud(summary)
    choice = where.lower() or (own_cloud.partition(":")[0] if own_cloud else COUNTRIES)
    if choice != COUNTRIES and choice not in providers():
        known = ", ".join((*providers(), COUNTRIES))
        raise ConfigError(f"--elsewhere: {where!r:.40} is no provider of the table; there are {known}")
    if summary["energy"]["total_kwh"] is None:
        raise ConfigError(
            f"--elsewhere: nothing is known of the energy of run {summary['run']['id']!r:.70}: no sensor "
            "gave a reading"
        )
    kwh = summary["energy"]["total_kwh"] * summary["carbon"]["pue"]
    own_zone = summary["carbon"]["intensity"]["zone"]
    found: dict[str, Place] = {}
    for code, name, zone in _candidates(choice, zones):
        intensity = table_intensity(zones[zone])
        is_own = code == own_cloud if choice != COUNTRIES and own_cloud else code == own_zone
        found[code] = Place(code, name, intensity, kwh * intensity.g_per_kwh, None, is_own)
    if not any(place.is_own for place in found.values()) and own_zone in zones:
        intensity = table_intensity(zones[own_zone])
        name = zones[own_zone]["name"]
        found[own_zone] = Place(own_zone, name, intensity, kwh * intensity.g_per_kwh, None, True)
    return _ranked(list(found.values()), is_short=choice == COUNTRIES)


def _candidates(choice: str, zones: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str, str]]:
    """(code, name, zone of the table) of each place; a region whose zone has no usable figure is left out."""
    if choice == COUNTRIES:
        for zone, row in zones.items():
            if row["zone_type"] == "country":
                yield zone, row["name"], zone
        return
    for row in rows(CLOUD_REGIONS):
        if row["provider"] == choice and row["zone"] in zones:
            yield f"{choice}:{row['region']}", f"{row['location']} ({row['zone']})", row["zone"]


def _ranked(places: list[Place], is_short: bool) -> Comparison:
    """The places of the most common basis by their emissions, then those of another one."""
    bases = [_basis(place.intensity) for place in places]
    basis = max(bases, key=bases.count, default=None)
    comparable = sorted(
        (place for place in places if _basis(place.intensity) == basis),
        key=lambda place: (place.intensity.g_per_kwh, place.code),
    )
    comparable = [place._replace(rank=rank) for rank, place in enumerate(comparable, start=1)]
    others = [place for place in places if _basis(place.intensity) != basis]
    own_g = next((place.emissions_g for place in comparable if place.is_own), None)
    shown = comparable
    if is_short:
        last = len(comparable)
        listed = {*range(1, BEST + 1), (last + 1) // 2, last}
        shown = [place for place in comparable if place.rank in listed or place.is_own]
        others = [place for place in others if place.is_own]
    return Comparison((*shown, *sorted(others, key=lambda place: place.code)), len(comparable), own_g)


def _basis(intensity: Intensity) -> tuple[str | None, str | None]:
    """Basis and accounting: figures with different ones cannot be compared."""
    return intensity.basis, intensity.accounting


def _own_cloud(summary: Mapping[str, Any]) -> str:
    """The cloud region of a run as `aws:us-east-1`; "" without one."""
    found = _CLOUD_NOTE.search(summary["carbon"]["intensity"]["note"] or "")
    codes = {f"{row['provider']}:{row['region']}" for row in rows(CLOUD_REGIONS)} if found else set()
    return found[1] if found and found[1] in codes else ""


def section(summary: Mapping[str, Any], found: Comparison) -> Section:
    """The comparison as a table for people."""
    energy, carbon = summary["energy"], summary["carbon"]
    unit = unit_of(carbon["emissions_g"], MASS_UNITS)
    table = [
        (
            "–" if place.rank is None else f"{place.rank}",
            place.code,
            place.name,
            figure(place.intensity.g_per_kwh),
            f"{figure(place.emissions_g / GRAMS[unit])} {unit}",
            _change(place, found.own_g),
            _counted(place.intensity),
        )
        for place in found.places
    ]
    mean = carbon["intensity"]["mean_g_per_kwh"]
    really = "" if mean is None else f" at a mean of {figure(mean)} g CO2e/kWh"
    notes = [
        f"Ranked among {found.compared} places by the annual mean of their electricity; every row has the "
        f"energy's own range. As it ran: {mass_text(carbon['emissions_g'])} CO2e{really}.",
    ]
    if any(place.rank is None for place in found.places):
        notes.append("A row with – counts other emissions than the others do: they cannot be compared.")
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


def _counted(intensity: Intensity) -> str:
    facts = [intensity.basis, intensity.accounting, intensity.year and str(intensity.year)]
    facts.append("lower bound" if "lower bound" in intensity.note else "")
    return ", ".join(fact for fact in facts if fact)


def _change(place: Place, own_g: float | None) -> str:
    if place.is_own:
        return "assumed" if place.code == WORLD else "its own"
    if place.rank is None or not own_g:
        return ""
    ratio = place.emissions_g / own_g
    if ratio >= _MULTIPLE:
        return f"{ratio:.3g} ×"
    return f"{100 * (ratio - 1):+.0f} %".replace("-", "−")
