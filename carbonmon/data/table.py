"""A table in memory with the place of each row, for making and checking tables; look-ups stream instead."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from carbonmon.core.documents import read_bytes
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.data import FORMATS, Format

LONGEST_BYTES = 64 << 20
_SHOWN_FAULTS = 20


class Place(NamedTuple):
    """Where a row was read: its file and the line on which it ends."""

    path: Path
    line: int


class Record(NamedTuple):
    """One row and its place; the row may be changed, the place stays."""

    row: dict[str, str]
    place: Place


class Fault(NamedTuple):
    """What is wrong with a table, and where."""

    place: Place
    reason: str

    def __str__(self) -> str:
        return f"{self.place.path}, line {self.place.line}: {self.reason}"


class TableError(ConfigError):
    """A table that is not taken, with all that is wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [str(fault) for fault in self.faults[:_SHOWN_FAULTS]]
        if len(self.faults) > _SHOWN_FAULTS:
            lines.append(f"and {len(self.faults) - _SHOWN_FAULTS} more")
        super().__init__("\n".join(lines))


class Table:
    """The rows of one of our tables, in order."""

    def __init__(self, name: str, records: list[Record], path: Path) -> None:
        self.name = name
        self.records = records
        self.path = path

    @property
    def format(self) -> Format:
        return FORMATS[self.name]

    @property
    def top(self) -> Place:
        """The place of a fault that is none of a single row."""
        return Place(self.path, 1)

    def key(self, record: Record) -> str:
        return self.format.key_of(record.row)

    def copy(self) -> Table:
        """The same table with rows of its own."""
        return Table(self.name, [Record(dict(row), place) for row, place in self.records], self.path)

    def csv(self) -> bytes:
        """The table as the bytes of its file."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = self.format.columns
        writer.writerow(columns)
        writer.writerows([record.row[column] for column in columns] for record in self.records)
        return text.getvalue().encode()


def read_cells(path: Path) -> tuple[tuple[str, ...], list[Record]]:
    """The header and the rows of any CSV file. Raises TableError with the line of what is no table."""
    line = 0
    try:
        text = read_bytes(path, LONGEST_BYTES).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = tuple(next(reader, ()))
        records: list[Record] = []
        for cells in reader:
            line = reader.line_num
            if len(cells) != len(header):
                reason = f"{len(cells)} fields, where the header has {len(header)}"
                raise TableError([Fault(Place(path, line), reason)])
            records.append(Record(dict(zip(header, cells, strict=True)), Place(path, line)))
    except (ValueError, csv.Error) as error:
        raise TableError([Fault(Place(path, line + 1), f"not a CSV file in UTF-8: {error}")]) from None
    return header, records


def read_table(path: Path, name: str = "") -> Table:
    """The table of that name, or of the file's. Raises TableError if its columns are not the table's."""
    name = name or path.name
    header, records = read_cells(path)
    check_columns(path, name, header)
    return Table(name, records, path)


def check_columns(path: Path, name: str, header: tuple[str, ...]) -> None:
    """Raise TableError if the columns are not those of the table of this name; their order is free."""
    wanted = FORMATS[name].columns
    if sorted(header) == sorted(wanted):
        return
    missing = [column for column in wanted if column not in header]
    strange = [column for column in header if column not in wanted]
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"has {', '.join(map(repr, strange))[:200]} besides"] if strange else []
    reason = f"not the columns of {name}: it {' and '.join(parts) or 'has a column twice'}"
    raise TableError([Fault(Place(path, 1), reason)])
