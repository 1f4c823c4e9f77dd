"""Writes one run's folder: checkpoints, and the time series.

What each file holds: `layout.py`. A method that raises OSError has left an older state that is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import DISK_FAULTS, remove_leftovers, replace_file
from carbonmon.core.model import Device, RunState, Snapshot
from carbonmon.runs import layout
from carbonmon.runs.checkpoint_slots import CheckpointSlots
from carbonmon.runs.holder import MONITOR_FILE
from carbonmon.runs.lock import RunLock
from carbonmon.runs.series_file import SeriesFile
from carbonmon.runs.series_rows import Parts


class RunFiles:
    """The files of one run, and the lock that shows that it has a monitor.

    `former` are devices of an earlier part of the run that are no longer in the machine. Raises `ConfigError`
    if the folder may not be written, or another monitor writes it; not for what a disk says, nor where the
    folder `is_own`, found for a new run of ours: then `write` tries again. `period_s` is the time between
    two checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        boot: str,
        former: Sequence[Device] = (),
        period_s: float = 5.0,
        *,
        is_own: bool = False,
    ) -> None:
        self.folder = folder
        self._boot_id = boot
        self._former = former
        self._lock = RunLock(folder, period_s)
        self._checkpoint = CheckpointSlots(folder)
        self._series = SeriesFile(folder, self._lock.take)
        self._has_run_file = False
        try:
            self._series.open()
        except OSError as error:
            if is_own or error.errno in DISK_FAULTS:  # `write` tries again, and its caller says what fails
                return
            raise ConfigError(
                f"--output: {folder} cannot be written ({error.strerror or error}); give a folder that can"
            ) from None

    @property
    def is_new(self) -> bool:
        """Whether nothing was written yet."""
        return not self._has_run_file

    @property
    def parts(self) -> Parts:
        """Where the sampling thread puts what the run drew, for the series."""
        return self._series.parts

    def close(self) -> None:
        """Release the lock; the kernel does the same if this process is killed."""
        self._lock.release()
        self._series.close()

    def write(self, snapshot: Snapshot, run: RunState, now_s: float, is_last: bool = False) -> None:
        """Write a checkpoint, and the rows of the series that are complete: all if the run has ended, or if
        this monitor writes for the last time. Raises OSError."""
        if not self._has_run_file or not self._series.is_in_place():
            self._has_run_file = False
            self._write_run_file(snapshot, run)
            self._has_run_file = True
        self._checkpoint.write(layout.checkpoint_text(snapshot, run, self._boot_id))
        self._series.write(snapshot, run, now_s, is_last or run.ended_at_s is not None)

    def _write_run_file(self, snapshot: Snapshot, run: RunState) -> None:
        """Write run.json; if the folder was removed, make it and the series again."""
        devices = [state.device for state in snapshot.devices]
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._series.is_in_place():
            self._series.open()
        self._checkpoint = CheckpointSlots(self.folder)
        remove_leftovers(self.folder, (*layout.FILES, layout.SUMMARY_FILE, MONITOR_FILE))
        former = [device for device in self._former if device not in devices]
        text = layout.run_text(run.info, [*devices, *former])
        replace_file(self.folder / layout.RUN_FILE, text.encode())
