"""Reads a file of a quantity over time, CSV or JSON: carbon intensities, or prices of a kWh.

A CSV has a header; the columns are found by name (`time`, `end`, `carbon_intensity`, …), also those of
Electricity Maps' exports. JSON is a list of objects, one object that holds such a list, or one object a line.
Every time has its time zone. Without ends a slot lasts until the next one begins, and the last one as long as
the one before it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from math import isfinite, nan
from pathlib import Path
from typing import Any

from carbonmon.core.documents import json_value, read_bytes
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import HIGHEST_G_PER_KWH, Slot, Timeline
from carbonmon.core.times import EARLIEST_S, LATEST_S, NoTimeError, NoZoneError, parse_time

LIMIT_BYTES = 64 << 20
INTENSITY_UNIT = "gCO2e/kWh"

_STARTS = ("start", "time", "datetime", "timestamp", "from", "date", "hour", "valid_from", "point_time")
_ENDS = ("end", "to", "until", "valid_to", "valid_until")
_INTENSITIES = (
    "intensity",
    "carbon_intensity",
    "carbonintensity",
    "g_per_kwh",
    "intensity_g_per_kwh",
    "value",
)
_PRICES = ("price", "price_per_kwh", "value")
_ZONES = ("zone_id", "zone", "zoneid")

_EXPORTED = re.compile(r"carbon_intensity_gco.?2?(?:eq)?/kwh_\((direct|life.*|lca)\)")
"""The figures of Electricity Maps' CSV files: `Carbon intensity gCO₂eq/kWh (Life cycle)` and `(direct)`."""
_LIKE_A_FIGURE = re.compile(r"[\w./,:+ -]{1,25}")
_UTC = re.compile(r"_?\(?utc\)?$")
"""The end of a column's name whose times are all in UTC, as in `Datetime (UTC)`."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

_Row = tuple[str, Mapping[str, Any]]
"""The position of a row, for errors (`line 7`), and its cells by column."""


class TimeFile(NamedTuple):
    """The content of a file: the timeline, and the zone and the basis of its figures where they are known."""

    timeline: Timeline
    zone: str = ""
    basis: str | None = None


class _Columns(NamedTuple):
    start: str
    end: str | None
    value: str
    zone: str | None
    is_utc: bool
    basis: str | None


class _FileError(Exception):
    """An invalid file or row, and the remedy; `where` is given, or known where this is caught."""

    def __init__(self, problem: str, remedy: str, where: str = "") -> None:
        super().__init__(f"{problem}: {remedy}")
        self.where = where


def read_timeline(
    path: Path, unit: str = INTENSITY_UNIT, lowest: float | None = 0.0, highest: float = HIGHEST_G_PER_KWH
) -> Timeline:
    """The timeline in a file of values in `unit` from `lowest` (None: no bound) to `highest`.

    Raises ConfigError, with the line, for anything that is not valid.
    """
    return read_timefile(path, unit, lowest, highest).timeline


def read_timefile(
    path: Path, unit: str = INTENSITY_UNIT, lowest: float | None = 0.0, highest: float = HIGHEST_G_PER_KWH
) -> TimeFile:
    """The same with the zone and the basis (lifecycle or direct) that the file states."""
    content = read_bytes(path, LIMIT_BYTES)
    slots: list[Slot] = []
    zones: dict[str, str] = {}
    before = where = ""
    try:
        names, rows = _rows(_text(content))
        columns = _columns(names, unit)
        for where, row in rows:
            slot = _slot(columns, row, unit, lowest, highest)
            if slots:
                _check_order(slots[-1], before, slot, columns.end is not None)
            if columns.zone is not None:
                zones.setdefault(str(row.get(columns.zone, "")).strip(), where)
                if len(zones) > 1:
                    found = " and ".join(map(_plain, zones))
                    raise _FileError(f"figures of several zones, {found}", "keep the lines of one")
            slots.append(slot)
            before = where
    except _FileError as error:
        position = error.where or where
        raise ConfigError(f"{path}: {position}: {error}" if position else f"{path}: {error}") from None
    if not slots:
        raise ConfigError(f"{path}: no line with a time and a value; give at least one")
    if unit == INTENSITY_UNIT and 0.0 < max(slot.value for slot in slots) < 1.0:  # as with --intensity
        raise ConfigError(
            f"{path}: no value reaches 1 {unit}, and grids do: were kilograms meant? Multiply them by 1000"
        )
    if columns.end is None:
        slots = _with_ends(path, slots)
    return TimeFile(Timeline(slots), next(iter(zones), ""), columns.basis)


def _text(content: bytes) -> str:
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _FileError("it is not UTF-8", "save the file as UTF-8", f"line {line}") from None


def _rows(text: str) -> tuple[Sequence[str], Iterator[_Row]]:
    """The normalized names of the columns, and the rows."""
    if text.lstrip()[:1] in ("[", "{"):
        entries = _json_rows(text)
        return list(entries[0][1]) if entries else [], iter(entries)
    head = text.lstrip().partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    lines = _csv_lines(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    names = [_normalized(name) for _, cells in [next(lines, ("", []))] for name in cells]
    return names, ((where, _cells(where, names, cells)) for where, cells in lines)


def _csv_lines(reader: Any) -> Iterator[tuple[str, list[str]]]:
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _FileError(f"no CSV: {error}", "correct the quotes", f"line {reader.line_num}") from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield f"line {reader.line_num}", cells


def _cells(where: str, names: Sequence[str], cells: list[str]) -> dict[str, str]:
    if any(cell.strip() for cell in cells[len(names) :]):
        problem = f"{len(cells)} cells under {len(names)} columns"
        raise _FileError(problem, "quote texts that hold the delimiter, write numbers with a point", where)
    return dict(zip(names, cells, strict=False))


def _json_rows(text: str) -> list[_Row]:
    where = ""
    try:
        try:
            found = json_value(text)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Extra data"):
                raise
            pairs = []
            for number, line in enumerate(text.splitlines(), 1):
                where = f"line {number}"
                if line.strip():
                    pairs.append((where, json_value(line)))
        else:
            if isinstance(found, dict):
                lists = [member for member in found.values() if isinstance(member, list)]
                found = lists[0] if len(lists) == 1 else [found]
            pairs = [(f"entry {number}", entry) for number, entry in enumerate(found, 1)]
    except json.JSONDecodeError as error:
        raise _FileError(f"no JSON: {error.msg}", "correct it", where or f"line {error.lineno}") from None
    except ValueError as error:
        raise _FileError(f"no JSON: {error}", "correct it", where) from None
    rows: list[_Row] = []
    for where, entry in pairs:
        if not isinstance(entry, dict):
            raise _FileError("it is no object", 'give {"time": …, "intensity": …}', where)
        rows.append((where, {_normalized(name): member for name, member in entry.items()}))
    return rows


def _normalized(name: str) -> str:
    """A column's name in lower case, with underscores between words."""
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _columns(names: Sequence[str], unit: str) -> _Columns:
    is_intensity = unit == INTENSITY_UNIT
    bare = {_UTC.sub("", name): name for name in reversed(names)}
    start = next((bare[name] for name in _STARTS if name in bare), None)
    end = next((bare[name] for name in _ENDS if name in bare), None)
    words = _INTENSITIES if is_intensity else _PRICES
    value, basis = next((name for name in words if name in names), None), None
    if is_intensity:
        exported = {match[1]: name for name in names if (match := _EXPORTED.fullmatch(name))}
        # Lifecycle before direct, as in the bundled table.
        for kind in sorted(exported, key=lambda kind: kind != "direct"):
            value, basis = exported[kind], "direct" if kind == "direct" else "lifecycle"
    if start is None or value is None:
        lacks, known = ("the time", _STARTS) if start is None else (f"the value in {unit}", words)
        raise _FileError(
            f"there is no column for {lacks}: {_told(names)}", f"name one {' or '.join(known[:3])}"
        )
    for name in (start, end, value):
        if name is not None and names.count(name) > 1:
            raise _FileError(f"there are several columns {name!r:.60}", "keep one")
    zone = next((name for name in _ZONES if name in names), None)
    is_utc = all(_UTC.search(name) for name in (start, end) if name is not None)
    return _Columns(start, end, value, zone, is_utc, basis)


def _told(names: Sequence[str]) -> str:
    """The columns that there are: only names that we know, since it may be a file of secrets by mistake."""
    words = {*_STARTS, *_ENDS, *_INTENSITIES, *_PRICES, *_ZONES}
    ours = [name for name in dict.fromkeys(names) if name in words]
    others = sum(name not in words for name in names)
    told = [repr(", ".join(ours))] if ours else []
    told += [f"{others} with {'another name' if others == 1 else 'other names'}"] if others else []
    return f"the file has {' and '.join(told) or 'none'}"


def _plain(text: str) -> str:
    """A cell as an error shows it: a number or a time that is meant for one, and not any text."""
    return repr(text) if _LIKE_A_FIGURE.fullmatch(text) else "its text"


def _slot(columns: _Columns, row: Mapping[str, Any], unit: str, lowest: float | None, highest: float) -> Slot:
    """A row as a slot; without a column for ends it has none yet, and ends where it begins."""
    start_s = end_s = _time(columns.start, row.get(columns.start), columns.is_utc)
    if columns.end is not None:
        end_s = _time(columns.end, row.get(columns.end), columns.is_utc)
        if end_s <= start_s:
            raise _FileError(f"it ends at {_shown_time(end_s)}, not after its start", "correct its times")
    return Slot(start_s, end_s, _value(columns.value, row.get(columns.value), unit, lowest, highest), "fixed")


def _check_order(last: Slot, before: str, slot: Slot, has_ends: bool) -> None:
    if slot.start_s <= last.start_s:
        problem = "has the same time as" if slot.start_s == last.start_s else "is earlier than"
        raise _FileError(f"{_shown_time(slot.start_s)} {problem} {before}", "sort the file, each time once")
    if has_ends and slot.start_s < last.end_s:
        problem = f"it begins at {_shown_time(slot.start_s)}, and {before} ends at {_shown_time(last.end_s)}"
        raise _FileError(problem, "slots must not overlap")


def _with_ends(path: Path, slots: list[Slot]) -> list[Slot]:
    if len(slots) < 2:
        raise ConfigError(f"{path}: one time alone does not say how long it lasts; add a column 'end'")
    starts = [slot.start_s for slot in slots]
    ends = [*starts[1:], 2 * starts[-1] - starts[-2]]
    return [slot._replace(end_s=end_s) for slot, end_s in zip(slots, ends, strict=True)]


def _time(column: str, found: Any, is_utc: bool) -> float:
    """Unix seconds of a time with its zone."""
    text = str(found).strip() if isinstance(found, (str, int, float)) and not isinstance(found, bool) else ""
    if not text:
        raise _FileError(f"no time in {column!r:.60}", "give each line its time")
    if _NUMBER.fullmatch(text):
        unix_s = float(text)
        if not EARLIEST_S <= unix_s < LATEST_S:
            raise _FileError(f"{text:.40} is no Unix time in seconds", "give seconds, or 2026-11-21T20:00Z")
        return unix_s
    try:
        return parse_time(text, is_utc)
    except NoZoneError:
        problem, remedy = "has no zone", "write 2026-11-21T20:00Z, or +01:00 instead of Z"
        raise _FileError(f"{_plain(text)} {problem}", remedy) from None
    except NoTimeError as error:
        raise _FileError(f"{_plain(text)} is {error}", "give 2026-11-21T20:00Z, or Unix seconds") from None


def _value(column: str, found: Any, unit: str, lowest: float | None, highest: float) -> float:
    if found is None or (isinstance(found, str) and not found.strip()):
        raise _FileError(f"no value in {column!r:.60}", "give each line its value")
    value = nan
    if isinstance(found, str):
        value = float(found) if _NUMBER.fullmatch(found.strip()) else nan
    elif isinstance(found, (int, float)) and not isinstance(found, bool):
        with suppress(OverflowError):
            value = float(found)
    if not isfinite(value):
        hint = "write a point and no comma" if isinstance(found, str) and "," in found else "give a number"
        shown = f"{found!r:.40}" if isinstance(found, (int, float)) else f"a {type(found).__name__}"
        shown = _plain(found) if isinstance(found, str) else shown
        raise _FileError(f"{shown} is no number of {unit}", hint)
    if (lowest is not None and value < lowest) or value > highest:
        bounds = f"at most {highest:g}" if lowest is None else f"from {lowest:g} to {highest:g}"
        raise _FileError(f"{value:g} {unit} is impossible", f"give {bounds}")
    return value


def _shown_time(unix_s: float) -> str:
    try:
        return datetime.fromtimestamp(unix_s, tz=timezone.utc).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return f"{unix_s:g} s"
