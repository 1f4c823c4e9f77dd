"""Series of runs, in the version that is written and in that of releases until 0.2."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carbonmon.core.model import Device, RunState, RunTotal, Snapshot
from carbonmon.runs import layout
from carbonmon.runs.series import SERIES_1_SCHEMA, read_series
from carbonmon.runs.series_file import SeriesFile
from carbonmon.runs.series_rows import Key, SeriesRow

ROW = SeriesRow(
    100.0, 1.0, "GPU-1", "gpu", "main", "counter", 300.0, 300.0, 290.0, 310.0, 0.01, 360.0, "table"
)


def series_text(row: SeriesRow) -> str:
    """The line of a row, as a monitor writes it."""
    powers = ["null" if watts is None else repr(watts) for watts in row[7:10]]
    return layout.series_line(
        layout.number(row.at_s),
        row.duration_s,
        layout.series_names(row.device, row.component, row.phase, row.method),
        row.energy_j,
        *powers,
        row.emissions_g,
        layout.series_charged(row.intensity_g_per_kwh, row.intensity_kind),
    )


def rows_of(snapshot: Snapshot, run: RunState, duration_s: float = 60.0) -> list[SeriesRow]:
    """A row for each total of a run that is not 0, as if it was drawn just now."""
    return [
        SeriesRow(
            round(snapshot.at_s, 3),
            duration_s,
            row.device_id,
            row.component,
            row.phase,
            row.method,
            round(row.energy_j, 3),
            round(row.energy_j / duration_s, 2),
            None,
            None,
            round(row.emissions_g, 9),
            snapshot.intensity.g_per_kwh,
            snapshot.intensity.kind,
        )
        for row in run.totals
        if row.energy_j
    ]


def write_series(folder: Path, snapshots: Iterable[Snapshot]) -> None:
    """The series of the only run of snapshots, by the writer; the last one may be of a run that has ended."""
    series = SeriesFile(folder, lambda descriptor: None)
    series.open()
    for snapshot in snapshots:
        (run,) = snapshot.runs
        series.write(snapshot, run, 0.0, run.ended_at_s is not None)
    series.close()


def header_1(devices: Sequence[Device], schema: str = SERIES_1_SCHEMA) -> str:
    """The line that begins a monitor's part of a series of version 1: its devices, later named by number."""
    return _line({"schema": schema, "devices": [device.id for device in devices]})


def line_1(snapshot: Snapshot, run: RunState, number: Mapping[str, int]) -> str:
    """A moment of a series of version 1: running totals; `number` is each device's place in the header."""
    return _line(
        {
            "at_s": round(snapshot.at_s, 3),
            "duration_s": round(run.duration_s, 3),
            "energy_j": [
                (row.phase, number.get(row.device_id, row.device_id), row.method, round(row.energy_j, 3))
                for row in run.totals
                if row.energy_j
            ],
            "emissions_g": round(sum(row.emissions_g for row in run.totals), 6),
            "power_w": [None if watts is None else round(watts, 1) for _, watts in run.power_w],
            "intensity_g_per_kwh": snapshot.intensity.g_per_kwh,
            "intensity_kind": snapshot.intensity.kind,
        }
    )


def write_series_1(folder: Path, snapshots: Iterable[Snapshot], devices: Sequence[Device]) -> None:
    """A monitor's part of a series of version 1, added to what is there."""
    number = {device.id: place for place, device in enumerate(devices)}
    lines = [line_1(snapshot, snapshot.runs[0], number) for snapshot in snapshots]
    with (folder / layout.SERIES_FILE).open("a") as file:
        file.write("".join([header_1(devices), *lines]))


def sums(rows: Iterable[SeriesRow]) -> dict[Key, float]:
    """Joules of a series by phase, device and method."""
    found: dict[Key, float] = {}
    for row in rows:
        found[row.key] = found.get(row.key, 0.0) + row.energy_j
    return found


def times(folder: Path) -> list[float]:
    """The times of a series, each once; no line of it is damaged."""
    rows, damaged = read_series(folder)
    assert damaged == []
    return list(dict.fromkeys(row.at_s for row in rows))


def totals_of(totals: Iterable[RunTotal]) -> dict[Key, float]:
    """Joules of a run's totals by phase, device and method, without those that are 0."""
    return {(row.phase, row.device_id, row.method): row.energy_j for row in totals if row.energy_j}


def _line(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace").decode() + "\n"
