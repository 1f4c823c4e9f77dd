"""Finds a place by code, name or cloud region in the tables of annual carbon intensity.

The tables are read line by line at each look-up and nothing of them is kept. Each look-up raises ConfigError
for a table that cannot be used. Sources: `data/SOURCES.md`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.data import CLOUD_REGIONS, INTENSITIES, PLACES, Row, rows, using
from carbonmon.grid.annual import WORLD, Region, table_intensity
from carbonmon.grid.cloud_regions import cloud_code, cloud_row, provider_g_per_kwh, pues
from carbonmon.grid.nearest_places import LONGEST, fold_case, nearest
from carbonmon.grid.place_names import GRID, PART, SUBREGION, OtherName, meanings, plain

_OTHER_CODES = {
    **{"UK": "GB", "EL": "GR"},
    **{"IN-CG": "IN-CT", "IN-OD": "IN-OR", "IN-TS": "IN-TG", "IN-UK": "IN-UT"},
}
"""Common codes that differ from ISO 3166, and newer ones of ISO 3166-2 than the table's."""
_REPLACEMENT_ZONES = {"CN-HK": "HK"}
"""Zones without a usable row, and a zone whose figure fits better than their country's."""
_NOT_IN_TABLE = {
    "DK-DK1": ("Denmark Bidding Zone 1 (western Denmark)", "DK"),
    "DK-DK2": ("Denmark Bidding Zone 2 (eastern Denmark)", "DK"),
}
"""Zones of live sources that are not in the table: their names, and the zone whose figure is used."""
BASES = ("lifecycle", "direct", "provider")
"""What may stand behind a place and "@": the basis of its figure, or the cloud provider's own figure."""
_PROVIDERS_SOURCE = {
    "gcp": "Google Cloud 2024, hourly, load-weighted (GoogleCloudPlatform/region-carbon-info)"
}


def resolve(text: str) -> Region:
    """The region that a text names: `FR`, `FRA`, `US-CA`, `CAMX`, `SE4`, `France`, `aws:us-east-1`.

    A basis may follow: `US-CA@direct`, `gcp:us-central1@provider`. Raises ConfigError, with the nearest
    matches, if no region or more than one is meant, and for a place that has no figure of that basis.
    """
    with using(INTENSITIES, CLOUD_REGIONS, PLACES):
        place, at, basis = text.rpartition("@")
        if not at:
            return _resolve(" ".join(text.split()))
        return _on_basis(_resolve(" ".join(place.split())), basis.strip().lower())


def _resolve(wanted: str) -> Region:
    zones = {} if ":" in wanted else _zones(wanted)
    if len(zones) > 1:
        raise _ambiguous(wanted, zones)
    if zones:
        return _region(next(iter(zones)))
    cloud = cloud_row(wanted[:LONGEST])
    if cloud is not None:
        return _cloud_region(cloud)
    others = [] if ":" in wanted else meanings(wanted[:LONGEST])
    if len(others) > 1:
        raise _ambiguous(wanted, {zone: _region(zone).name for _, zone in others})
    if others:
        return _other_region(wanted, others[0])
    raise _unknown("cloud region" if ":" in wanted else "region", wanted)


def _ambiguous(wanted: str, zones: Mapping[str, str]) -> ConfigError:
    choice = ", ".join(f"{zone} ({name})" for zone, name in zones.items())
    return ConfigError(
        f"region {wanted!r} is ambiguous: {choice}; give the code: --region {next(iter(zones))}"
    )


def _other_region(wanted: str, meant: OtherName) -> Region:
    """The region of another name; a part of a zone and a grid have the zone's figure, which the note says."""
    if meant.kind == GRID:
        code = plain(wanted).upper().replace(" ", "-")
        grid = _with_figure_of(code, code, meant.zone, f"the table has no figure for the grid {code}")
        return grid._replace(em_zone=code)
    whole = _region(meant.zone)
    if meant.kind != PART:
        return whole
    note = f"{wanted} is a part of {whole.name} ({whole.zone}), whose figure is used"
    note = "; ".join(filter(None, (note, whole.note)))
    return whole._replace(note=note, intensity=whole.intensity._replace(note=note))


def _on_basis(region: Region, basis: str) -> Region:
    """The region with the newest figure of a basis; raises ConfigError if it has none."""
    if basis not in BASES:
        raise ConfigError(f"region: @{basis:.40} is none of @{', @'.join(BASES)}")
    code = ":".join(region.cloud or ()) or region.zone
    if basis == "provider":
        found = _provider_intensity(region)
    elif region.intensity.basis == basis:
        return region._replace(chosen_basis=basis)
    else:
        zone = region.intensity.zone
        if basis == "direct" and region.cloud is not None:
            zone = _subregion(code) or zone
        same = [row for row in rows(INTENSITIES, "zone", (zone,)) if row["basis"] == basis]
        newest = max(same, key=lambda row: row["data_year"], default=None)
        found = None if newest is None else table_intensity(newest)
    if found is None:
        known = f"{region.intensity.g_per_kwh:g} gCO2e/kWh, {region.intensity.basis}"
        raise ConfigError(f"region {code}@{basis}: there is no such figure; without @{basis} it is {known}")
    note = "; ".join(filter(None, (found.note, *([f"{code} lies in {region.zone}"] if region.cloud else []))))
    return region._replace(intensity=found._replace(note=note), note=note, chosen_basis=basis)


def _provider_intensity(region: Region) -> Intensity | None:
    if region.cloud is None:
        return None
    row = cloud_row(":".join(region.cloud))
    g_per_kwh = None if row is None else provider_g_per_kwh(row)
    if g_per_kwh is None:
        return None
    return region.intensity._replace(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh,
        high_g_per_kwh=g_per_kwh,
        source=_PROVIDERS_SOURCE.get(region.cloud[0], f"published by {region.cloud[0]}"),
        basis="direct",  # its README: "average operational gross emissions per unit of energy from the grid"
        accounting="consumption",
        year=2024,
        note="",
    )


def _subregion(code: str) -> str:
    """The eGRID subregion in which a US cloud region lies; "" elsewhere, and where that is not known."""
    return next((row["zone"] for row in rows(PLACES, "kind", (SUBREGION,)) if _lists(row, code)), "")


def _lists(row: Row, code: str) -> bool:
    return code in row["names"].split("|")


def _zones(wanted: str) -> dict[str, str]:
    """Zone → name of the matches of a text: a zone's code before a country's alpha-3 before names."""
    code, *others = _codes(wanted)
    names = (fold_case(wanted), plain(wanted))
    by_zone: dict[str, str] = {}
    by_alpha3: dict[str, str] = {}
    by_name: dict[str, str] = {}
    by_other: dict[str, str] = {}
    for row in rows(INTENSITIES):
        if row["zone"] == code:
            by_zone[row["zone"]] = row["name"]
        elif row["iso_alpha3"] == code and row["zone_type"] == "country":
            by_alpha3[row["zone"]] = row["name"]
        elif row["name"].lower() in names:
            by_name[row["zone"]] = row["name"]
        elif row["zone"] in others:
            by_other[row["zone"]] = row["name"]
    for other in (code, *others):
        if other in _NOT_IN_TABLE:
            by_other[other] = _NOT_IN_TABLE[other][0]
    return by_zone or by_alpha3 or by_name or by_other


def _codes(wanted: str) -> list[str]:
    """The codes that a text may be, best first: `us ca` is US-CA, `CAMX` EGRID-CAMX, `SE4` SE-SE4."""
    code = wanted.upper()
    dashed = re.sub(r"[\s_/.-]+", "-", code)
    codes = [code, dashed, f"EGRID-{code}"]
    if re.fullmatch(r"[A-Z]{2}\d", code):
        codes.append(f"{code[:2]}-{code}")
    return [_OTHER_CODES.get(each, each) for each in codes]


def _region(zone: str) -> Region:
    """The region of a zone of the table; with the figure of a wider zone if its own may not be used."""
    if zone in _NOT_IN_TABLE:
        name, replacement = _NOT_IN_TABLE[zone]
        return _with_figure_of(zone, name, replacement, f"the table has no figure for {name} ({zone})")
    found = list(rows(INTENSITIES, "zone", (zone,)))
    usable = next((row for row in found if row["preferred"] == "1"), None)
    if usable is not None:
        intensity = table_intensity(usable)
        return Region(zone, usable["name"], intensity, note=intensity.note)
    unusable = found[0]
    name, country = unusable["name"], unusable["iso_alpha2"]
    replacement = _REPLACEMENT_ZONES.get(zone) or (country if country and country != zone else WORLD)
    if replacement == zone:
        raise ValueError(f"{zone} has no figure that may be used")
    why = f"the table's figure for {name} ({zone}) is unusable ({unusable['note'].partition(';')[0]})"
    return _with_figure_of(zone, name, replacement, why)


def _with_figure_of(zone: str, name: str, replacement: str, why: str) -> Region:
    """The region of a zone with the figure of another zone."""
    wider = _region(replacement)
    note = f"{why}: that of {wider.name} ({wider.zone}) is used instead"
    if wider.note:
        note += f"; {wider.note}"
    return wider._replace(zone=zone, name=name, intensity=wider.intensity._replace(note=note), note=note)


def _cloud_region(row: Row) -> Region:
    region = _region(row["zone"])
    notes = [f"{cloud_code(row)} lies in {row['zone']} ({region.name})", region.note]
    own = provider_g_per_kwh(row)
    if own is not None:
        notes.append(
            f"the provider's own hourly load-weighted figure for 2024 is {own:g} gCO2e/kWh (@provider)"
        )
    subregion = _subregion(cloud_code(row)) if row["country_iso2"] == "US" else ""
    if subregion:
        grid = _region(subregion).intensity
        what = f"{grid.g_per_kwh:g} gCO2e/kWh, {grid.basis}, {grid.year}"
        notes.append(f"its grid subregion {subregion} has {what} (@direct)")
    note = "; ".join(filter(None, notes))
    region_pue, provider_pue, pue_note = pues(row)
    return region._replace(
        name=row["location"],
        cloud=(row["provider"], row["region"]),
        region_pue=region_pue,
        provider_pue=provider_pue,
        pue_note=pue_note,
        note=note,
        em_zone=row["em_zone"],
        intensity=region.intensity._replace(note=note),
    )


def _unknown(what: str, text: str) -> ConfigError:
    if not text.strip():
        return ConfigError(
            f"{what} '' is unknown: no place is given, as by a variable that is not set; give for instance "
            "--region FR"
        )
    return ConfigError(
        f"{what} {text[:LONGEST]!r} is unknown; the nearest are {', '.join(nearest(text))}; "
        "give a code of the table, for instance --region FR"
    )
