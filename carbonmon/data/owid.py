"""Our World in Data's `carbon-intensity-electricity`: each country's newest year, into the intensity table.

Its columns are Entity, Code, Year and one value in gCO2e/kWh (Ember's yearly data, lifecycle, CC-BY-4.0).
Rows from other sources stay as they are, and so do places that the file has without a code.
"""

from __future__ import annotations

import math

from carbonmon.core.records import NamedTuple
from carbonmon.data.table import Fault, Record, Table, TableError

SOURCE = "Ember Yearly Electricity Data via Our World in Data"
WORLD = "OWID_WRL"
_OTHER_CODES = {"OWID_KOS": "XKX"}
"""Codes of their own that Our World in Data gives to places that ISO 3166 does not list."""
_STALE_AFTER_YEARS = 10
"""A country whose newest figure is older than the file's newest year by more than this is not used."""

IMPOSSIBLE_NOTE = "impossible zero for a lifecycle value"
STALE_NOTE = "stale: fall back to world"


class Newest(NamedTuple):
    """The newest figure of one place, in gCO2e/kWh, and where it was read."""

    entity: str
    year: int
    g_per_kwh: float
    record: Record


def is_header(header: tuple[str, ...]) -> bool:
    """Whether these are the columns of such a file; the value's name differs between editions."""
    return header[:3] == ("Entity", "Code", "Year") and len(header) == 4


def merge(header: tuple[str, ...], records: list[Record], table: Table) -> list[str]:
    """Put the file's newest figures into the intensity table; notes on what was left out.

    Raises TableError for a year or a value that is none.
    """
    newest = _newest(records, header[3])
    if not newest:
        return ["it has no place with a code: nothing was taken"]
    newest_year = max(place.year for place in newest.values())
    by_code = {
        WORLD if record.row["zone_type"] == "world" else record.row["iso_alpha3"]: record
        for record in table.records
        if record.row["source"] == SOURCE and record.row["zone_type"] in ("country", "world")
    }
    notes = []
    for code, place in newest.items():
        record = by_code.get(code)
        if record is None:
            notes.append(f"{place.entity} ({code}) is no place of the table: left out")
        elif place.year < int(record.row["data_year"]):
            notes.append(f"{place.entity} ({code}): the table's figure of {record.row['data_year']} is newer")
        else:
            _take(record, place, newest_year)
            at = table.records.index(record)
            table.records[at] = Record(record.row, place.record.place)
    return notes


def _newest(records: list[Record], column: str) -> dict[str, Newest]:
    newest: dict[str, Newest] = {}
    faults = []
    for record in records:
        row = record.row
        code = _OTHER_CODES.get(row["Code"], row["Code"])
        if not code or row[column] == "" or (code.startswith("OWID_") and code != WORLD):
            continue
        try:
            year, g_per_kwh = int(row["Year"]), float(row[column])
            if not math.isfinite(g_per_kwh):
                raise ValueError
        except ValueError:
            faults.append(Fault(record.place, f"{row['Year']!r:.20} or {row[column]!r:.20} is no number"))
            continue
        if code not in newest or year > newest[code].year:
            newest[code] = Newest(row["Entity"], year, g_per_kwh, record)
    if faults:
        raise TableError(faults)
    return newest


def _take(record: Record, place: Newest, newest_year: int) -> None:
    """Write a figure into its row, and judge whether it may be used."""
    row = record.row
    row["intensity_gco2eq_per_kwh"] = str(round(place.g_per_kwh, 2))
    row["data_year"] = str(place.year)
    # Ember publishes a year in the year after it
    row["source_year"] = str(max(int(row["source_year"]), newest_year + 1))
    fault = IMPOSSIBLE_NOTE if place.g_per_kwh == 0 else ""
    if not fault and newest_year - place.year > _STALE_AFTER_YEARS:
        fault = STALE_NOTE
    if fault:
        row["preferred"], row["note"] = "0", fault
    elif row["note"] in (IMPOSSIBLE_NOTE, STALE_NOTE):
        row["preferred"], row["note"] = "1", ""
