"""Writes one run's folder: checkpoints, and the time series.

What each file holds: `layout.py`. A method that raises OSError has left the older state in place.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from carbonmon.core.documents import json_value
from carbonmon.core.errors import ConfigError
from carbonmon.core.files import DISK_FAULTS, append_durably, remove_leftovers, replace_file
from carbonmon.core.model import Device, RunState, Snapshot
from carbonmon.runs import layout
from carbonmon.runs.lock import RunLock

log = logging.getLogger(__name__)

SERIES_PERIOD_S = 60.0

SERIES_TAIL_BYTES = 1 << 16
"""The last line of a series is searched in so many last bytes: many times one line of a large node."""


class RunFiles:
    """The files of one run, and the lock that shows that it has a monitor.

    `former` are devices of an earlier part of the run that are no longer in the machine. Raises `ConfigError`
    if the folder may not be written, or another monitor writes it. `period_s` is the time between two
    checkpoints.
    """

    def __init__(self, folder: Path, boot: str, former: Sequence[Device] = (), period_s: float = 5.0) -> None:
        self.folder = folder
        self._boot_id = boot
        self._former = former
        self._numbers: dict[str, int] = {}
        self._lock = RunLock(folder, period_s)
        self._series = -1
        self._series_due_s = 0.0
        self._series_at_s = 0.0
        self._line_end = b""
        self._has_run_file = False
        try:
            self._open_series()
        except OSError as error:
            if error.errno in DISK_FAULTS:  # `write` tries again, and its caller says what fails
                return
            raise ConfigError(
                f"--output: {folder} cannot be written ({error.strerror or error}); give a folder that can"
            ) from None

    @property
    def is_new(self) -> bool:
        """Whether nothing was written yet."""
        return not self._has_run_file

    def close(self) -> None:
        """Release the lock; the kernel does the same if this process is killed."""
        self._lock.release()
        self._close_series()

    def write(self, snapshot: Snapshot, run: RunState, now_s: float) -> None:
        """Write a checkpoint, and a line of the series if one is due or the run has ended. Raises OSError."""
        if not self._has_run_file or not self._is_in_place():
            self._has_run_file = False
            self._write_run_file(snapshot, run)
            self._has_run_file = True
        replace_file(
            self.folder / layout.CHECKPOINT_FILE,
            layout.checkpoint_text(snapshot, run, self._boot_id).encode(),
        )
        if now_s >= self._series_due_s or run.ended_at_s is not None:
            # The wall clock may be set back; within the series time never decreases.
            at_s = max(snapshot.at_s, self._series_at_s)
            line = layout.series_line(snapshot._replace(at_s=at_s), run, self._numbers)
            append_durably(self._series, line.encode())
            self._series_at_s = at_s
            self._series_due_s = now_s + SERIES_PERIOD_S

    def _write_run_file(self, snapshot: Snapshot, run: RunState) -> None:
        """Write run.json and the header of the series; again if the folder was removed."""
        devices = [state.device for state in snapshot.devices]
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._is_in_place():
            self._close_series()
            self._open_series()
        remove_leftovers(self.folder)
        former = [device for device in self._former if device not in devices]
        text = layout.run_text(run.info, [*devices, *former])
        replace_file(self.folder / layout.RUN_FILE, text.encode())
        self._numbers = {device.id: number for number, device in enumerate(devices)}
        append_durably(self._series, self._line_end + layout.series_header(devices).encode())
        self._line_end = b""

    def _is_in_place(self) -> bool:
        """Whether the folder still holds the series that we write, and was not removed, moved or replaced."""
        if self._series < 0:
            return False
        try:
            found = (self.folder / layout.SERIES_FILE).stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._series))

    def _close_series(self) -> None:
        if self._series >= 0:
            os.close(self._series)
            self._series = -1

    def _open_series(self) -> None:
        """Open series.jsonl and lock it; raises OSError, or `ConfigError` if another monitor has it."""
        path = self.folder / layout.SERIES_FILE
        self._series = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            self._lock.take(self._series)
        except ConfigError:
            self._close_series()
            raise
        size = os.fstat(self._series).st_size
        end = os.pread(self._series, SERIES_TAIL_BYTES, max(0, size - SERIES_TAIL_BYTES))
        self._series_at_s = max(self._series_at_s, _last_at_s(end))
        # An incomplete line that a crash left is ended, so that the next one stands by itself.
        self._line_end = b"" if end.endswith(b"\n") or not end else b"\n"


def _last_at_s(end: bytes) -> float:
    """Unix time of the last moment in the end of a series, 0 without one."""
    for line in reversed(end.splitlines()):
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            at_s = float(json_value(line)["at_s"])
            if math.isfinite(at_s):
                return at_s
    return 0.0
