"""Runs over time as one long CSV table: the rows of their series, with the run and the host of each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.runs.reader import read_run
from carbonmon.runs.report.csv_table import cell
from carbonmon.runs.series import read_lines
from carbonmon.runs.series_rows import SeriesRow

COLUMNS = ("run_id", "host", *SeriesRow._fields)


def series_csv_text(folders: Iterable[Path]) -> tuple[str, list[str]]:
    """The table with its head, and what is missing in it. Raises `ConfigError` for a run given twice."""
    lines, notes = [",".join(COLUMNS)], []
    seen = set()
    for folder in folders:
        info, devices = read_run(folder)
        if (info.id, info.host) in seen:
            raise ConfigError(f"{folder}: run {info.id!r} of {info.host!r} is given twice")
        seen.add((info.id, info.host))
        components = {device.id: device.component for device in devices}
        whose = f"{cell(info.id)},{cell(info.host)},"
        damaged = 0
        for _, rows in read_lines(folder):
            if rows is None:
                damaged += 1
                continue
            for row in rows:
                known = row if row.component else row._replace(component=components.get(row.device))
                lines.append(whose + ",".join(map(cell, known)))
        if damaged:
            notes.append(f"{folder}: {damaged} damaged lines of the series are left out")
    return "\n".join(lines) + "\n", notes
