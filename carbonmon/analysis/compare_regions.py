"""Compares a run's emissions at other places, by annual intensity: named ones, a provider's, or countries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbonmon.core.config import parse_list
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import JOULES_PER_KWH, Intensity
from carbonmon.core.records import NamedTuple
from carbonmon.data import CLOUD_REGIONS, INTENSITIES, Row, rows, using
from carbonmon.grid.annual import WORLD, Region, preferred_rows, table_intensity
from carbonmon.grid.regions import resolve
from carbonmon.runs.report.earlier import as_now

COUNTRIES = "countries"
BEST = 5
"""So many of the best countries are listed."""

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


def is_place(text: str) -> bool:
    """Whether a text is a list of places, a provider or `countries`."""
    try:
        for word in _words(text):
            if word.lower() not in (*providers(), COUNTRIES):
                resolve(word)
    except ConfigError:
        return False
    return True


def compare_regions(summary: Mapping[str, Any], where: str = "") -> Comparison:
    """The run at other places.

    `where` is a list of places and providers (`DE,SE,aws:us-east-1,gcp`), `countries` for a short list of
    them, or "" for the provider of the run's own region if it was in one, else countries. Raises
    `ConfigError`, with the nearest places, for anything else, and for tables that cannot be used.
    """
    with using(INTENSITIES, CLOUD_REGIONS):
        return _compare(summary, where)


def place_name(summary: Mapping[str, Any]) -> str:
    """The place of a run, for people: `France (FR)`; "" for the world and for a place not in the table.

    Of an estimate at several places all of them, that with most of the energy first.
    """
    zones = zones_of(summary)
    if len(zones) > 1:
        with using(INTENSITIES):
            names = {row["zone"]: row["name"] for row in preferred_rows() if row["zone"] != WORLD}
        return "; ".join(
            f"{names[zone]} ({zone})" if zone in names else "a place not known" for zone in zones
        )
    zone = zones[0]
    with using(INTENSITIES):
        name = next((row["name"] for row in preferred_rows() if row["zone"] == zone != WORLD), "")
    cloud = _own_cloud(summary)
    where = f"{name} ({zone})" if name else ""
    return f"{where}, {cloud}" if where and cloud else where


def zones_of(summary: Mapping[str, Any]) -> list[str]:
    """The zones that a run's energy was charged with, most of it first; "" for one that is unknown.

    One zone, but of an estimate whose parts are at several places.
    """
    sources = summary["carbon"].get("sources") or () if summary["state"] == "estimated" else ()
    ordered = sorted(sources, key=lambda part: -part["energy_j"])
    zones = dict.fromkeys(part["zone"] or "" for part in ordered if part["energy_j"])
    return list(zones) if len(zones) > 1 else [_own_intensity(summary)["zone"] or ""]


def with_elsewhere(summary: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The summary with the comparison in `elsewhere`, for every form of a report."""
    found = compare_regions(summary, where)
    places = [
        {
            "place": place.code,
            "name": place.name,
            "emissions_g": place.emissions_g,
            "ratio": place.emissions_g / found.own_g if place.rank is not None and found.own_g else None,
            "rank": place.rank,
            "is_own": place.is_own,
            "intensity": _intensity_document(place.intensity),
        }
        for place in found.places
    ]
    pue = summary["carbon"]["pue"]
    return {**summary, "elsewhere": {"pue": pue, "compared": found.compared, "places": places}}


def with_what_if(summary: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The summary with `what_if`: its energy and PUE at the annual mean of another place.

    All other figures stay. The range is that of the energy, since the intensity is taken as exact. Raises
    `ConfigError` for a run of whose energy nothing is known.
    """
    _check_known(summary, "--region")
    region, energy, pue = resolve(place), summary["energy"], summary["carbon"]["pue"]
    g_per_joule = pue * region.intensity.g_per_kwh / JOULES_PER_KWH

    def grams(joules: float | None) -> float | None:
        return None if joules is None else joules * g_per_joule

    found = {
        "place": _code(region),
        "name": region.name,
        "emissions_g": grams(energy["total_j"]),
        "low_g": grams(energy["low_j"]),
        "high_g": grams(energy["high_j"]),
        "pue": pue,
        "phases": {name: grams(phase["energy_j"]) for name, phase in energy["phases"].items()},
        "intensity": _intensity_document(region.intensity),
    }
    return {**summary, "what_if": found}


def _intensity_document(intensity: Intensity) -> dict[str, Any]:
    """An intensity with the keys that it has in a summary."""
    return {
        "mean_g_per_kwh": intensity.g_per_kwh,
        "zone": intensity.zone,
        "source": intensity.source,
        "kind": intensity.kind,
        "basis": intensity.basis,
        "accounting": intensity.accounting,
        "year": intensity.year,
        "note": intensity.note or None,
    }


def _compare(summary: Mapping[str, Any], where: str) -> Comparison:
    zones = {row["zone"]: row for row in preferred_rows()}
    own_cloud = _own_cloud(summary)
    _check_known(summary, "--elsewhere")
    own_zone = _own_intensity(summary)["zone"]
    words = _words(where) or [own_cloud.partition(":")[0] if own_cloud else COUNTRIES]
    kwh = summary["energy"]["total_kwh"] * summary["carbon"]["pue"]
    found: dict[str, Place] = {}
    for code, name, intensity in _candidates(words, zones):
        is_own = code == own_cloud or (code == own_zone and not own_cloud)
        found[code] = Place(code, name, intensity, kwh * intensity.g_per_kwh, None, is_own)
    if not any(place.is_own for place in found.values()) and own_zone in zones:
        intensity, name = table_intensity(zones[own_zone]), zones[own_zone]["name"]
        found[own_zone] = Place(own_zone, name, intensity, kwh * intensity.g_per_kwh, None, True)
    return _ranked(list(found.values()), is_short=words == [COUNTRIES])


def _check_known(summary: Mapping[str, Any], option: str) -> None:
    """Raise `ConfigError` for a run of whose energy nothing is known."""
    if as_now(dict(summary))["energy"]["total_kwh"] is None:
        raise ConfigError(
            f"{option}: nothing is known of the energy of run {summary['run']['id']!r:.70}: no sensor gave "
            "a reading"
        )


def _words(text: str) -> list[str]:
    """The entries of a list of places, providers in lower case; each once."""
    known = (*providers(), COUNTRIES)
    entries = parse_list(text, "--elsewhere")
    return list(dict.fromkeys(word.lower() if word.lower() in known else word for word in entries))


def _candidates(words: Sequence[str], zones: Mapping[str, Row]) -> Iterator[tuple[str, str, Intensity]]:
    """(code, name, intensity) of each place; a region whose zone has no usable figure is left out."""
    for word in words:
        if word == COUNTRIES:
            for zone, row in zones.items():
                if row["zone_type"] == "country":
                    yield zone, row["name"], table_intensity(row)
        elif word in providers():
            for row in rows(CLOUD_REGIONS, "provider", (word,)):
                if row["zone"] in zones:
                    code, name = f"{word}:{row['region']}", f"{row['location']} ({row['zone']})"
                    yield code, name, table_intensity(zones[row["zone"]])
        else:
            region = _named(word)
            name = f"{region.name} ({region.zone})" if region.cloud else region.name
            yield _code(region), name, region.intensity


def _named(word: str) -> Region:
    try:
        return resolve(word)
    except ConfigError as error:
        known = ", ".join((*providers(), COUNTRIES))
        raise ConfigError(f"--elsewhere: {error}; or one of {known}") from None


def _code(region: Region) -> str:
    """The name of a region as `--region` takes it."""
    code = ":".join(region.cloud) if region.cloud else region.em_zone or region.zone
    return f"{code}@{region.chosen_basis}" if region.chosen_basis else code


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


def _own_intensity(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """The intensity of the place where the run was: where its region was wrong, that of the right one."""
    settled = summary.get("settled") or {}
    intensity: Mapping[str, Any] = (settled if settled.get("region") else summary["carbon"])["intensity"]
    return intensity


def _own_cloud(summary: Mapping[str, Any]) -> str:
    """The cloud region of a run as `aws:us-east-1`; "" without one."""
    found = _CLOUD_NOTE.search(_own_intensity(summary)["note"] or "")
    codes = {f"{row['provider']}:{row['region']}" for row in rows(CLOUD_REGIONS)} if found else set()
    return found[1] if found and found[1] in codes else ""
