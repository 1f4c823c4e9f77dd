"""Finds a place by code, name or cloud region in the bundled tables of annual carbon intensity.

Both tables are streamed at each question and nothing of them is kept. Sources: `data/SOURCES.md`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from carbonmon.errors import ConfigError
from carbonmon.model import Intensity

_DATA = Path(__file__).parents[1] / "data"
_INTENSITIES = _DATA / "carbon_intensity.csv"
_CLOUD_REGIONS = _DATA / "cloud_regions.csv"

WORLD = "WORLD"
_OTHER_CODES = {"UK": "GB", "EL": "GR"}
"""Codes in everyday use that ISO 3166 spells otherwise."""
_STANDS_IN = {"CN-HK": "HK"}
"""Zones without a usable row whose stand-in is nearer than their country."""
LONGEST = 100
"""Characters of a user's words that are compared and shown; no place has a longer name."""
_OLD_YEAR = 2019
_FULL_COVERAGE_PERCENT = 90.0

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Region:
    """A place and the annual carbon intensity of its electricity.

    `cloud` is (provider, region) if the place was given as a cloud region. The PUEs are those that
    the provider states for the region and for its whole fleet; they are for showing, nothing applies
    them. `note` says what a reader of the figure ought to know, among it every fallback.
    """

    zone: str
    name: str
    intensity: Intensity
    cloud: tuple[str, str] | None = None
    region_pue: float | None = None
    provider_pue: float | None = None
    pue_note: str = ""
    note: str = ""


def resolve(text: str) -> Region:
    """The region that a user's words mean: `FR`, `FRA`, `US-CA`, `EGRID-CAMX`, `France`, `aws:us-east-1`.

    Raises ConfigError, with the nearest matches, if no region or more than one is meant.
    """
    wanted = " ".join(text.split())
    if ":" in wanted:
        return _resolve_cloud(wanted)
    zones = _zones(wanted)
    if len(zones) > 1:
        choice = ", ".join(f"{zone} ({name})" for zone, name in zones.items())
        raise ConfigError(
            f"region {text!r} is ambiguous: {choice}; give the code: --region {next(iter(zones))}"
        )
    if not zones:
        raise _unknown("region", text)
    return _region(next(iter(zones)))


def nearest(text: str, n: int = 5) -> tuple[str, ...]:
    """The n regions most like the text, best first, as `FR (France)`; cloud regions among them."""
    import difflib
    import heapq

    wanted = _folded(text[:LONGEST])
    matcher = difflib.SequenceMatcher(b=wanted)

    def likeness(code: str, name: str) -> float:
        best = 0.0
        for word in (_folded(code), _folded(name)):
            matcher.set_seq1(word)
            contained = len(wanted) > 2 and wanted in word
            begun = wanted.startswith(f"{word}-")  # FR for FR-IDF
            best = max(best, matcher.ratio() + 0.5 * (contained or begun))
        return best

    places = [(row["zone"], row["name"]) for row in _rows(_INTENSITIES) if row["preferred"] == "1"]
    places += [(_cloud_code(row), row["location"]) for row in _rows(_CLOUD_REGIONS)]
    hits = heapq.nlargest(n, places, key=lambda place: likeness(*place))
    return tuple(f"{code} ({name})" for code, name in hits)


def preferred_rows() -> Iterator[Row]:
    """The rows of the intensity table that may be used: at most one a zone."""
    return (row for row in _rows(_INTENSITIES) if row["preferred"] == "1")


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


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as table:
        yield from csv.DictReader(table)


def _folded(text: str) -> str:
    """Lower case without accents, so that `Québec` is Quebec."""
    if not text.isascii():
        import unicodedata

        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.lower()


def _zones(wanted: str) -> dict[str, str]:
    """Zone → name of what the text may mean: a zone's code before a country's alpha-3 before names."""
    code = _OTHER_CODES.get(wanted.upper(), wanted.upper())
    name = _folded(wanted)
    by_zone: dict[str, str] = {}
    by_alpha3: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for row in _rows(_INTENSITIES):
        if row["zone"] == code:
            by_zone[row["zone"]] = row["name"]
        elif row["iso_alpha3"] == code and row["zone_type"] == "country":
            by_alpha3[row["zone"]] = row["name"]
        elif row["name"].lower() == name:
            by_name[row["zone"]] = row["name"]
    return by_zone or by_alpha3 or by_name


def _region(zone: str) -> Region:
    """The region of a zone of the table; the next wider place if its own row may not be used."""
    rows = [row for row in _rows(_INTENSITIES) if row["zone"] == zone]
    usable = next((row for row in rows if row["preferred"] == "1"), None)
    if usable is not None:
        intensity = table_intensity(usable)
        return Region(zone, usable["name"], intensity, note=intensity.note)
    unusable = rows[0]
    country = unusable["iso_alpha2"]
    wider = _region(_STANDS_IN.get(zone) or (country if country and country != zone else WORLD))
    note = (
        f"the table's figure for {unusable['name']} ({zone}) is unusable "
        f"({unusable['note'].partition(';')[0]}): that of {wider.name} ({wider.zone}) stands in"
    )
    if wider.note:
        note += f"; {wider.note}"
    intensity = wider.intensity._replace(note=note)
    return replace(wider, zone=zone, name=unusable["name"], intensity=intensity, note=note)


def _note(row: Row) -> str:
    """What a reader ought to know about a row: old data, and generation that it leaves out."""
    notes: list[str] = []
    if int(row["data_year"]) <= _OLD_YEAR:
        notes.append(f"data of {row['data_year']}: the grid may have changed since")
    if row["zone_type"] == "bidding_zone":
        covered = float(row["note"].partition("%")[0])
        bound = "a lower bound: " if covered < _FULL_COVERAGE_PERCENT else ""
        notes.append(f"{bound}covers {row['note'].replace('% (', ' % of generation (')}")
    return "; ".join(notes)


def _cloud_code(row: Row) -> str:
    return f"{row['provider']}:{row['region']}"


def _resolve_cloud(wanted: str) -> Region:
    code = wanted.lower().replace(" ", "")
    row = next((row for row in _rows(_CLOUD_REGIONS) if _cloud_code(row).lower() == code), None)
    if row is None:
        raise _unknown("cloud region", wanted)
    region = _region(row["zone"])
    notes = [f"{_cloud_code(row)} lies in {row['zone']} ({region.name})", region.note]
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
        intensity=region.intensity._replace(note=note),
    )


def _unknown(what: str, text: str) -> ConfigError:
    return ConfigError(
        f"{what} {text[:LONGEST]!r} is unknown; the nearest are {', '.join(nearest(text))}; "
        "give a code of the table, for instance --region FR"
    )
