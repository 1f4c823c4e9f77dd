"""A release of CodeCarbon (its wheel, MIT): newer figures of US states, provinces of China and Nordic zones.

They are official statistics that CodeCarbon has put into files: EPA's eGRID, the announcement of China's
ministry of ecology, ENTSO-E's generation by zone with CodeCarbon's factors. Rows of other sources stay as
they are. Nothing of the wheel is run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from carbonmon.core.records import NamedTuple
from carbonmon.data.table import LONGEST_BYTES, Fault, Place, Record, Table, TableError

KG_PER_LB = 0.45359237
_WHEEL = re.compile(r"codecarbon-([0-9][^-]*)-.*\.whl")
_VERSION = re.compile(r"(?<=CodeCarbon )[0-9][^ )]*")
_EGRID = re.compile(r"eGRID20[0-9]{2}(?: rev[0-9]+)?")


class Zone(NamedTuple):
    """A figure in gCO2e/kWh as the table writes it, its year, and the note of its row."""

    g_per_kwh: str
    year: int
    note: str = ""


def is_release(path: Path) -> bool:
    """Whether it is called like a wheel of CodeCarbon."""
    return _WHEEL.fullmatch(path.name) is not None


def merge(path: Path, table: Table) -> list[str]:
    """Put the wheel's newer figures into the intensity table; notes on what was left out.

    Raises TableError for a file that is no such wheel, or that has a figure that is none.
    """
    hit = _WHEEL.fullmatch(path.name)
    version = hit[1] if hit else ""
    notes: list[str] = []
    for zone_type, name, read in _FILES:
        try:
            zones = dict(read(_newest(path, name)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TableError(
                [Fault(Place(path, 1), f"{name} is not as it used to be: {error!r:.200}")]
            ) from None
        rows = {
            record.row["zone"]: record
            for record in table.records
            if record.row["zone_type"] == zone_type and "CodeCarbon" in record.row["source"]
        }
        for code, zone in zones.items():
            record = rows.get(code)
            if record is None:
                notes.append(f"{name}: {code} is no row of the table that is from there: left out")
            elif zone.year < int(record.row["data_year"]):
                notes.append(f"{name}: {code}: the table's figure of {record.row['data_year']} is newer")
            else:
                _take(record, zone, version)
    return notes


def _take(record: Record, zone: Zone, version: str) -> None:
    row = record.row
    before = row["intensity_gco2eq_per_kwh"], row["data_year"]
    if (zone.g_per_kwh, str(zone.year)) == before and zone.note in ("", row["note"]):
        return
    row["intensity_gco2eq_per_kwh"], row["data_year"] = zone.g_per_kwh, str(zone.year)
    row["source_year"] = str(max(int(row["source_year"]), zone.year + 1))
    row["source"] = _EGRID.sub(f"eGRID{zone.year}", _VERSION.sub(version, row["source"]))
    row["note"] = zone.note or row["note"]


def _newest(path: Path, name: str) -> Mapping[str, Any]:
    """The JSON file of this name; of those of several years the newest, by the folder that it lies in."""
    try:
        with zipfile.ZipFile(path) as wheel:
            members = [info for info in wheel.infolist() if info.filename.endswith(f"/{name}")]
            if not members:
                raise TableError([Fault(Place(path, 1), f"it has no {name}")])
            member = max(members, key=lambda info: info.filename)
            if member.file_size > LONGEST_BYTES:
                raise TableError([Fault(Place(path, 1), f"{member.filename} is larger than 64 MiB")])
            found: Mapping[str, Any] = json.loads(wheel.read(member))
            return found
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise TableError([Fault(Place(path, 1), f"no wheel that can be read: {error}")]) from None


def _states(document: Mapping[str, Any]) -> Iterator[tuple[str, Zone]]:
    """lb/MWh, direct; the year is that of eGRID."""
    year = int(document["_source"]["year"])
    for name, row in document.items():
        if not name.startswith("_") and row["regionCode"].upper() != "USA":
            yield f"US-{row['regionCode'].upper()}", Zone(_text(float(row["emissions"]) * KG_PER_LB), year)


def _provinces(document: Mapping[str, Any]) -> Iterator[tuple[str, Zone]]:
    for code, row in document["data"].items():
        yield code, Zone(_text(float(row["emission_factor"])), int(row["year"]))


def _bidding_zones(document: Mapping[str, Any]) -> Iterator[tuple[str, Zone]]:
    """`coverage` is the note of the row: the share of generation that has a factor."""
    for code, row in document["data"].items():
        if "coverage" in row:
            zone = Zone(_text(float(row["emission_factor"])), int(row["year"]), row["coverage"])
            yield code if "-" in code else f"{code[:2]}-{code}", zone


def _text(g_per_kwh: float) -> str:
    return str(round(g_per_kwh, 2))


_Reader = Callable[[Mapping[str, Any]], Iterator[tuple[str, Zone]]]
_FILES: tuple[tuple[str, str, _Reader], ...] = (
    ("us_state", "usa_emissions.json", _states),
    ("cn_province", "china_provincial_emissions.json", _provinces),
    ("bidding_zone", "nordic_emissions.json", _bidding_zones),
)
