"""Runs of a folder, or groups of them, as a table for a terminal: the columns that find room in its width."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from carbonmon.core import text_layout
from carbonmon.core.plain_text import plain
from carbonmon.core.text_layout import columns_of, cut, fitting_columns, wrapped
from carbonmon.core.times import local_text
from carbonmon.runs.listing import Amount, Group, Row
from carbonmon.runs.summary.figures import (
    ENERGY_UNITS,
    GRAMS,
    JOULES,
    MASS_UNITS,
    duration_text,
    energy_text,
    figure,
    mass_text,
    percent_text,
    unit_of,
)

NO_FIGURE = "–"
ESTIMATED_MARK = "~"

_OF_RUNS = ("ID", "NAME", "STATE", "START", "DURATION", "ENERGY", "MEASURED", "EMISSIONS", "USER", "HOST")
_OF_GROUPS = ("RUNS", "ENERGY", "MEASURED", "EMISSIONS", "ENERGY A RUN", "EMISSIONS A RUN")
_TEXTS = frozenset(("ID", "NAME", "STATE", "START", "USER", "HOST"))
_BY_WEIGHT = (
    *("ID", "ENERGY", "EMISSIONS", "START", "RUNS", "ENERGY A RUN", "MEASURED", "NAME", "STATE", "DURATION"),
    *("USER", "HOST", "EMISSIONS A RUN"),
)
"""Columns by how much they are needed: the first that find room are shown on a narrow terminal."""

_FEWEST = 2
"""So many columns are always shown."""

_NARROWEST = 17
"""Characters that the first column keeps; the date and time of an id, which name a run."""

_MOST = {"ID": 64, "NAME": 30, "USER": 32, "HOST": 40}
_LONGEST = 100
"""Columns of a cell on a terminal; elsewhere nothing is cut."""

_OFFSET = len("+01:00")

Cells = Mapping[str, str]
Users = Callable[[int | None], str]
"""The name of a user by the number."""


def runs_text(rows: Sequence[Row], total: Group | None, users: Users, width: int | None) -> str:
    """The table of runs, in lines of at most `width` characters; None for no limit."""
    head, *cells = _with_one_offset([_heads(_OF_RUNS), *(_run_cells(row, users) for row in rows)])
    if total is not None:
        cells.append(_total_cells(total))
    return _table(_OF_RUNS, head, cells, _OF_RUNS[1:], width)


def groups_text(keys: Sequence[str], groups: Sequence[Group], total: Group | None, width: int | None) -> str:
    """The table of groups: sums, and mean ± standard deviation of the runs in each."""
    columns = (*(key.upper() for key in keys), *_OF_GROUPS)
    cells = [
        dict(zip(columns, (plain(key) or NO_FIGURE for key in group.keys), strict=False))
        | _group_cells(group)
        for group in groups
    ]
    if total is not None:
        cells.append(_heads(columns, "") | {columns[0]: "total"} | _group_cells(total))
    return _table(columns, _heads(columns), cells, _OF_GROUPS, width)


def _heads(columns: Sequence[str], text: str | None = None) -> dict[str, str]:
    return {column: column if text is None else text for column in columns}


def _run_cells(row: Row, users: Users) -> dict[str, str]:
    entry = row.entry
    return {
        "ID": plain(entry.id) + (f" ({row.month})" if row.is_part else ""),
        "NAME": plain(entry.name),
        "STATE": entry.state,
        "START": NO_FIGURE if entry.start_s is None else local_text(entry.start_s),
        "DURATION": NO_FIGURE if entry.duration_s is None else duration_text(entry.duration_s),
        "ENERGY": _energy(entry.energy_j),
        "MEASURED": _measured(entry.measured_ratio),
        "EMISSIONS": _mass(entry.emissions_g),
        "USER": plain(entry.user or users(entry.uid)),
        "HOST": plain(entry.host),
    }


def _total_cells(total: Group) -> dict[str, str]:
    seconds = total.duration_s.total
    return _heads(_OF_RUNS, "") | {
        "ID": f"total: {total.runs} run{'' if total.runs == 1 else 's'}",
        "DURATION": NO_FIGURE if seconds is None else duration_text(seconds),
        "ENERGY": _energy(total.energy_j.total),
        "MEASURED": _measured(total.measured_ratio),
        "EMISSIONS": _mass(total.emissions_g.total),
    }


def _group_cells(group: Group) -> dict[str, str]:
    return {
        "RUNS": str(group.runs),
        "ENERGY": _energy(group.energy_j.total),
        "MEASURED": _measured(group.measured_ratio),
        "EMISSIONS": _mass(group.emissions_g.total),
        "ENERGY A RUN": _spread(group.energy_j, ENERGY_UNITS, JOULES),
        "EMISSIONS A RUN": _spread(group.emissions_g, MASS_UNITS, GRAMS),
    }


def _table(
    columns: Sequence[str], head: Cells, cells: Sequence[Cells], optional: Collection[str], width: int | None
) -> str:
    """The lines; of the `optional` columns only those that find room, and a line that names the others."""
    if width is not None:
        cells = [{key: cut(cell, _MOST.get(key, _LONGEST)) for key, cell in row.items()} for row in cells]
    shown = list(columns)
    if width is not None:
        widths = {column: max(columns_of(row[column]) for row in (head, *cells)) for column in columns}
        widths[columns[0]] = min(widths[columns[0]], _NARROWEST)
        order = [column for column in columns if column not in optional]
        order += [column for column in _BY_WEIGHT if column in optional]
        shown = fitting_columns(widths, order, width, max(_FEWEST, len(columns) - len(optional)))
    left_out = [column for column in columns if column not in shown]
    is_marked = "MEASURED" in left_out
    rows = [head, *(map(_marked, cells) if is_marked else cells)]
    numbers = [place for place, column in enumerate(shown) if column in {*optional} - _TEXTS]
    table = [[row[column] for column in shown] for row in rows]
    lines = text_layout.table(table, numbers, width, cuts=0)
    if left_out:
        mark = f"; {ESTIMATED_MARK}: not all of it measured" if is_marked else ""
        lines += wrapped(f"not shown, for the width: {', '.join(left_out).lower()}{mark}", width)
    return "".join(f"{line}\n" for line in lines)


def _with_one_offset(cells: list[dict[str, str]]) -> list[dict[str, str]]:
    """The offset of the zone in the head, where all starts have the same (`+01:00`)."""
    head, *rows = cells
    offsets = {row["START"][-_OFFSET:] for row in rows if row["START"] != NO_FIGURE}
    if len(offsets) != 1:
        return cells
    (offset,) = offsets
    short = [{**row, "START": row["START"].removesuffix(offset)} for row in rows]
    return [{**head, "START": f"START ({offset})"}, *short]


def _marked(cells: Cells) -> Cells:
    """The cells with a mark at an energy of which a part is estimated, where no other column says so."""
    if cells["MEASURED"] in ("all", NO_FIGURE):
        return cells
    return {**cells, "ENERGY": f"{ESTIMATED_MARK}{cells['ENERGY']}"}


def _energy(joules: float | None) -> str:
    return NO_FIGURE if joules is None else energy_text(joules)


def _mass(grams: float | None) -> str:
    return NO_FIGURE if grams is None else mass_text(grams)


def _measured(ratio: float | None) -> str:
    if ratio is None:
        return NO_FIGURE
    return "all" if ratio == 1 else "none" if ratio == 0 else percent_text(ratio)


def _spread(amount: Amount, units: tuple[tuple[float, str], ...], divisors: Mapping[str, float]) -> str:
    """Mean ± standard deviation in one unit; of a single run its figure alone."""
    if amount.mean is None:
        return NO_FIGURE
    unit = unit_of(amount.mean, units)
    spread = "" if amount.deviation is None else f" ± {figure(amount.deviation / divisors[unit])}"
    return f"{figure(amount.mean / divisors[unit])}{spread} {unit}"
