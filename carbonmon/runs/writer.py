"""Writes one run's folder: the lock, checkpoints, and the time series.

What each file holds: `layout.py`. A method that raises OSError has left the older state in place.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from carbonmon.core.documents import json_value
from carbonmon.core.errors import ConfigError
from carbonmon.core.files import append_durably, remove_leftovers, replace_file
from carbonmon.core.model import Device, RunState, Snapshot
from carbonmon.runs import layout

log = logging.getLogger(__name__)

SERIES_PERIOD_S = 60.0

LOCK_ATTEMPTS, LOCK_PAUSE_S = 5, 0.05
"""A report takes the lock for a moment, to see whether a monitor writes the run: that is no other monitor."""

SERIES_TAIL_BYTES = 1 << 16
"""The last line of a series is searched in so many last bytes: many times one line of a large node."""


def boot_id(procfs: Path) -> str:
    """The kernel's id of this boot (random(4)): hardware counters hold within one boot. "" if unknown."""
    with suppress(OSError, ValueError):
        return (procfs / "sys/kernel/random/boot_id").read_text().strip()
    return ""


class RunFiles:
    """The files of one run, and the lock that shows that it has a monitor.

    `former` are devices of an earlier part of the run that are no longer in the machine. Raises `ConfigError`
    if the folder cannot be written, or another monitor writes it.
    """

    def __init__(self, folder: Path, boot: str, former: Sequence[Device] = ()) -> None:
        self.folder = folder
        self._boot_id = boot
        self._former = former
        self._numbers: dict[str, int] = {}
        self._series = -1
        self._series_due_s = 0.0
        self._series_at_s = 0.0
        self._line_end = b""
        self._has_run_file = False
        try:
            self._open_series()
        except OSError as error:
            raise ConfigError(
                f"--output: {folder} cannot be written ({error.strerror or error}); give a folder that can"
            ) from None

    @property
    def is_new(self) -> bool:
        """Whether nothing was written yet."""
        return not self._has_run_file

    def close(self) -> None:
        """Release the lock; the kernel does the same if this process is killed."""
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

    def _lock_series(self) -> bool:
        """Take the lock; False if another process has it. On a file system without locks always True."""
        for attempt in range(LOCK_ATTEMPTS):
            if attempt:
                time.sleep(LOCK_PAUSE_S)
            try:
                fcntl.flock(self._series, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    continue
            return True
        return False

    def _close_series(self) -> None:
        if self._series >= 0:
            os.close(self._series)
            self._series = -1

    def _open_series(self) -> None:
        """Open series.jsonl, whose flock shows that this run has a monitor."""
        path = self.folder / layout.SERIES_FILE
        self._series = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if not self._lock_series():
            self._close_series()
            raise ConfigError(
                f"run {self.folder.name}: another monitor is writing it; wait for its end or give another id"
            ) from None
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


def has_monitor(folder: Path) -> bool:
    """Whether a running monitor holds the run's lock."""
    try:
        descriptor = os.open(folder / layout.SERIES_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False
