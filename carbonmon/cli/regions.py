"""`carbonmon regions`: finds zones, countries and cloud regions, and shows what their figures mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from carbonmon.cli import printing, terminal
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.core.records import NamedTuple
from carbonmon.core.text_layout import columns_of, cut, fitting_columns
from carbonmon.data import Row
from carbonmon.grid.annual import FULL_COVERAGE_PERCENT, OLD_YEAR, Region, zone_rows
from carbonmon.grid.cloud_regions import cloud_code, cloud_rows
from carbonmon.grid.nearest_places import LONGEST, fold_case
from carbonmon.grid.regions import resolve

MOST_ROWS = 40
"""Of a list for people; JSON has all."""
_NAME_WIDTH, _SHORT_NAME = 30, 14
"""Columns of a name on a terminal: at most, and if others are to find room."""
_HEADS = ("CODE", "NAME", "g/kWh", "BASIS", "ACCOUNTING", "YEAR", "ZONE", "PUE", "SOURCE")
_OF_CLOUDS = frozenset(("ZONE", "PUE"))
_BY_WEIGHT = ("CODE", "g/kWh", "BASIS", "NAME", "YEAR", "ACCOUNTING", "ZONE", "PUE", "SOURCE")
"""Columns by how much they are needed on a narrow terminal."""
_GROUPS = {"nordic": ("DK", "FI", "IS", "NO", "SE"), "nordics": ("DK", "FI", "IS", "NO", "SE")}
"""Words for several countries, which no row of the tables has."""
_KINDS = {
    "country": ("country", "countries"),
    "us_state": ("US state", "US states"),
    "egrid_subregion": ("eGRID subregion", "eGRID subregions"),
    "ca_province": ("Canadian province", "Canadian provinces"),
    "cn_province": ("Chinese province", "Chinese provinces"),
    "in_state": ("Indian state", "Indian states"),
    "au_state": ("Australian region", "Australian regions"),
    "bidding_zone": ("bidding zone", "bidding zones"),
    "region": ("group of countries", "groups of countries"),
    "world": ("the world", "the world"),
}
"""What a row's `zone_type` is called, and what several are; other kinds are clouds."""


class Hit(NamedTuple):
    """One place: its code as `--region` takes it, what it is, its row, and its zone's rows of intensity."""

    code: str
    name: str
    kind: str
    row: Row
    figures: list[Row]

    @property
    def used(self) -> Row | None:
        """The row of its figure; None where another zone's stands in."""
        return next((row for row in self.figures if row["preferred"] == "1"), None)

    def row_of(self, intensity: Intensity) -> Row | None:
        """The row that a figure is from; None for another zone's, and for a provider's own."""
        told = (intensity.source, intensity.basis, str(intensity.year))
        same = (row for row in self.figures if (row["source"], row["basis"], row["data_year"]) == told)
        return next(same, None)


@click.command("regions")
@printing.format_option("text", "json")
@click.argument("words", nargs=-1, metavar="[WORDS…]")
def command(words: tuple[str, ...], form: str) -> None:
    """Find a zone, a country, a cloud region, and the intensity there.

    WORDS are a code, a name or parts of them: FR, france, US-CA, aws, aws:us-east-1, frankfurt, nordic. A
    basis may follow the code: US-CA@direct, US-CA@lifecycle, gcp:us-central1@provider.
    """
    text = " ".join(" ".join(words).split())
    try:
        places = list(_places())
        found, meant = _find(text, places) if text else ([], None)
        regions = [meant] if meant is not None else []
        if not regions and (form == "json" or len(found) == 1):
            regions = [resolve(hit.code) for hit in found]
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if form == "json":
        document: dict[str, Any] = {"schema": "carbonmon.regions/1", "query": text}
        if text:
            document["regions"] = [_document(*pair) for pair in zip(found, regions, strict=True)]
        else:
            document["counts"] = Counter(hit.kind for hit in places)
        printing.show_document(printing.json_text(document))
    elif not text:
        _show_counts(places)
    elif len(found) == 1:
        _show_one(found[0], regions[0], places)
    else:
        _show_list(found, text)


def _places() -> Iterator[Hit]:
    """Every zone once and every cloud region."""
    zones: dict[str, list[Row]] = {}
    for row in zone_rows():
        zones.setdefault(row["zone"], []).append(row)
    for zone, figures in zones.items():
        yield Hit(zone, figures[0]["name"], figures[0]["zone_type"], figures[0], figures)
    for row in cloud_rows():
        yield Hit(cloud_code(row), row["location"], row["provider"], row, zones.get(row["zone"], []))


def _find(text: str, places: list[Hit]) -> tuple[list[Hit], Region | None]:
    """The place that the words mean, else all that have each word; raises ConfigError if there is none."""
    try:
        region = resolve(text)
    except ConfigError as error:
        if "@" in text:
            raise ConfigError(_without_option(str(error))) from None
        wanted = fold_case(text[:LONGEST]).split()
        found = [hit for hit in places if all(_has(hit, word) for word in wanted)]
        if not found:
            raise ConfigError(_without_option(str(error))) from None
        return found, None
    code = ":".join(region.cloud) if region.cloud else region.zone
    exact = [hit for hit in places if hit.code == code]
    return exact or [Hit(code, region.name, "bidding_zone", {}, [])], region


def _without_option(text: str) -> str:
    return text.partition("; give a code of the table")[0]


def _has(hit: Hit, word: str) -> bool:
    row = hit.row
    country = row.get("country_iso2") or row.get("iso_alpha2", "")
    if word in _GROUPS:
        return country in _GROUPS[word]
    if "-" in word or ":" in word:
        return hit.code.lower().startswith(word) or fold_case(row["zone"]).startswith(word)
    alpha3 = row.get("iso_alpha3", "") if hit.kind == "country" else ""
    text = fold_case(f"{hit.code} {hit.name} {country} {alpha3} {row['zone']}")
    tokens = re.split(r"[^a-z0-9]+", text)
    if len(word) < 3:
        return word in tokens
    return any(token.startswith(word) for token in tokens) or (len(word) > 3 and word in text)


def _show_counts(places: list[Hit]) -> None:
    counts = Counter(hit.kind for hit in places)
    printing.echo("The tables have the annual carbon intensity of")
    for kind, (_, plural) in _KINDS.items():
        if kind in counts:
            printing.echo(f"  {counts.pop(kind):>5}  {plural}")
    clouds = ", ".join(f"{provider} {count}" for provider, count in counts.items())
    printing.echo(f"  {sum(counts.values()):>5}  cloud regions: {clouds}")
    printing.echo()
    printing.echo(
        "Find one by words: carbonmon regions france, carbonmon regions aws, carbonmon regions nordic"
    )


def _show_list(found: list[Hit], text: str) -> None:
    width = terminal.width()
    if len({(hit.used["basis"], hit.used["accounting"]) for hit in found if hit.used is not None}) > 1:
        printing.echo("Figures of different basis or accounting count different things: do not compare them.")
    notes: dict[str, list[str]] = {}
    rows = []
    for hit in found[:MOST_ROWS]:
        note = _short_note(hit)
        if note:
            notes.setdefault(note, []).append(hit.code)
        rows.append(dict(zip(_HEADS, _cells(hit), strict=True)))
    columns = [head for head in _HEADS if head not in _OF_CLOUDS or any(":" in hit.code for hit in found)]
    shown = columns
    if width is not None:
        rows = [row | {"NAME": cut(row["NAME"], _NAME_WIDTH)} for row in rows]
        widths = {head: max(columns_of(row[head]) for row in (*rows, {head: head})) for head in columns}
        widths["NAME"] = min(widths["NAME"], _SHORT_NAME)
        shown = fitting_columns(widths, _BY_WEIGHT, width)
    table = [shown, *([row[head] for head in shown] for row in rows)]
    place = shown.index("NAME") if "NAME" in shown else None
    printing.show_table(table, numbers=(shown.index("g/kWh"),), cuts=place)
    left_out = [head for head in columns if head not in shown]
    if left_out:
        printing.echo(f"not shown, for the width: {', '.join(left_out).lower()}")
    more = len(found) - MOST_ROWS
    if more > 0:
        printing.echo(f"and {more} more: give more words, or --format json")
    for note, codes in notes.items():
        names = ", ".join(codes[:6]) + (f" and {len(codes) - 6} more" if len(codes) > 6 else "")
        printing.echo(f"  {names}: {note}")
    printing.echo()
    printing.echo(f"{len(found)} places have {text!r}; one in detail: carbonmon regions {found[0].code}")


def _cells(hit: Hit) -> tuple[str, ...]:
    """The cells of a place, as `_HEADS` names them."""
    used, is_cloud = hit.used, ":" in hit.code
    return (
        hit.code,
        hit.name,
        *(_figures(used) if used is not None else ("–", "", "", "")),
        hit.row["zone"] if is_cloud else "",
        hit.row["region_pue"] or hit.row["provider_pue"] or "–" if is_cloud else "",
        used["source"] if used is not None else "",
    )


def _figures(row: Row) -> tuple[str, str, str, str]:
    return f"{float(row['intensity_gco2eq_per_kwh']):.5g}", row["basis"], row["accounting"], row["data_year"]


def _short_note(hit: Hit) -> str:
    """Why the figure of a list deserves a second look; the details say more."""
    used = hit.used
    if used is None:
        return "no figure that may be used: a wider zone's is used instead"
    if int(used["data_year"]) <= OLD_YEAR:
        return f"data of {used['data_year']}: the grid may have changed since"
    if used["zone_type"] == "bidding_zone" and float(used["note"].partition("%")[0]) < FULL_COVERAGE_PERCENT:
        return "a lower bound: part of the generation is not covered"
    return ""


def _show_one(hit: Hit, region: Region, places: list[Hit]) -> None:
    intensity = region.intensity
    kind, _ = _KINDS.get(hit.kind, ("cloud region", ""))
    printing.echo(f"{hit.code}  {region.name}  ({kind}){_warning(intensity)}")
    used = hit.row_of(intensity)
    gases = f", {used['gases']}" if used is not None else ""
    what = f"{intensity.basis}, {intensity.accounting}{gases}, data of {intensity.year}"
    lines = [("intensity", f"{intensity.g_per_kwh:.5g} gCO2e/kWh: {what}")]
    if intensity.zone != hit.code:
        lines.append(("figure of", intensity.zone))
    lines.append(("source", intensity.source if used is None else _source(used)))
    if region.cloud:
        lines += _cloud_lines(hit.row, region)
    if region.note:
        lines.append(("note", region.note))
    lines += [("also known", f"{_other(row)}, not used") for row in hit.figures if row is not used]
    if not region.cloud:
        lines += _related(hit, places)
    code = f"{hit.code}@{region.chosen_basis}" if region.chosen_basis else hit.code
    lines.append(("use it", f"carbonmon run --region {code} -- COMMAND"))
    printing.show_table(lines, indent="  ", wraps=1)


def _warning(intensity: Intensity) -> str:
    """What a reader must know before the figure: that it is not of the usual basis, or old."""
    parts = []
    if intensity.basis == "direct":
        parts.append("direct emissions only: not comparable with lifecycle figures")
    if intensity.year is not None and intensity.year <= OLD_YEAR:
        parts.append(f"data of {intensity.year}")
    return f"  {'; '.join(parts)}" if parts else ""


def _source(row: Row) -> str:
    return f"{row['source']}, published {row['source_year']}, {row['licence']}, {row['source_url']}"


def _other(row: Row) -> str:
    g_per_kwh, basis, accounting, year = _figures(row)
    note = f" ({row['note']})" if row["note"] else ""
    return (
        f"{g_per_kwh} gCO2e/kWh: {basis}, {accounting}, {row['gases']}, data of {year}, {row['source']}{note}"
    )


def _cloud_lines(row: Row, region: Region) -> Iterator[tuple[str, str]]:
    if region.pue_note:
        yield "PUE", f"{region.pue_note.removeprefix('PUE ')}; --pue region or --pue provider applies it"
    else:
        yield "PUE", "none stated; --pue world applies the mean of data centres"
    if row["provider_gco2_per_kwh_2024"]:
        share = f", {row['provider_cfe_2024']} of it carbon-free" if row["provider_cfe_2024"] else ""
        own = float(row["provider_gco2_per_kwh_2024"])
        yield "own figure", f"{own:g} gCO2e/kWh in 2024, by {row['provider']}{share}"
    if region.em_zone:
        yield "live", f"{region.em_zone} is Electricity Maps' name of its grid"


def _related(hit: Hit, places: list[Hit]) -> Iterator[tuple[str, str]]:
    """Cloud regions in a zone, and zones in a country."""
    inside = [other.code for other in places if ":" in other.code and other.row["zone"] == hit.code]
    if hit.kind == "country":
        inside = [o.code for o in places if ":" in o.code and o.row["country_iso2"] == hit.code]
        parts = [o.code for o in places if ":" not in o.code and o.row["iso_alpha2"] == hit.code != o.code]
        if parts:
            yield "parts", _some(parts)
    if inside:
        yield "clouds here", _some(inside)


def _some(codes: list[str], most: int = 8) -> str:
    return ", ".join(codes[:most]) + (f" and {len(codes) - most} more" if len(codes) > most else "")


def _document(hit: Hit, region: Region) -> dict[str, Any]:
    intensity = region.intensity
    used = hit.row_of(intensity)
    cloud = None
    if region.cloud is not None:
        own = hit.row["provider_gco2_per_kwh_2024"]
        cloud = {
            "provider": region.cloud[0],
            "region": region.cloud[1],
            "zone": region.zone,
            "region_pue": region.region_pue,
            "provider_pue": region.provider_pue,
            "provider_g_per_kwh_2024": float(own) if own else None,
            "em_zone": region.em_zone or None,
        }
    return {
        "code": hit.code,
        "name": region.name,
        "type": "cloud_region" if cloud else hit.kind,
        "g_per_kwh": intensity.g_per_kwh,
        "zone": intensity.zone,
        "basis": intensity.basis,
        "accounting": intensity.accounting,
        "gases": used["gases"] if used is not None else None,
        "year": intensity.year,
        "source": intensity.source,
        "licence": used["licence"] if used is not None else None,
        "url": used["source_url"] if used is not None else None,
        "note": region.note or None,
        "cloud": cloud,
        "alternatives": [
            {
                "g_per_kwh": float(row["intensity_gco2eq_per_kwh"]),
                "basis": row["basis"],
                "accounting": row["accounting"],
                "gases": row["gases"],
                "year": int(row["data_year"]),
                "source": row["source"],
                "note": row["note"] or None,
            }
            for row in hit.figures
            if row is not used
        ],
    }
