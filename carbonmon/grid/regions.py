"""Finds a place by code, name or cloud region in the tables of annual carbon intensity.

Both tables are read line by line at each look-up and nothing of them is kept. Each look-up raises ConfigError
for a table that cannot be used. Sources: `data/SOURCES.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.data import CLOUD_REGIONS, INTENSITIES, Row, rows, using

WORLD = "WORLD"
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
_OTHER_PROVIDERS = {"amazon": "aws", "google": "gcp", "microsoft": "azure"}
_CLOUD = re.compile(r"([A-Za-z]+)(?:\s*:\s*|\s*/\s*|[\s_-]+)(\S.*)")
"""A provider and a region as people write them: `aws:us-east-1`, `aws/us-east-1`, `AWS us-east-1`."""
_CLOUD_ZONE = {"aws": re.compile(r"(?<=\d)[a-f]$"), "gcp": re.compile(r"-[a-f]$")}
"""The suffix of an availability zone of a region: `us-east-1a`, `us-central1-a`."""
LONGEST = 100
"""Characters of a user's text that are compared and shown; no place has a longer name."""
OLD_YEAR = 2019
"""Of data so old or older it is said that the grid may have changed since."""
FULL_COVERAGE_PERCENT = 90.0
"""Below, a bidding zone's figure is a lower bound: part of the generation is not covered."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place and the annual carbon intensity of its electricity.

    `cloud` is (provider, region) if the place was given as a cloud region; then `em_zone` is Electricity
    Maps' name of its grid, "" otherwise. The PUEs are those that the provider states for the region and
    for its whole fleet; they are only shown, not applied. `note` holds remarks on the figure, among them
    every replacement by another zone.
    """

    zone: str
    name: str
    intensity: Intensity
    cloud: tuple[str, str] | None = None
    region_pue: float | None = None
    provider_pue: float | None = None
    pue_note: str = ""
    note: str = ""
    em_zone: str = ""


def resolve(text: str) -> Region:
    """The region that a text names: `FR`, `FRA`, `US-CA`, `CAMX`, `SE4`, `France`, `aws:us-east-1`.

    Raises ConfigError, with the nearest matches, if no region or more than one is meant.
    """
    with using(INTENSITIES, CLOUD_REGIONS):
        return _resolve(" ".join(text.split()))


def _resolve(wanted: str) -> Region:
    zones = {} if ":" in wanted else _zones(wanted)
    if len(zones) > 1:
        choice = ", ".join(f"{zone} ({name})" for zone, name in zones.items())
        raise ConfigError(
            f"region {wanted!r} is ambiguous: {choice}; give the code: --region {next(iter(zones))}"
        )
    if zones:
        return _region(next(iter(zones)))
    cloud = _cloud_row(wanted)
    if cloud is not None:
        return _cloud_region(cloud)
    raise _unknown("cloud region" if ":" in wanted else "region", wanted)


def nearest(text: str, n: int = 5) -> tuple[str, ...]:
    """The n regions most similar to the text, best first, as `FR (France)`; cloud regions included."""
    import difflib
    import heapq

    wanted = fold_case(text[:LONGEST])
    matcher = difflib.SequenceMatcher(b=wanted)

    def similarity(code: str, name: str) -> float:
        best = 0.0
        for word in (fold_case(code), fold_case(name)):
            matcher.set_seq1(word)
            contained = len(wanted) > 2 and wanted in word
            begun = wanted.startswith(f"{word}-")  # FR for FR-IDF
            best = max(best, matcher.ratio() + 0.5 * (contained or begun))
        return best

    places = [(row["zone"], row["name"]) for row in preferred_rows()]
    places += [(cloud_code(row), row["location"]) for row in cloud_rows()]
    hits = heapq.nlargest(n, places, key=lambda place: similarity(*place))
    return tuple(f"{code} ({name})" for code, name in hits)


def preferred_rows() -> Iterator[Row]:
    """The rows of the intensity table that may be used: at most one a zone."""
    return (row for row in rows(INTENSITIES) if row["preferred"] == "1")


def zone_rows() -> Iterator[Row]:
    """All rows of the intensity table, including those of another basis or without a usable figure."""
    return rows(INTENSITIES)


def cloud_rows() -> Iterator[Row]:
    """The cloud regions."""
    return rows(CLOUD_REGIONS)


def table_intensity(row: Row) -> Intensity:
    """A row of the table as an intensity in gCO2e/kWh without a range: the user chose the place."""
    g_per_kwh = float(row["intensity_gco2eq_per_kwh"])
    return Intensity(
        g_per_kwh,
        g_per_kwh,
        g_per_kwh,
        zone=row["zone"],
        source=row["source"],
        kind="table",
        basis=row["basis"],
        accounting=row["accounting"],
        year=int(row["data_year"]),
        note=_note(row),
    )


def fold_case(text: str) -> str:
    """Lower case without accents, so that `Québec` is Quebec."""
    if not text.isascii():
        import unicodedata

        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.lower()


def _zones(wanted: str) -> dict[str, str]:
    """Zone → name of the matches of a text: a zone's code before a country's alpha-3 before names."""
    code, *others = _codes(wanted)
    name = fold_case(wanted)
    by_zone: dict[str, str] = {}
    by_alpha3: dict[str, str] = {}
    by_name: dict[str, str] = {}
    by_other: dict[str, str] = {}
    for row in rows(INTENSITIES):
        if row["zone"] == code:
            by_zone[row["zone"]] = row["name"]
        elif row["iso_alpha3"] == code and row["zone_type"] == "country":
            by_alpha3[row["zone"]] = row["name"]
        elif row["name"].lower() == name:
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
    found = [row for row in rows(INTENSITIES) if row["zone"] == zone]
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
    return replace(wider, zone=zone, name=name, intensity=wider.intensity._replace(note=note), note=note)


def _note(row: Row) -> str:
    """Remarks on a row: old data, and generation that it leaves out."""
    notes: list[str] = []
    if int(row["data_year"]) <= OLD_YEAR:
        notes.append(f"data of {row['data_year']}: the grid may have changed since")
    if row["zone_type"] == "bidding_zone":
        covered = float(row["note"].partition("%")[0])
        bound = "a lower bound: " if covered < FULL_COVERAGE_PERCENT else ""
        notes.append(f"{bound}covers {row['note'].replace('% (', ' % of generation (')}")
    return "; ".join(notes)


def cloud_code(row: Row) -> str:
    """The code of a cloud region: `aws:us-east-1`."""
    return f"{row['provider']}:{row['region']}"


def _cloud_row(wanted: str) -> Row | None:
    """The cloud region that a text names, by its code or by that of an availability zone in it."""
    match = _CLOUD.fullmatch(wanted[:LONGEST])
    if match is None:
        return None
    provider = _OTHER_PROVIDERS.get(match[1].lower(), match[1].lower())
    region = match[2].lower()
    wider = _CLOUD_ZONE[provider].sub("", region) if provider in _CLOUD_ZONE else region
    found = {_joined(row["region"]): row for row in rows(CLOUD_REGIONS) if row["provider"] == provider}
    return found.get(_joined(region)) or found.get(_joined(wider))


def _joined(region: str) -> str:
    """A region's code without separators between its parts: `west europe`, `us_east_1`."""
    return re.sub(r"[\s_-]+", "", region.lower())


def _cloud_region(row: Row) -> Region:
    region = _region(row["zone"])
    notes = [f"{cloud_code(row)} lies in {row['zone']} ({region.name})", region.note]
    if row["provider_gco2_per_kwh_2024"]:
        notes.append(
            f"the provider's own hourly load-weighted figure for 2024 is "
            f"{float(row['provider_gco2_per_kwh_2024']):g} gCO2e/kWh"
        )
    note = "; ".join(filter(None, notes))
    region_pue = float(row["region_pue"]) if row["region_pue"] else None
    provider_pue = float(row["provider_pue"]) if row["provider_pue"] else None
    pues = []
    if region_pue is not None:
        pues.append(f"{region_pue:g} for the region ({row['region_pue_year']})")
    if provider_pue is not None:
        pues.append(f"{provider_pue:g} for the provider ({row['provider_pue_note']})")
    return replace(
        region,
        name=row["location"],
        cloud=(row["provider"], row["region"]),
        region_pue=region_pue,
        provider_pue=provider_pue,
        pue_note=f"PUE {', '.join(pues)}: stated, not applied" if pues else "",
        note=note,
        em_zone=row["em_zone"],
        intensity=region.intensity._replace(note=note),
    )


def _unknown(what: str, text: str) -> ConfigError:
    return ConfigError(
        f"{what} {text[:LONGEST]!r} is unknown; the nearest are {', '.join(nearest(text))}; "
        "give a code of the table, for instance --region FR"
    )
