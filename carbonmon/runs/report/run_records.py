"""Runs of a folder, or groups of them, for programs: as CSV and as JSON, in kWh, kg and seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.times import rfc3339
from carbonmon.runs.listing import Group, Row
from carbonmon.runs.report.csv_table import cell

SCHEMA = "carbonmon.runs/1"

Users = Callable[[int | None], str]
"""The name of a user by the number."""

RUN_COLUMNS = (
    *("run_id", "name", "state", "user", "uid", "host", "started_at", "month", "duration_s", "energy_kwh"),
    *("measured_ratio", "emissions_kg", "is_settled", "labels"),
)
GROUP_COLUMNS = (
    *("runs", "energy_kwh", "measured_ratio", "emissions_kg", "duration_s", "energy_mean_kwh"),
    *("energy_sd_kwh", "emissions_mean_kg", "emissions_sd_kg", "runs_without_energy"),
)


def runs_csv(rows: Sequence[Row], users: Users) -> str:
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


def row_document(row: Row, users: Users) -> dict[str, Any]:
    """A run, or its part in a month; its times are in UTC."""
    entry = row.entry
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
