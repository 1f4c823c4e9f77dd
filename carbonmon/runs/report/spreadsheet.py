"""Runs as a CSV table for a spreadsheet: a row a run, rounded, in kWh, kg, seconds and UTC.

Rounding: amounts have six significant digits, durations a tenth of a second, times a second. That is far
finer than any figure is known, so that sums stay right; a ratio that is not quite 0 or 1 is never rounded to
it. Unknown is an empty cell, never 0. Each label has a column of its own, `label:KEY`, behind the others.
Emissions are the settled ones of a run that was settled, and so is their intensity. All details:
`csv_table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.plain_text import without_exponent
from carbonmon.core.times import known_time, utc_text
from carbonmon.runs.report.csv_table import cell
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.users import user_name

COLUMNS = (
    *("run_id", "name", "state", "user", "uid", "host", "started_utc", "ended_utc", "duration_s"),
    *("energy_kwh", "energy_low_kwh", "energy_high_kwh", "measured_ratio"),
    *("emissions_kg", "emissions_low_kg", "emissions_high_kg", "is_settled"),
    *("region", "intensity_g_per_kwh", "intensity_source", "intensity_basis", "pue_ratio"),
    *("water_l", "cost", "currency"),
)
EMBODIED = ("embodied_low_kg", "embodied_high_kg")
"""Columns that are there where embodied emissions were asked for."""

WHAT_IF = (
    *("what_if_place", "what_if_emissions_kg", "what_if_low_kg", "what_if_high_kg"),
    *("what_if_g_per_kwh", "what_if_source", "what_if_basis"),
)
"""Columns that are there where somebody asked what the run would have caused at another place."""

LABEL = "label:"

_DIGITS = 6
_SPREADSHEET_TIME = "%Y-%m-%d %H:%M:%S"
"""Taken for a time by Excel and LibreOffice; a T or a Z makes it a text in some of them."""

Users = Callable[[int | None], str]
"""The name of a user by the number."""


def spreadsheet_text(summaries: Iterable[Mapping[str, Any]], users: Users = user_name) -> str:
    """The table with its head, a row for each summary. A name comes from the summary, else from `users`."""
    rows = [_row(summary, users) for summary in summaries]
    asked = [group for group in (EMBODIED, WHAT_IF) if any(group[0] in row for row in rows)]
    return table((*COLUMNS, *(column for group in asked for column in group)), rows)


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of cells by column, and their `labels` by name; each line ends in a newline."""
    labels = list(dict.fromkeys(key for row in rows for key in row.get("labels") or ()))
    lines = [",".join((*columns, *(cell(f"{LABEL}{key}") for key in labels)))]
    for row in rows:
        own = row.get("labels") or {}
        cells = [_shown(row.get(column)) for column in columns]
        lines.append(",".join((*cells, *(cell(own.get(key)) for key in labels))))
    return "\n".join(lines) + "\n"


def kwh(joules: float | None) -> float | None:
    return None if joules is None else joules / JOULES_PER_KWH


def kg(grams: float | None) -> float | None:
    return None if grams is None else grams / 1000.0


def time_cell(unix_s: float | None) -> str | None:
    """A time in UTC; None for one that is unknown or beyond the calendar."""
    try:
        return None if unix_s is None else utc_text(unix_s, _SPREADSHEET_TIME)
    except (ValueError, OverflowError, OSError):
        return None


def rounded(value: float | None) -> float | None:
    """An amount with six significant digits."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def rounded_ratio(ratio: float | None) -> float | None:
    """A ratio in steps of a millionth; one that is not quite 0 or 1 stays beside it."""
    if ratio is None or ratio in (0.0, 1.0):
        return ratio
    step = 10.0**-_DIGITS
    return min(1.0 - step, max(step, round(ratio, _DIGITS)))


def _shown(value: Any) -> str:
    """A value as it stands in the table: numbers without an exponent, which may be taken for a text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return without_exponent(repr(value)).removesuffix(".0")
    return cell(value)


def _what_if(found: Mapping[str, Any] | None) -> dict[str, Any]:
    if found is None:
        return {}
    intensity = found["intensity"]
    return {
        "what_if_place": found["place"],
        "what_if_emissions_kg": rounded(kg(found["emissions_g"])),
        "what_if_low_kg": rounded(kg(found["low_g"])),
        "what_if_high_kg": rounded(kg(found["high_g"])),
        "what_if_g_per_kwh": rounded(intensity["mean_g_per_kwh"]),
        "what_if_source": intensity["source"],
        "what_if_basis": intensity["basis"],
    }


def _row(summary: Mapping[str, Any], users: Users) -> dict[str, Any]:
    run, energy, carbon = summary["run"], summary["energy"], known_carbon(summary)
    intensity: Mapping[str, Any] = carbon.get("intensity") or {}
    costs: Sequence[Mapping[str, Any]] = summary.get("costs") or ()
    amounts = {
        "energy_kwh": kwh(energy["total_j"]),
        "energy_low_kwh": kwh(energy["low_j"]),
        "energy_high_kwh": kwh(energy["high_j"]),
        "emissions_kg": kg(carbon["emissions_g"]),
        "emissions_low_kg": kg(carbon["low_g"]),
        "emissions_high_kg": kg(carbon["high_g"]),
        "intensity_g_per_kwh": intensity.get("mean_g_per_kwh"),
        "pue_ratio": carbon["pue"],
        "water_l": (summary.get("water") or {}).get("litres"),
        "cost": costs[0]["amount"] if len(costs) == 1 else None,
    }
    made = summary.get("embodied")
    if made is not None:
        amounts |= {"embodied_low_kg": kg(made["low_g"]), "embodied_high_kg": kg(made["high_g"])}
    duration_s = run["duration_s"]
    return {
        **_what_if(summary.get("what_if")),
        "run_id": run["id"],
        "name": run["name"],
        "state": summary["state"],
        "user": run.get("user") or users(run.get("uid")) or None,
        "uid": run.get("uid"),
        "host": run["host"],
        "started_utc": time_cell(known_time(run["started_at"])),
        "ended_utc": time_cell(known_time(run["ended_at"])),
        "duration_s": None if duration_s is None else round(duration_s, 1),
        "measured_ratio": rounded_ratio(energy["measured_ratio"]),
        "is_settled": summary.get("settled") is not None,
        "region": intensity.get("zone") or None,
        "intensity_source": intensity.get("source"),
        "intensity_basis": intensity.get("basis"),
        "currency": costs[0]["currency"] if len(costs) == 1 else None,
        "labels": run["labels"],
        **{column: rounded(amount) for column, amount in amounts.items()},
    }
