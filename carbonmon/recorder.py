"""Writes a run's folder beside the sampling, in a thread of its own: a slow or full disk delays nothing.

Every few seconds the newest snapshot becomes `checkpoint.json`, every minute a line of `series.jsonl`,
and each exporter may show a running result. What fails is counted, logged once per change of state, and
written with the next checkpoint that succeeds, which holds everything.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from carbonmon import journal
from carbonmon.clock import Alarm
from carbonmon.errors import ConfigError
from carbonmon.files import append_durably, remove_leftovers, replace_file
from carbonmon.guard import Guard, GuardedExporter
from carbonmon.model import Device, Snapshot
from carbonmon.ports import Clock

log = logging.getLogger(__name__)

SERIES_PERIOD_S = 60.0
FINISH_TIMEOUT_S = 60.0
"""How long the end of a run waits for a disk that hangs."""

CLOSE_TIMEOUT_S = 1.0
"""How long the release of the lock waits for a write that goes on."""

LOCK_ATTEMPTS, LOCK_PAUSE_S = 5, 0.05
"""A report asks for the lock for a moment, to see whether the run is watched: no other monitor is there."""

FIRST_TIMEOUT_S = 2.0
"""How long the job's start waits for the first checkpoint."""

SERIES_TAIL_BYTES = 1 << 16
"""Where the last line of a series is looked for: many times one line of a large node."""

STALE_PERIODS, STALE_S = 3, 15.0
"""After so many checkpoint periods, and at least so many seconds, without a success the newest snapshot is
shown instead of the last one that is safe on disk."""

FRESH_TIMEOUT_S = 5.0
"""How long a checkpoint waits for the next tick; then it holds the newest snapshot that there is."""


def boot_id(procfs: Path) -> str:
    """The kernel's id of this boot (random(4)): hardware counters hold within one boot. "" if unknown."""
    with suppress(OSError, ValueError):
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
        period_s: float = 5.0,
        before: Snapshot | None = None,
    ) -> None:
        """`before` is the checkpoint that a resumed run goes on from, shown until the next one is safe."""
        self._folder = folder
        self._clock = clock
        self.boot_id = boot_id(procfs)
        self._exporters = exporters
        self.guard = Guard("journal")
        self._latest = latest
        self._fresh = fresh
        self._period_s = period_s
        self._gone: Sequence[Device] = ()
        self._numbers: dict[str, int] = {}
        self._series = -1
        self._series_due_s = 0.0
        self._series_at_s = 0.0
        self._torn = b""
        self._laid_out = False
        self._safe = before
        self._safe_s = clock.now_s()
        self._shown: Snapshot | None = None
        self._final: Snapshot | None = None
        self._first = threading.Event()
        self._stop = Alarm()
        self._abandoned = False
        self._thread = threading.Thread(target=self._loop, name="carbonmon-recorder", daemon=True)
        try:
            self._open_series()
        except OSError as error:
            raise ConfigError(
                f"--output: {folder} cannot be written ({error.strerror or error}); give a folder that can"
            ) from None

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
        is_safe = self._clock.now_s() - self._safe_s < max(STALE_S, STALE_PERIODS * self._period_s)
        newest = self._safe if is_safe and self._safe is not None else self._latest()
        if self._shown is not None and self._shown.samples > newest.samples:
            return self._shown
        self._shown = newest
        return newest

    def finish(self, final: Snapshot) -> bool:
        """Write the last checkpoint and let the exporters finish; False if the disk hangs."""
        self._final = final
        self._stop.set()
        if self._thread.ident is None:  # there was no thread to be had: nothing was written until now
            self._loop()
        else:
            self._thread.join(FINISH_TIMEOUT_S)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Stop writing: the job never began."""
        self._abandoned = True
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(FINISH_TIMEOUT_S)

    def close(self) -> None:
        """Release the lock; the kernel does the same if this process is killed."""
        self._abandoned = True
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            self._close_series()

    def _loop(self) -> None:
        snapshot = self._final or self._latest()
        while not self._abandoned:
            self.guard.attempt("cannot write", partial(self.write, snapshot))
            for exporter in self._exporters:
                if snapshot is self._final:
                    exporter.finish(snapshot)
                else:
                    exporter.checkpoint(snapshot)
            self._first.set()
            if snapshot is self._final:
                return
            if not self._stop.wait(self._pause_s(snapshot)):
                snapshot = self._fresh(FRESH_TIMEOUT_S)
            snapshot = self._final or snapshot

    def _pause_s(self, snapshot: Snapshot) -> float:
        """How long to sleep, so that the next snapshot is one period after the one that was written."""
        age_s = self._clock.now_s() - snapshot.clock_s
        pause_s = self._period_s - 0.5 * snapshot.interval_s - age_s
        return min(max(0.1 * self._period_s, pause_s), self._period_s)

    def write(self, snapshot: Snapshot) -> None:
        """Write one checkpoint, and a line of the series when one is due. Raises OSError."""
        now_s = self._clock.now_s()
        if not self._laid_out or not self._is_in_place():
            self._laid_out = False
            self._lay_out(snapshot)
            self._laid_out = True
        replace_file(
            self._folder / journal.CHECKPOINT_FILE, journal.checkpoint_text(snapshot, self.boot_id).encode()
        )
        self._safe, self._safe_s = snapshot, now_s
        if now_s >= self._series_due_s or snapshot is self._final:
            # The wall clock may be set back; within the series time goes forwards.
            at_s = max(snapshot.at_s, self._series_at_s)
            line = journal.series_line(snapshot._replace(at_s=at_s), self._numbers)
            append_durably(self._series, line.encode())
            self._series_at_s = at_s
            self._series_due_s = now_s + SERIES_PERIOD_S

    def _lay_out(self, snapshot: Snapshot) -> None:
        """Write what stands once in the folder; also anew, after somebody removed it."""
        devices = [state.device for state in snapshot.devices]
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._is_in_place():
            self._close_series()
            self._open_series()
        remove_leftovers(self._folder)
        gone = [device for device in self._gone if device not in devices]
        text = journal.run_text(snapshot.runs[0].info, [*devices, *gone])
        replace_file(self._folder / journal.RUN_FILE, text.encode())
        self._numbers = {device.id: number for number, device in enumerate(devices)}
        append_durably(self._series, self._torn + journal.series_header(devices).encode())
        self._torn = b""

    def _is_in_place(self) -> bool:
        """Whether the folder still holds the series that we write, and was not removed, moved or replaced."""
        if self._series < 0:
            return False
        try:
            there = (self._folder / journal.SERIES_FILE).stat()
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._series))

    def _lock_series(self) -> bool:
        """Whether nobody else has the lock; a file system without locks is taken as it is."""
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
        """Open series.jsonl, whose flock says that this run has a monitor."""
        path = self._folder / journal.SERIES_FILE
        self._series = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if not self._lock_series():
            self._close_series()
            raise ConfigError(
                f"run {self._folder.name}: another monitor is writing it; wait for its end or give another id"
            ) from None
        size = os.fstat(self._series).st_size
        end = os.pread(self._series, SERIES_TAIL_BYTES, max(0, size - SERIES_TAIL_BYTES))
        self._series_at_s = max(self._series_at_s, _last_at_s(end))
        self._torn = b"" if end.endswith(b"\n") or not end else b"\n"  # a line torn by a crash stays alone


def _last_at_s(end: bytes) -> float:
    """Unix time of the last moment in the end of a series, 0 without one."""
    for line in reversed(end.splitlines()):
        with suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
            at_s = float(json.loads(line)["at_s"])
            if math.isfinite(at_s):
                return at_s
    return 0.0


def is_watched(folder: Path) -> bool:
    """Whether a living monitor holds the run's lock."""
    try:
        descriptor = os.open(folder / journal.SERIES_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False
