"""Corrections of source data: cells that the tables have otherwise than their sources, and by what source.

A correction holds only while the source still says what it corrects: `old`. A source that has mended
itself, or says a third thing, is left as it is. Column `*` takes out the whole row that `old` shows, or adds
the one in `new` where `old` is empty.
"""

from __future__ import annotations

import bisect
import csv
import io
from collections.abc import Mapping
from typing import Literal

from carbonmon.core.records import NamedTuple
from carbonmon.data.table import Record, Table

WHOLE_ROW = "*"

State = Literal["applied", "already so", "outdated"]


class Outcome(NamedTuple):
    """What became of one correction; `note` says for people why it was not applied."""

    state: State
    note: str = ""


def apply(corrections: Table, tables: Mapping[str, Table]) -> list[Outcome]:
    """Change the tables that are there as the corrections say; the outcomes are in their order."""
    index: dict[tuple[str, str], list[Record]] = {}
    for table in tables.values():
        for record in table.records:
            index.setdefault((table.name, table.key(record)), []).append(record)
    outcomes = []
    for correction in corrections.records:
        name = correction.row["table"]
        if name in tables:
            found = index.setdefault((name, correction.row["key"]), [])
            outcomes.append(_apply_one(correction, tables[name], found))
    return outcomes


def _apply_one(correction: Record, table: Table, found: list[Record]) -> Outcome:
    row = correction.row
    where = f"{correction.place.path.name}, line {correction.place.line}: {row['table']}: {row['key']}"
    if row["column"] == WHOLE_ROW and not row["old"]:
        return _add(correction, table, found, where)
    if row["column"] == WHOLE_ROW:
        gone = [record for record in found if _line(table, record) == row["old"]]
        for record in gone:
            table.records.remove(record)
            found.remove(record)
        return Outcome("applied" if gone else "already so")
    if not found:
        return Outcome("outdated", f"{where} is no row of the table any more")
    for record in found:
        if record.row[row["column"]] == row["old"]:
            record.row[row["column"]] = row["new"]
            return Outcome("applied")
    says = found[0].row[row["column"]]
    if says == row["new"]:
        return Outcome("already so")
    return Outcome("outdated", f"{where}: {row['column']} is {says!r:.60} now, neither old nor new")


def _add(correction: Record, table: Table, found: list[Record], where: str) -> Outcome:
    """Add a row in the place of its key; a source that has one of that key by now is believed."""
    if found:
        if any(_line(table, record) == correction.row["new"] for record in found):
            return Outcome("already so")
        return Outcome("outdated", f"{where} is a row of the source by now")
    cells = next(csv.reader([correction.row["new"]]), [])
    if len(cells) != len(table.format.columns):
        return Outcome("outdated", f"{where}: new is no row of that table")
    added = Record(dict(zip(table.format.columns, cells, strict=True)), correction.place)
    table.records.insert(_place_of(added, table), added)
    found.append(added)
    return Outcome("applied")


def _place_of(added: Record, table: Table) -> int:
    """Where a new row goes: by its key, or behind the rows of the same zone, provider or vendor."""
    first = table.format.columns[0]
    if table.format.key == (first,):
        return bisect.bisect(table.records, table.key(added), key=table.key)
    same = (i for i, record in enumerate(table.records) if record.row[first] == added.row[first])
    return max(same, default=len(table.records) - 1) + 1


def _line(table: Table, record: Record) -> str:
    """The row as it stands in the file, without what it repeats of another table."""
    text = io.StringIO()
    cells = ("" if column in table.format.repeated else record.row[column] for column in table.format.columns)
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
