"""Runs of a folder as a table, as CSV and as JSON: a row for each run, or for each group of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.times import local_text, rfc3339
from carbonmon.runs.index import Entry
from carbonmon.runs.listing import Amount, Group, Row
from carbonmon.runs.report.csv_table import cell
from carbonmon.runs.summary.columns import aligned
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
from carbonmon.runs.summary.strings import one_line

SCHEMA = "carbonmon.runs/1"
NO_FIGURE = "–"
ESTIMATED_MARK = "~"

_COLUMNS = ("ID", "NAME", "STATE", "START", "DURATION", "ENERGY", "MEASURED", "EMISSIONS", "USER", "HOST")
_NUMBERS = frozenset(("DURATION", "ENERGY", "MEASURED", "EMISSIONS"))
_GIVES_WAY = ("HOST", "USER", "DURATION", "STATE", "NAME", "MEASURED", "START")
"""Columns that are left out where the terminal is narrow, first the first."""

_NARROWEST_ID = 16

Users = Callable[[int | None], str]
"""The name of a user by the number."""


def list_text(rows: Sequence[Row], total: Group | None, users: Users, width: int | None) -> str:
    """The table, in lines of at most `width` characters; None for no limit."""
    cells = [_cells(row, users) for row in rows]
    if total is not None:
        cells.append(_total_cells(total))
    columns = _columns_that_fit(cells, width)
    is_marked = "MEASURED" not in columns
    table = [
        columns,
        *(
            [_marked(each, is_marked)[column] if column == "ENERGY" else each[column] for column in columns]
            for each in cells
        ),
    ]
    numbers = [place for place, column in enumerate(columns) if column in _NUMBERS]
    lines = aligned(table, numbers, room=width, elastic=None if width is None else 0)
    left_out = [column for column in _COLUMNS if column not in columns]
    if left_out:
        mark = f"; {ESTIMATED_MARK}: not all of it measured" if is_marked else ""
        lines.append(one_line(f"not shown, for the width: {', '.join(left_out).lower()}{mark}", width or 200))
    return "".join(f"{line}\n" for line in lines)


def groups_text(keys: Sequence[str], groups: Sequence[Group], width: int | None) -> str:
    """The table of groups: sums, and mean ± standard deviation of the runs in each."""
    head = [
        *(key.upper() for key in keys),
        "RUNS",
        "ENERGY",
        "MEASURED",
        "EMISSIONS",
        "ENERGY A RUN",
        "EMISSIONS A RUN",
    ]
    table = [head, *(_group_cells(group) for group in groups)]
    if width is not None and _width(table) > width:
        table = [[*line[:-1]] for line in table]
    numbers = range(len(keys), len(table[0]))
    lines = aligned(table, numbers, room=width, elastic=None if width is None else 0)
    return "".join(f"{line}\n" for line in lines)


def _group_cells(group: Group) -> list[str]:
    return [
        *(one_line(key, 40) or NO_FIGURE for key in group.keys),
        str(group.runs),
        _energy(group.energy_j.total),
        _measured(group.measured_ratio),
        _mass(group.emissions_g.total),
        _spread(group.energy_j, ENERGY_UNITS, JOULES),
        _spread(group.emissions_g, MASS_UNITS, GRAMS),
    ]


def _cells(row: Row, users: Users) -> dict[str, str]:
    entry = row.entry
    return {
        "ID": one_line(entry.id, 64) + (f" ({row.month})" if row.is_part else ""),
        "NAME": one_line(entry.name, 30),
        "STATE": entry.state,
        "START": NO_FIGURE if entry.start_s is None else local_text(entry.start_s),
        "DURATION": NO_FIGURE if entry.duration_s is None else duration_text(entry.duration_s),
        "ENERGY": _energy(entry.energy_j),
        "MEASURED": _measured(entry.measured_ratio),
        "EMISSIONS": _mass(entry.emissions_g),
        "USER": one_line(users(entry.uid), 32),
        "HOST": one_line(entry.host, 40),
    }


def _total_cells(total: Group) -> dict[str, str]:
    runs = f"{total.runs} run{'' if total.runs == 1 else 's'}"
    seconds = total.duration_s.total
    return dict.fromkeys(_COLUMNS, "") | {
        "ID": f"total of {runs}",
        "DURATION": NO_FIGURE if seconds is None else duration_text(seconds),
        "ENERGY": _energy(total.energy_j.total),
        "MEASURED": _measured(total.measured_ratio),
        "EMISSIONS": _mass(total.emissions_g.total),
    }


def _marked(cells: Mapping[str, str], is_marked: bool) -> dict[str, str]:
    """The cells, with a mark at an energy of which a part is estimated, where no other column says so."""
    needs_mark = is_marked and cells["MEASURED"] not in ("all", NO_FIGURE) and cells["ENERGY"] != NO_FIGURE
    return {**cells, "ENERGY": f"{ESTIMATED_MARK}{cells['ENERGY']}"} if needs_mark else dict(cells)


def _columns_that_fit(cells: Sequence[Mapping[str, str]], width: int | None) -> list[str]:
    columns = list(_COLUMNS)
    widths = {column: max([len(column), *(len(each[column]) for each in cells)]) for column in columns}
    widths["ID"] = min(widths["ID"], _NARROWEST_ID)
    for column in _GIVES_WAY:
        if width is None or sum(widths[each] for each in columns) + 2 * (len(columns) - 1) <= width:
            break
        columns.remove(column)
    return columns


def _width(table: Sequence[Sequence[str]]) -> int:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1)


def _energy(joules: float | None) -> str:
    return NO_FIGURE if joules is None else energy_text(joules)


def _mass(grams: float | None) -> str:
    return NO_FIGURE if grams is None else mass_text(grams)


def _measured(ratio: float | None) -> str:
    return (
        NO_FIGURE if ratio is None else "all" if ratio == 1 else "none" if ratio == 0 else percent_text(ratio)
    )


def _spread(amount: Amount, units: Any, divisors: Mapping[str, float]) -> str:
    """Mean ± standard deviation in one unit; of a single run its figure alone."""
    if amount.mean is None:
        return NO_FIGURE
    unit = unit_of(amount.mean, units)
    mean = figure(amount.mean / divisors[unit])
    return (
        f"{mean} {unit}"
        if amount.deviation is None
        else f"{mean} ± {figure(amount.deviation / divisors[unit])} {unit}"
    )


# ---- CSV ----

RUN_COLUMNS = (
    *("run_id", "name", "state", "user", "uid", "host", "started_at", "month", "duration_s", "energy_kwh"),
    *("measured_ratio", "emissions_kg", "is_settled", "labels"),
)
GROUP_COLUMNS = (
    *("runs", "energy_kwh", "measured_ratio", "emissions_kg", "duration_s", "energy_mean_kwh"),
    *("energy_sd_kwh", "emissions_mean_kg", "emissions_sd_kg", "runs_without_energy"),
)


def list_csv(rows: Sequence[Row], users: Users) -> str:
    """A row for each run; `month` is empty where a row is a whole run. Unknown is an empty cell."""
    documents = [row_document(row, users) for row in rows]
    lines = [",".join(RUN_COLUMNS)]
    for document in documents:
        labels = "; ".join(f"{key}={value}" for key, value in document["labels"].items())
        cells = {**document, "labels": labels, "is_settled": str(document["is_settled"]).lower()}
        lines.append(",".join(cell(cells[column]) for column in RUN_COLUMNS))
    return "\n".join(lines) + "\n"


def groups_csv(keys: Sequence[str], groups: Sequence[Group]) -> str:
    """A row for each group."""
    lines = [",".join((*map(cell, keys), *GROUP_COLUMNS))]
    for group in groups:
        document = group_document(keys, group)
        lines.append(
            ",".join((*map(cell, group.keys), *(cell(document[column]) for column in GROUP_COLUMNS)))
        )
    return "\n".join(lines) + "\n"


# ---- JSON ----


def row_document(row: Row, users: Users) -> dict[str, Any]:
    """A run, or its part in a month; its times are in UTC."""
    entry: Entry = row.entry
    return {
        "run_id": entry.id,
        "folder": str(entry.folder),
        "name": entry.name,
        "state": entry.state,
        "user": None if entry.uid is None else users(entry.uid),
        "uid": entry.uid,
        "host": entry.host,
        "labels": dict(entry.labels),
        "started_at": rfc3339(entry.start_s),
        "month": row.month or None,
        "is_part": row.is_part,
        "duration_s": entry.duration_s,
        "energy_kwh": _kwh(entry.energy_j),
        "measured_ratio": entry.measured_ratio,
        "emissions_kg": _kg(entry.emissions_g),
        "is_settled": entry.is_settled,
    }


def group_document(keys: Sequence[str], group: Group) -> dict[str, Any]:
    """The sums of a group, with its keys."""
    return {
        "keys": dict(zip(keys, group.keys, strict=True)),
        "runs": group.runs,
        "runs_without_energy": group.unknown,
        "energy_kwh": _kwh(group.energy_j.total),
        "measured_ratio": group.measured_ratio,
        "emissions_kg": _kg(group.emissions_g.total),
        "duration_s": group.duration_s.total,
        "energy_mean_kwh": _kwh(group.energy_j.mean),
        "energy_sd_kwh": _kwh(group.energy_j.deviation),
        "emissions_mean_kg": _kg(group.emissions_g.mean),
        "emissions_sd_kg": _kg(group.emissions_g.deviation),
    }


def _kwh(joules: float | None) -> float | None:
    return None if joules is None else float(f"{joules / JOULES_PER_KWH:.9g}")


def _kg(grams: float | None) -> float | None:
    return None if grams is None else float(f"{grams / 1000.0:.9g}")
