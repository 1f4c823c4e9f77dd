"""Writes a run's folder beside the sampling, in a thread of its own: a slow or full disk delays nothing.

Every few seconds the newest snapshot becomes `checkpoint.json`, every minute a line of `series.jsonl`,
and each exporter may show a running result. What fails is counted, logged once per change of state, and
written with the next checkpoint that succeeds, which holds everything.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from carbonmon import journal
from carbonmon.clock import Alarm
from carbonmon.errors import ConfigError
from carbonmon.files import append_durably, replace_file
from carbonmon.guard import Guard, GuardedExporter
from carbonmon.model import Device, Snapshot
from carbonmon.ports import Clock

log = logging.getLogger(__name__)

CHECKPOINT_PERIOD_S = 5.0
SERIES_PERIOD_S = 60.0
FINISH_TIMEOUT_S = 60.0
"""How long the end of a run waits for a disk that hangs."""

FIRST_TIMEOUT_S = 2.0
"""How long the job's start waits for the first checkpoint."""

STALE_PERIODS = 3
"""After so many checkpoint periods without a success the newest snapshot is shown instead of the last
one that is safe on disk."""


def boot_id(procfs: Path) -> str:
    """The kernel's id of this boot (random(4)): hardware counters hold within one boot. "" if unknown."""
    with suppress(OSError):
        return (procfs / "sys/kernel/random/boot_id").read_text().strip()
    return ""


class Recorder:
    """Owns a run's folder: holds its lock, and writes what the sampler publishes."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        procfs: Path,
        exporters: Sequence[GuardedExporter],
        latest: Callable[[], Snapshot],
        fresh: Callable[[float], Snapshot],
    ) -> None:
        self._folder = folder
        self._clock = clock
        self.boot_id = boot_id(procfs)
        self._exporters = exporters
        self.guard = Guard("journal")
        self._latest = latest
        self._fresh = fresh
        self._gone: Sequence[Device] = ()
        self._numbers: dict[str, int] = {}
        self._series = -1
        self._series_due_s = 0.0
        self._safe: Snapshot | None = None
        self._safe_s = 0.0
        self._shown: Snapshot | None = None
        self._final: Snapshot | None = None
        self._first = threading.Event()
        self._stop = Alarm()
        self._abandoned = False
        self._thread = threading.Thread(target=self._loop, name="carbonmon-recorder", daemon=True)
        self._open_series()

    def start(self, gone: Sequence[Device] = ()) -> None:
        """Begin to write, and return when the first checkpoint is there or the disk is slow.

        `gone` are devices of an earlier part of the run that are not here any more.
        """
        self._gone = gone
        self._safe_s = self._clock.now_s()
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("no checkpoints: %s", error)
        else:
            self._first.wait(FIRST_TIMEOUT_S)

    def shown(self) -> Snapshot:
        """The snapshot that exporters show: the newest that is safe on disk.

        A total that was shown and then lost with a killed monitor would make its series step back, which
        Prometheus takes for a reset and counts a second time. If the disk fails for long, liveness wins.
        """
        is_safe = self._clock.now_s() - self._safe_s < STALE_PERIODS * CHECKPOINT_PERIOD_S
        newest = self._safe if is_safe and self._safe is not None else self._latest()
        if self._shown is not None and self._shown.samples > newest.samples:
            return self._shown
        self._shown = newest
        return newest

    def finish(self, final: Snapshot) -> bool:
        """Write the last checkpoint and let the exporters finish; False if the disk hangs."""
        self._final = final
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(FINISH_TIMEOUT_S)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Stop writing: the job never began."""
        self._abandoned = True
        self._stop.set()
        self._thread.join(FINISH_TIMEOUT_S)

    def close(self) -> None:
        """Release the lock; the kernel does the same if this process is killed."""
        self._stop.set()
        if self._series >= 0 and not self._thread.is_alive():
            os.close(self._series)
            self._series = -1

    def _loop(self) -> None:
        snapshot = self._latest()
        while not self._abandoned:
            self.guard.attempt("cannot write", partial(self._write, snapshot))
            for exporter in self._exporters:
                if snapshot is self._final:
                    exporter.finish(snapshot)
                else:
                    exporter.checkpoint(snapshot)
            self._first.set()
            if snapshot is self._final:
                return
            if not self._stop.wait(CHECKPOINT_PERIOD_S):
                snapshot = self._fresh(CHECKPOINT_PERIOD_S)
            snapshot = self._final or snapshot

    def _write(self, snapshot: Snapshot) -> None:
        now_s = self._clock.now_s()
        if self._safe is None or not self._folder.exists():
            self._lay_out(snapshot)
        replace_file(
            self._folder / journal.CHECKPOINT_FILE, journal.checkpoint_text(snapshot, self.boot_id).encode()
        )
        self._safe, self._safe_s = snapshot, now_s
        if now_s >= self._series_due_s or snapshot is self._final:
            append_durably(self._series, journal.series_line(snapshot, self._numbers).encode())
            self._series_due_s = now_s + SERIES_PERIOD_S

    def _lay_out(self, snapshot: Snapshot) -> None:
        """Write what stands once in the folder; also anew, after somebody removed it."""
        devices = [state.device for state in snapshot.devices]
        self._folder.mkdir(parents=True, exist_ok=True)
        if os.fstat(self._series).st_nlink == 0:
            os.close(self._series)
            self._open_series()
        text = journal.run_text(snapshot.runs[0].info, [*devices, *self._gone])
        replace_file(self._folder / journal.RUN_FILE, text.encode())
        self._numbers = {device.id: number for number, device in enumerate(devices)}
        append_durably(self._series, journal.series_header(devices).encode())

    def _open_series(self) -> None:
        """Open series.jsonl, whose flock says that this run has a monitor."""
        path = self._folder / journal.SERIES_FILE
        self._series = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._series, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks: go on without one
            os.close(self._series)
            self._series = -1
            raise ConfigError(
                f"run {self._folder.name}: another monitor is writing it; wait for its end or give another id"
            ) from None
        size = os.fstat(self._series).st_size
        if size and os.pread(self._series, 1, size - 1) != b"\n":
            os.write(self._series, b"\n")  # a line torn by a crash stays alone


def is_watched(folder: Path) -> bool:
    """Whether a living monitor holds the run's lock."""
    try:
        descriptor = os.open(folder / journal.SERIES_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False
