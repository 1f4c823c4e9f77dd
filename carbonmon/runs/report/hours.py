"""What runs drew hour by hour, in UTC, from the rows of their series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from carbonmon.core.model import JOULES_PER_KWH, MEASURED_METHODS
from carbonmon.core.records import NamedTuple
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.report.csv_table import cell
from carbonmon.runs.report.spreadsheet import rounded, rounded_ratio, time_cell
from carbonmon.runs.series import streamed
from carbonmon.runs.series_rows import SeriesRow
from carbonmon.runs.summaries import Part
from carbonmon.runs.summary.figures import percent_text

HOUR_S = 3600.0
COLUMNS = (
    *("hour_start_utc", "hour_end_utc", "run_id", "host", "zone", "facility_kwh", "energy_kwh", "pue_ratio"),
    *("emissions_kg", "intensity_g_per_kwh", "intensity_kind", "measured_ratio"),
)
_MISSING_RATIO = 0.005
_MAX_HOURS_A_ROW = 24 * 366


class Hour(NamedTuple):
    """What a run drew from `start_s` (Unix time, a whole hour) on, for an hour; emissions include the PUE."""

    start_s: float
    energy_j: float
    measured_j: float
    emissions_g: float
    kinds: frozenset[str]


def hours_of(folder: Path) -> tuple[list[Hour], int]:
    """The hours of a run's folder in order, and how many lines were damaged; raises RunFileError without."""
    sums: dict[float, list[float]] = {}
    kinds: dict[float, set[str]] = {}
    damaged = 0
    for _, rows in streamed(folder):
        if rows is None:
            damaged += 1
            continue
        for row in rows:
            for start_s, part in parts_by_hour(row):
                total = sums.setdefault(start_s, [0.0, 0.0, 0.0])
                total[0] += row.energy_j * part
                total[1] += row.energy_j * part if row.method in MEASURED_METHODS else 0.0
                total[2] += row.emissions_g * part
                kinds.setdefault(start_s, set()).add(row.intensity_kind)
    hours = []
    for at in sorted(sums):
        energy_j, measured_j, emissions_g = sums[at]
        hours.append(Hour(at, energy_j, measured_j, emissions_g, frozenset(kinds[at])))
    return hours, damaged


def parts_by_hour(row: SeriesRow) -> Iterator[tuple[float, float]]:
    """The hours that a row lies in, and its part in each: it is taken as even over its time."""
    start_s = row.at_s - row.duration_s
    hour_s = start_s // HOUR_S * HOUR_S
    if row.duration_s <= 0 or row.at_s <= hour_s + HOUR_S or row.duration_s > _MAX_HOURS_A_ROW * HOUR_S:
        yield (row.at_s - 1e-6) // HOUR_S * HOUR_S, 1.0
        return
    while hour_s < row.at_s:
        inside_s = min(row.at_s, hour_s + HOUR_S) - max(start_s, hour_s)
        yield hour_s, inside_s / row.duration_s
        hour_s += HOUR_S


def hourly_csv(parts: Sequence[Part]) -> tuple[str, list[str]]:
    """A row an hour of each run, and what is missing, in sentences.

    `facility_kwh` is the electricity that the data centre bought: the devices' times the PUE. Certificates or
    a power purchase agreement with a figure for each hour are matched with it. An hour without energy has no
    row.
    """
    lines, notes = [",".join(COLUMNS)], []
    for part in parts:
        run = part.summary["run"]
        if part.folder is None:
            notes.append(f"{run['id']}: there is no folder with the series: only a summary was given")
            continue
        try:
            hours, damaged = hours_of(part.folder)
        except RunFileError as error:
            notes.append(str(error))
            continue
        lines += [_line(part, hour) for hour in hours]
        notes += _lack(part, hours, damaged)
    return "\n".join(lines) + "\n", notes


def _line(part: Part, hour: Hour) -> str:
    run, carbon = part.summary["run"], part.summary["carbon"]
    kwh = hour.energy_j / JOULES_PER_KWH
    facility_kwh = kwh * carbon["pue"]
    values = {
        "hour_start_utc": time_cell(hour.start_s),
        "hour_end_utc": time_cell(hour.start_s + HOUR_S),
        "run_id": run["id"],
        "host": run["host"],
        "zone": carbon["intensity"]["zone"],
        "facility_kwh": rounded(facility_kwh),
        "energy_kwh": rounded(kwh),
        "pue_ratio": carbon["pue"],
        "emissions_kg": rounded(hour.emissions_g / 1e3),
        "intensity_g_per_kwh": rounded(hour.emissions_g / facility_kwh) if facility_kwh else None,
        "intensity_kind": "+".join(sorted(hour.kinds)),
        "measured_ratio": rounded_ratio(min(1.0, hour.measured_j / hour.energy_j)) if hour.energy_j else None,
    }
    return ",".join(_plain(values[column]) for column in COLUMNS)


def _plain(value: object) -> str:
    return f"{value:f}".rstrip("0").rstrip(".") if isinstance(value, float) else cell(value)


def _lack(part: Part, hours: Iterable[Hour], damaged: int) -> list[str]:
    run_id, total_j = part.summary["run"]["id"], part.summary["energy"]["total_j"] or 0.0
    notes = [f"{run_id}: {damaged} damaged lines of the series are left out"] if damaged else []
    drawn_j = sum(hour.energy_j for hour in hours)
    if total_j - drawn_j > _MISSING_RATIO * total_j:
        notes.append(f"{run_id}: the series holds {percent_text(drawn_j / total_j)} of the run's energy")
    return notes
