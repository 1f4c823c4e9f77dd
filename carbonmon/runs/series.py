"""Reads `series.jsonl`, the time series of a run, in which a crash may have left an incomplete line.

Releases until 0.2 wrote version 1: a header with the devices, then lines with running totals. They become
rows here: what was drawn between two of them. A file may go on in the other version, where another release
resumed the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from operator import itemgetter
from pathlib import Path
from typing import Any, get_args

from carbonmon.core.documents import json_value
from carbonmon.core.files import open_file
from carbonmon.core.model import Component, IntensityKind, Method
from carbonmon.core.typed import LARGEST, Entry
from carbonmon.runs.checked import RunFileError, check_schema, entry_of, read_bytes
from carbonmon.runs.layout import SERIES_FILE, SERIES_VERSION, SERIES_VERSION_KEY
from carbonmon.runs.series_rows import Key, SeriesRow, time_shares

_LIMIT_BYTES = 256 << 20
"""Years of a large node; a longer file is not ours, and is not read into memory."""

SERIES_1_SCHEMA = "carbonmon.series/1"
_MOMENT = {"at_s": float, "duration_s": float, "emissions_g": float, "intensity_g_per_kwh": float}

_VALUES = itemgetter(*SeriesRow._fields)
_COMPONENTS = frozenset((*get_args(Component), None))
_METHODS = frozenset(get_args(Method))
_KINDS = frozenset(get_args(IntensityKind))
_NUMBERS = frozenset((float, int))

Line = tuple[int, "list[SeriesRow] | None"]
"""The number of a line, and its rows: None if it is damaged."""


def read_series(folder: Path) -> tuple[list[SeriesRow], list[int]]:
    """The rows of series.jsonl, and the numbers of damaged lines.

    An incomplete last line, which a crash leaves, is dropped silently; a damaged one before it is reported.
    """
    rows: list[SeriesRow] = []
    damaged: list[int] = []
    for number, found in read_lines(folder):
        if found is None:
            damaged.append(number)
        else:
            rows += found
    return rows, damaged


def read_lines(folder: Path) -> Iterator[Line]:
    """The lines of series.jsonl one by one. Raises `RunFileError` for what is no series, or a newer one."""
    path = folder / SERIES_FILE
    return rows_in(BytesIO(read_bytes(path, _LIMIT_BYTES)), path)


def streamed(folder: Path) -> Iterator[Line]:
    """The same for a file of any length, of which one line is in memory at a time; lines of newer versions
    are damaged. Raises `RunFileError` where there is no file; a link is none, as others may have made it."""
    path = folder / SERIES_FILE
    try:
        with open_file(path, follows=False) as file:
            yield from rows_in(file, path, strict=False)
    except OSError as reason:
        raise RunFileError(f"{path}: cannot be read: {reason.strerror or reason}") from None


def rows_in(lines: Iterable[bytes], path: Path, *, strict: bool = True) -> Iterator[Line]:
    """Lines of a series, each with its end; a newer version's raise, or are damaged if not `strict`."""
    older = _Version1(path)
    for number, line in enumerate(lines, 1):
        try:
            found = json_value(line.decode())
        except ValueError:
            found = None
        rows = None
        if type(found) is dict:
            if found.get(SERIES_VERSION_KEY) == SERIES_VERSION:
                row = _row(found)
                if row is not None:
                    older.add(row)
                    yield number, [row]
                    continue
            else:
                if strict:
                    check_version(found, f"{path}: line {number}")
                rows = older.rows(found)
        elif not line.strip():
            continue
        if rows is None and not line.startswith(b'{"at_s"'):
            older.ids = ()  # it may have been the header of the device numbers below
        if rows is not None or line.endswith(b"\n"):
            yield number, rows


def check_version(found: object, where: object) -> None:
    """Raise `RunFileError` if a line, or what it holds, is of a version that is unknown here."""
    if isinstance(found, bytes):
        try:
            found = json_value(found)
        except ValueError:
            return
    if not isinstance(found, dict):
        return
    if "schema" in found:
        check_schema(str(where), found, SERIES_1_SCHEMA)
    version = found.get(SERIES_VERSION_KEY)
    if type(version) is int and version != SERIES_VERSION:
        check_schema(
            str(where), {"schema": f"carbonmon.series/{version:d}"}, f"carbonmon.series/{SERIES_VERSION}"
        )


def _row(found: dict[str, Any]) -> SeriesRow | None:
    """The row that a line is, None if a value cannot be. By hand: a month has 150,000 rows."""
    try:
        row = SeriesRow(*_VALUES(found))
        at_s, duration_s, device, component, phase, method, energy_j, *powers_w, grams, intensity, kind = row
        for number in (at_s, duration_s, energy_j, grams, intensity):
            if type(number) not in _NUMBERS or not 0.0 <= number <= LARGEST:
                return None
        for power_w in powers_w:
            if power_w is not None and (type(power_w) not in _NUMBERS or not 0.0 <= power_w <= LARGEST):
                return None
        is_known = component in _COMPONENTS and method in _METHODS and kind in _KINDS
    except (KeyError, TypeError):  # a field is missing, or a list stands where a word should
        return None
    return row if is_known and type(device) is str and type(phase) is str else None


class _Version1:
    """Lines of version 1 as rows. `ids` are the devices of the last header, named by number below it."""

    def __init__(self, path: Path) -> None:
        self.ids: tuple[str, ...] = ()
        self._path = path
        self._sums: dict[Key, float] = {}
        self._grams = 0.0
        self._at_s: float | None = None

    def add(self, row: SeriesRow) -> None:
        """A row of the present version: the totals of later lines have it in them."""
        self._sums[row.key] = self._sums.get(row.key, 0.0) + row.energy_j
        self._grams += row.emissions_g
        self._at_s = row.at_s

    def rows(self, found: dict[str, Any]) -> list[SeriesRow] | None:
        """What was drawn since the line before, by a line with totals; None for one with a mistake."""
        entry = entry_of(self._path, found)
        try:
            if entry.has("schema"):
                self.ids = entry.texts("devices")
                return []
            moment = {key: entry.value(key, hint) for key, hint in _MOMENT.items()}
            entry.value("power_w", tuple[float | None, ...])
            kind = entry.value("intensity_kind", IntensityKind)
            totals = self._totals(entry)
        except RunFileError:
            return None
        drawn = {key: joules - self._sums.get(key, 0.0) for key, joules in totals.items()}
        drawn = {key: joules for key, joules in drawn.items() if joules > 0.0}
        drawn_j = sum(drawn.values())
        grams = max(0.0, moment["emissions_g"] - self._grams)
        at_s = moment["at_s"]
        seconds = moment["duration_s"] if self._at_s is None else max(0.0, at_s - self._at_s)
        self._at_s = at_s
        self._grams = max(self._grams, moment["emissions_g"])
        for key in drawn:
            self._sums[key] = totals[key]
        return [
            SeriesRow(
                at_s,
                part_s,
                key[1],
                None,
                key[0],
                key[2],
                joules,
                joules / part_s if part_s > 0.0 else None,
                None,
                None,
                grams * joules / drawn_j,
                moment["intensity_g_per_kwh"],
                kind,
            )
            for key, joules, part_s in time_shares(drawn, seconds)
        ]

    def _totals(self, entry: Entry) -> dict[Key, float]:
        totals = {}
        for i, row in enumerate(entry.items("energy_j")):
            field = f"energy_j[{i}]"
            phase, device, method, joules = entry.source.items(
                field, row, "a phase, a device, a method, joules"
            )
            if type(device) is int and 0 <= device < len(self.ids):
                device = self.ids[device]
            key = (
                entry.source.value(f"{field}.phase", phase, str),
                entry.source.value(f"{field}.device", device, str),
                entry.source.value(f"{field}.method", method, Method),
            )
            totals[key] = entry.source.value(f"{field}.energy_j", joules, float)
        return totals
