"""Runs of a folder, or groups of them, for programs: as CSV and as JSON, in kWh, kg and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.core.times import rfc3339
from carbonmon.runs.listing import Group, Row
from carbonmon.runs.report import spreadsheet
from carbonmon.runs.report.csv_table import cell
from carbonmon.runs.report.spreadsheet import Users

SCHEMA = "carbonmon.runs/1"

RUN_COLUMNS = (
    *("run_id", "name", "state", "user", "uid", "host", "started_utc", "month", "duration_s", "energy_kwh"),
    *("measured_ratio", "emissions_kg", "is_settled"),
)
GROUP_COLUMNS = (
    *("runs", "energy_kwh", "measured_ratio", "emissions_kg", "duration_s", "energy_mean_kwh"),
    *("energy_sd_kwh", "emissions_mean_kg", "emissions_sd_kg", "runs_without_energy"),
)


def runs_csv(rows: Sequence[Row], users: Users) -> str:
    """A row for each run, as in `spreadsheet.py`; `month` is empty where a row is a whole run."""
    return spreadsheet.table(RUN_COLUMNS, [_cells(row, users) for row in rows])


def _cells(row: Row, users: Users) -> dict[str, Any]:
    document, duration_s = row_document(row, users), row.entry.duration_s
    return {
        **document,
        "started_utc": spreadsheet.time_cell(row.entry.start_s),
        "duration_s": None if duration_s is None else round(duration_s, 1),
        "energy_kwh": spreadsheet.rounded(document["energy_kwh"]),
        "emissions_kg": spreadsheet.rounded(document["emissions_kg"]),
        "measured_ratio": spreadsheet.rounded_ratio(document["measured_ratio"]),
    }


def groups_csv(keys: Sequence[str], groups: Sequence[Group]) -> str:
    """A row for each group."""
    lines = [",".join((*map(cell, keys), *GROUP_COLUMNS))]
    for group in groups:
        document = group_document(keys, group)
        lines.append(
            ",".join((*map(cell, group.keys), *(cell(document[column]) for column in GROUP_COLUMNS)))
        )
    return "\n".join(lines) + "\n"


def row_document(row: Row, users: Users) -> dict[str, Any]:
    """A run, or its part in a month; its times are in UTC."""
    entry = row.entry
    return {
        "run_id": entry.id,
        "folder": str(entry.folder),
        "name": entry.name,
        "state": entry.state,
        "user": entry.user or users(entry.uid) or None,
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
    kwh = spreadsheet.kwh(joules)
    return None if kwh is None else float(f"{kwh:.9g}")


def _kg(grams: float | None) -> float | None:
    kg = spreadsheet.kg(grams)
    return None if kg is None else float(f"{kg:.9g}")
