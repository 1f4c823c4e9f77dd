"""The exporter `summary`: one JSON file in the run's folder, replaced as a whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carbonmon.errors import CarbonmonError
from carbonmon.files import replace_file
from carbonmon.model import RunState, Snapshot
from carbonmon.ports import Exporter, ExporterSettings
from carbonmon_exporters.document import SCHEMA, MonitorCost, State, summarize

__all__ = [
    "FILE_NAME",
    "SCHEMA",
    "SCHEMA_FILE",
    "MonitorCost",
    "State",
    "SummaryExporter",
    "describe",
    "monitor_cost",
    "open_exporter",
    "summarize",
    "write_summary",
]

FILE_NAME = "summary.json"
SCHEMA_FILE = Path(__file__).with_name("summary.schema.json")
"""The JSON Schema (draft 2020-12) that every summary obeys."""

RUNNING_PERIOD_S = 60.0


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter. Raises CarbonmonError without a run's folder to write into."""
    if settings.run_folder is None:
        raise CarbonmonError("the summary needs a run's folder, and this monitor has none")
    return SummaryExporter(settings.run_folder, settings.procfs)


class SummaryExporter:
    """Writes the summary of the run that its folder belongs to: at its start, each minute, and at its end."""

    name = "summary"

    def __init__(self, run_folder: Path, procfs: Path) -> None:
        self._folder = run_folder
        self._procfs = procfs
        self._due_samples = 0

    def start(self, latest: Callable[[], Snapshot]) -> str:
        return str(self._folder / FILE_NAME)

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Write a running summary, once a minute: between two of them the checkpoint holds the totals."""
        if snapshot.samples >= self._due_samples:
            self._write(snapshot, "running")
            self._due_samples = snapshot.samples + max(1, round(RUNNING_PERIOD_S / snapshot.interval_s))

    def finish(self, final: Snapshot) -> None:
        """Write the file; does nothing without a run. Raises OSError and leaves the old file if it cannot."""
        self._write(final, "final")

    def _write(self, snapshot: Snapshot, state: State) -> None:
        if snapshot.runs:
            run = self._own_run(snapshot)
            write_summary(self._folder, summarize(snapshot, run, state, monitor_cost(self._procfs)))

    def close(self) -> None:
        """Nothing is held open."""

    def _own_run(self, snapshot: Snapshot) -> RunState:
        """The run whose id is the folder's name; the only one whatever the folder's name."""
        for run in snapshot.runs:
            if run.info.id == self._folder.name or len(snapshot.runs) == 1:
                return run
        raise CarbonmonError(f"none of the {len(snapshot.runs)} runs belongs to the folder {self._folder}")


def describe(final: Snapshot) -> str:
    """The table for the end of a run, of the only run of its last snapshot; "" without one."""
    from carbonmon_exporters.text import table_text

    return table_text(summarize(final, final.runs[0], "final")) if final.runs else ""


def write_summary(folder: Path, summary: dict[str, Any]) -> Path:
    """Replace summary.json in the folder atomically and durably; returns its path. Raises OSError."""
    path = folder / FILE_NAME
    replace_file(path, (json.dumps(summary, ensure_ascii=False, allow_nan=False, indent=2) + "\n").encode())
    return path


def monitor_cost(procfs: Path) -> MonitorCost:
    """What this process has used so far.

    The peak is VmHWM and not getrusage's ru_maxrss, which an exec inherits from the process that forked.
    """
    return MonitorCost(time.process_time(), _peak_rss_bytes(procfs / "self" / "status"))


def _peak_rss_bytes(status: Path) -> int | None:
    """VmHWM from a /proc status file, which states it in kB of 1024 bytes; None if it cannot be read."""
    try:
        with status.open("rb") as lines:
            for line in lines:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
