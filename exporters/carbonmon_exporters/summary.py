"""The exporter `summary`: one JSON file in each run's folder, replaced as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.ports import Exporter, ExporterSettings
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.summary.document import State, summarize
from carbonmon.runs.summary.file import own_peak_rss_bytes, write_summary

RUNNING_PERIOD_S = 60.0


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter; runs and their folders may come later."""
    return SummaryExporter(settings.run_folders, settings.procfs)


class SummaryExporter:
    """Writes the summary of every run that has a folder: when it is first seen, each minute, and at its end.

    Folders are found by the run's id alone: the folder's name says nothing, because the nodes of a job
    share its id and not its folder.
    """

    name = "summary"

    def __init__(self, run_folders: Mapping[str, Path], procfs: Path) -> None:
        self._folders = run_folders
        self._procfs = procfs
        # Both by run id. A run that is resumed ends a second time, and gets a second final summary.
        self._due_samples: dict[str, int] = {}
        self._final: dict[str, float | None] = {}

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """The path of the summary if there is exactly one run's folder, else ""."""
        folders = tuple(self._folders.values())
        return str(folders[0] / SUMMARY_FILE) if len(folders) == 1 else ""

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Write a running summary of each run once a minute, and the final one of each that has ended.

        Between two of them the checkpoint holds the totals. Raises the first OSError after every run had
        its turn; a run whose file could not be written has another turn at the next checkpoint.
        """
        turns: list[tuple[RunState, State]] = [
            (run, "running" if run.ended_at_s is None else "final")
            for run in snapshot.runs
            if self._is_due(run, snapshot.samples)
        ]
        self._write_all(snapshot, turns)
        present = {run.info.id for run in snapshot.runs}
        self._due_samples = {run_id: due for run_id, due in self._due_samples.items() if run_id in present}
        self._final = {run_id: end_s for run_id, end_s in self._final.items() if run_id in present}

    def finish(self, final: Snapshot) -> None:
        """Write the final summary of every run that has none; one that goes on without this monitor is
        running. Raises OSError as `checkpoint` does."""
        due = [run for run in final.runs if not self._is_final(run)]
        self._write_all(final, [(run, "running" if run.ended_at_s is None else "final") for run in due])

    def close(self) -> None:
        """Nothing is held open."""

    def _is_due(self, run: RunState, samples: int) -> bool:
        if run.ended_at_s is not None:
            return not self._is_final(run)
        return samples >= self._due_samples.get(run.info.id, 0)

    def _is_final(self, run: RunState) -> bool:
        run_id = run.info.id
        return run_id in self._final and self._final[run_id] == run.ended_at_s

    def _write_all(self, snapshot: Snapshot, turns: Sequence[tuple[RunState, State]]) -> None:
        rss_bytes = own_peak_rss_bytes(self._procfs) if turns else None
        errors = [self._write(snapshot, run, state, rss_bytes) for run, state in turns]
        first = next(filter(None, errors), None)
        if first is not None:
            raise first

    def _write(
        self, snapshot: Snapshot, run: RunState, state: State, rss_bytes: int | None
    ) -> OSError | None:
        """Write one run's file; the error is returned, so that the other runs have their turn."""
        run_id = run.info.id
        folder = self._folders.get(run_id)
        if folder is None:
            return None
        try:
            write_summary(folder, summarize(snapshot, run, state, rss_bytes), run.info.uid)
        except OSError as error:
            return error
        if state == "final":
            self._final[run_id] = run.ended_at_s
            self._due_samples.pop(run_id, None)
        else:
            period_samples = max(1, round(RUNNING_PERIOD_S / snapshot.interval_s))
            self._due_samples[run_id] = snapshot.samples + period_samples
        return None
