"""Makes the tables from their sources, and checks them: nothing is replaced unless everything is in order.

A source is one of our own tables (it takes the place of the one before, and the corrections are applied),
or another format that is merged into one: `carbonmon.data.owid`, `carbonmon.data.codecarbon`. Formats are
known by their headers, a wheel by its name.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import replace_file
from carbonmon.core.records import NamedTuple
from carbonmon.data import (
    ACCELERATORS,
    CLOUD_REGIONS,
    CORRECTIONS,
    CPUS,
    EMBODIED,
    FORMATS,
    GPU_PEAKS,
    GPUS,
    INTENSITIES,
    NVML_NAMES,
    OVERHEADS,
    PACKAGE,
    PLACES,
    Row,
    codecarbon,
    corrections,
    data_file,
    owid,
)
from carbonmon.data.checks import faults
from carbonmon.data.table import Fault, Table, TableError, check_columns, read_cells, read_table

_OWN = (GPU_PEAKS, ACCELERATORS, EMBODIED, NVML_NAMES, PLACES, CORRECTIONS)
SOURCES = tuple(name for name in FORMATS if name not in _OWN)
"""The tables that an update may bring."""
_MAIN_COLUMNS = {
    INTENSITIES: "intensity_gco2eq_per_kwh",
    CLOUD_REGIONS: "default_gco2eq_per_kwh",
    GPUS: "tdp_w",
    CPUS: "tdp_w",
    OVERHEADS: "pue_ratio",
}
_EDITION = re.compile(r"[0-9][0-9.]*(?: rev[0-9]+)?")
_MODE = 0o644
"""Tables are public, and a folder of them may serve all users of a machine."""


class Change(NamedTuple):
    """How a table differs from the one before it.

    `figures` are (key, old, new) of its main column, `cells` (key, column, old, new) of all columns; a row
    that came or went has the column `*`.
    """

    name: str
    rows_before: int
    rows: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    figures: tuple[tuple[str, float, float], ...]
    cells: tuple[tuple[str, str, str, str], ...]


class Update(NamedTuple):
    """What an update did: `corrected` counts cells, `notes` are for people, `written` are the files."""

    changes: tuple[Change, ...]
    corrected: int
    notes: tuple[str, ...]
    written: tuple[Path, ...]


def update(source: Path, into: Path, only_news: bool = False, dry_run: bool = False) -> Update:
    """Take a file or a folder of sources into the tables of a folder, all of it or nothing.

    `only_news` leaves out what the package has already; with `dry_run` nothing is written. Raises TableError
    with files, lines and reasons, or ConfigError for a source that cannot be read; then nothing is replaced.
    """
    taken, merged, notes = _sources(source)
    before = {name: _before(into, name, name in taken) for name in FORMATS}
    after = {**before, **{name: table.copy() for name, table in taken.items()}}
    news = set(taken)
    for path, merge in merged:
        intensities = after[INTENSITIES] = after[INTENSITIES].copy()
        _refuse(faults({intensities.name: intensities}))
        notes += (f"{path.name}: {note}" for note in merge(intensities))
        news.add(INTENSITIES)
    outcomes = corrections.apply(after[CORRECTIONS], {name: after[name] for name in news})
    notes += (outcome.note for outcome in outcomes if outcome.note)
    if news & {INTENSITIES, CLOUD_REGIONS}:
        clouds = after[CLOUD_REGIONS] = after[CLOUD_REGIONS].copy()
        fill_defaults(clouds, after[INTENSITIES])
    _refuse(faults(after))
    changes, written = [], []
    for name in SOURCES:
        target, data = into / name, after[name].csv()
        if name not in news and data == before[name].csv():
            continue
        changes.append(_change(before[name], after[name]))
        is_known = _has(target, data) or (only_news and not target.exists() and _has(PACKAGE / name, data))
        if not is_known and not dry_run:
            _write(target, data)
            written.append(target)
    applied = sum(outcome.state == "applied" for outcome in outcomes)
    return Update(tuple(changes), applied, tuple(notes), tuple(written))


def tables_of(folder: Path | None = None) -> dict[str, Table]:
    """All tables: those of a folder, and for what it lacks those in use. Raises TableError."""
    return {name: read_table(_path(folder, name), name) for name in FORMATS}


def _path(folder: Path | None, name: str) -> Path:
    own = folder / name if folder is not None else None
    return own if own is not None and own.is_file() else data_file(name)


def _before(into: Path, name: str, is_replaced: bool) -> Table:
    """The table as it is; one that is replaced in whole may be damaged, then it counts as the package's."""
    try:
        return read_table(_path(into, name), name)
    except ConfigError:
        if not is_replaced:
            raise
        return read_table(PACKAGE / name, name)


Merge = Callable[[Table], list[str]]


def _sources(source: Path) -> tuple[dict[str, Table], list[tuple[Path, Merge]], list[str]]:
    """What a file, or a folder's CSV files and wheels are: our tables, others to be merged, notes."""
    paths = sorted((*source.glob("*.csv"), *source.glob("*.whl"))) if source.is_dir() else [source]
    taken: dict[str, Table] = {}
    merged: list[tuple[Path, Merge]] = []
    notes: list[str] = []
    for path in paths:
        if codecarbon.is_release(path):
            merged.append((path, partial(codecarbon.merge, path)))
            continue
        header, records = read_cells(path)
        name = _recognized(path, header)
        if name in taken:
            raise ConfigError(f"--from {source}: {path.name} and {taken[name].path.name} are both {name}")
        if name:
            taken[name] = Table(name, records, path)
        elif owid.is_header(header):
            merged.append((path, partial(owid.merge, header, records)))
        elif path.name not in FORMATS:
            notes.append(f"{path.name} is of no format that is known here: left out")
    if not taken and not merged:
        reasons = "; ".join(notes) or "there are no tables in it"
        raise ConfigError(
            f"--from {source}: {reasons}; what can be taken are {', '.join(SOURCES)}, "
            "Our World in Data's carbon-intensity-electricity, and a wheel of CodeCarbon"
        )
    return taken, merged, notes


def _refuse(found: list[Fault]) -> None:
    if found:
        raise TableError(found)


def not_in_force(tables: Mapping[str, Table]) -> list[str]:
    """The corrections that the tables do not show, for people."""
    copies = {name: table.copy() for name, table in tables.items()}
    outcomes = corrections.apply(tables[CORRECTIONS], copies)
    pairs = zip(tables[CORRECTIONS].records, outcomes, strict=True)
    return [
        outcome.note
        or f"{record.place.path.name}, line {record.place.line}: {record.row['key']}: not applied"
        for record, outcome in pairs
        if outcome.state != "already so"
    ]


def _recognized(path: Path, header: tuple[str, ...]) -> str:
    """Which of our tables it is, "" for none; a file that has a table's name must have its columns."""
    name = next((name for name in SOURCES if sorted(FORMATS[name].columns) == sorted(header)), "")
    if not name and path.name in SOURCES:
        check_columns(path, path.name, header)
    return name


def fill_defaults(clouds: Table, intensities: Table) -> None:
    """Give the cloud regions the figures of their zones, which they repeat for readers of that file alone."""
    used = {
        record.row["zone"]: record.row for record in intensities.records if record.row["preferred"] == "1"
    }
    for row, _ in clouds.records:
        zone = used.get(row["zone"])
        if zone is not None:
            row["default_gco2eq_per_kwh"] = zone["intensity_gco2eq_per_kwh"]
            row["default_basis"] = zone["basis"]
            row["default_year"] = zone["data_year"]
            row["default_source"] = zone["source"][:70]


def _change(before: Table, after: Table) -> Change:
    old = {before.key(record): record.row for record in before.records}
    new = {after.key(record): record.row for record in after.records}
    for key, former in _newer_editions(old, new) if after.name == INTENSITIES else ():
        old[key] = old.pop(former)
    changed = tuple(key for key, row in new.items() if key in old and row != old[key])
    column = _MAIN_COLUMNS[after.name]
    figures = ((key, _figure(old[key][column]), _figure(new[key][column])) for key in changed)
    return Change(
        after.name,
        len(before.records),
        len(after.records),
        tuple(key for key in new if key not in old),
        tuple(key for key in old if key not in new),
        changed,
        tuple((key, a, b) for key, a, b in figures if a is not None and b is not None and a != b),
        tuple(_cells(old, new)),
    )


def _newer_editions(old: Mapping[str, Row], new: Mapping[str, Row]) -> list[tuple[str, str]]:
    """(key, former key) of rows whose source is the same but for its number: eGRID2023 and eGRID2024."""
    gone = {
        (row["zone"], _EDITION.sub("#", row["source"])): key for key, row in old.items() if key not in new
    }
    come = {
        (row["zone"], _EDITION.sub("#", row["source"])): key for key, row in new.items() if key not in old
    }
    return [(key, gone[stem]) for stem, key in come.items() if stem in gone]


def _cells(old: Mapping[str, Row], new: Mapping[str, Row]) -> Iterator[tuple[str, str, str, str]]:
    yield from ((key, "*", row["source"], "") for key, row in old.items() if key not in new)
    for key, row in new.items():
        before = old.get(key)
        if before is None:
            yield key, "*", "", row["source"]
        else:
            yield from ((key, name, before[name], text) for name, text in row.items() if before[name] != text)


def _figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _has(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _write(path: Path, data: bytes) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _MODE
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
        path.chmod(mode)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
