"""Keeps two monitors from writing one run: the lock of series.jsonl, and monitor.json beside it.

flock(2) alone decides on a local disk. Lustre and NFS may be mounted without locks (ENOLCK, ENOSYS,
EOPNOTSUPP), or with locks that other hosts do not see. So a monitor also writes into monitor.json which
process it is, and removes it at its end. Whether the monitor of a monitor.json lives:

    another process holds the lock        yes
    it runs on this boot of this kernel   no, if it had a lock that is free now; else /proc tells
    another host, boot or container       while its files are younger than its `stale_s`: no more can be known
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import open_file
from carbonmon.runs.holder import MONITOR_FILE, STALE_S, Holder, holder_text, read_holder, this_process
from carbonmon.runs.layout import CHECKPOINT_FILES, SERIES_FILE

log = logging.getLogger(__name__)

LOCK_ATTEMPTS, LOCK_PAUSE_S = 5, 0.05
"""A report takes the lock for a moment, to see whether a monitor writes the run: that is no other monitor."""

MOST_WAIT_S, WAIT_PAUSE_S = 15.0, 0.5
"""How long a new monitor waits until it is clear whether one elsewhere still writes."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o640


def has_monitor(folder: Path) -> bool:
    """Whether a running monitor writes the run."""
    try:
        descriptor = os.open(folder / SERIES_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        lock_is_free = _try_lock(descriptor, fcntl.LOCK_SH)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    holder = read_holder(folder / MONITOR_FILE)
    if holder is None:
        return False
    is_running = holder.is_running(lock_is_free)
    return _age_s(folder) < holder.stale_s if is_running is None else is_running


class RunLock:
    """Keeps other monitors from writing the run of a folder."""

    def __init__(self, folder: Path, period_s: float) -> None:
        """`period_s` is the time between two checkpoints."""
        self._folder = folder
        self._path = folder / MONITOR_FILE
        self._own = this_process(period_s)

    def take(self, series: int) -> None:
        """Lock the open series; raises `ConfigError` if another monitor writes the run."""
        has_lock = self._lock(series)
        other = read_holder(self._path)
        if other is not None and other.token != self._own.token and self._writes(other, has_lock):
            raise self._refusal(other)
        self._own = self._own._replace(has_lock=has_lock)
        try:
            if other is None:
                self._create()
            else:
                self._replace(other)
        except FileExistsError:  # another monitor was faster
            raise self._refusal(read_holder(self._path) or Holder()) from None
        except OSError as error:  # a full disk: the lock alone must do
            log.debug("%s cannot be written: %s", self._path, error)

    def release(self) -> None:
        """Remove monitor.json; the lock ends with the descriptor of the series."""
        with suppress(OSError):
            found = read_holder(self._path)
            if found is not None and found.token == self._own.token:
                self._path.unlink()

    def _lock(self, series: int) -> bool:
        """Whether the file system has locks, and we have one now."""
        for attempt in range(LOCK_ATTEMPTS):
            if attempt:
                time.sleep(LOCK_PAUSE_S)
            with suppress(BlockingIOError):
                return _try_lock(series, fcntl.LOCK_EX)
        raise self._refusal(read_holder(self._path) or Holder())

    def _writes(self, other: Holder, has_lock: bool) -> bool:
        """Whether another monitor writes the run; waits where only time can tell."""
        is_running = other.is_running(has_lock)
        if is_running is not None:
            return is_running
        wait_s = other.stale_s - _age_s(self._folder)
        if not 0.0 < wait_s <= MOST_WAIT_S:
            return wait_s > 0.0
        log.warning(
            "run %s: waiting up to %.0f s for its monitor on host %s", self._folder.name, wait_s, other.host
        )
        written = _written_s(self._folder)
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s:
            time.sleep(WAIT_PAUSE_S)
            _now_s(self._folder)  # makes NFS look at the folder anew
            if _written_s(self._folder) != written:
                return True
        return False

    def _create(self) -> None:
        """Make monitor.json, at once with all of its content; FileExistsError if another one is there."""
        new = self._path.with_name(f".{MONITOR_FILE}.{self._own.token}.tmp")
        try:
            _write_new(new, self._own)
            os.link(new, self._path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            _write_new(self._path, self._own)
        finally:
            with suppress(OSError):
                new.unlink()

    def _replace(self, dead: Holder) -> None:
        """Replace the monitor.json of a dead monitor; FileExistsError if another monitor does it now."""
        taking = self._path.with_name(f".{MONITOR_FILE}.taking")
        with suppress(FileNotFoundError):
            if self._was_killed(taking) or _now_s(self._folder) - taking.stat().st_mtime > STALE_S:
                taking.unlink()
        _write_new(taking, self._own)
        try:
            found = read_holder(self._path)
            if found is not None and found.token != dead.token:
                raise FileExistsError(errno.EEXIST, "another monitor was faster")
            self._path.unlink(missing_ok=True)
            self._create()
        finally:
            taking.unlink(missing_ok=True)

    def _was_killed(self, taking: Path) -> bool:
        """Whether the monitor is surely dead that was about to take the run before us."""
        for _ in range(LOCK_ATTEMPTS):
            maker = read_holder(taking)
            if maker is None:
                return False
            if maker.token:
                return maker.is_running(self._own.has_lock) is False
            time.sleep(LOCK_PAUSE_S)  # it is about to say who it is
        return self._own.has_lock

    def _refusal(self, other: Holder) -> ConfigError:
        who = f" (process {other.pid} on host {other.host})" if other.pid else ""
        return ConfigError(
            f"run {self._folder.name}: another monitor is writing it{who}; "
            "wait for its end or give another id"
        )


def _try_lock(descriptor: int, operation: int) -> bool:
    """Whether the lock is ours now, False where there are no locks; BlockingIOError if another has it."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(errno.EWOULDBLOCK, "another process has the lock") from None
        return False
    return True


def _write_new(path: Path, holder: Holder) -> None:
    """Make a file that says who it is of; none is left where the disk does not take it whole."""
    descriptor = os.open(path, _NEW_FILE, _MODE)
    data = holder_text(holder).encode()
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _written_s(folder: Path) -> float:
    """When a monitor wrote into the folder last, by the clock of the file system (Unix time).

    The checkpoints are overwritten: a client of NFS may keep their times for up to 60 s (nfs(5), acregmax),
    but asks for them when a file is opened (close-to-open consistency).
    """
    newest_s = 0.0
    for name in (MONITOR_FILE, *CHECKPOINT_FILES):
        with suppress(OSError):
            newest_s = max(newest_s, (folder / name).stat().st_mtime)
        with suppress(OSError), open_file(folder / name, follows=False) as file:
            newest_s = max(newest_s, os.fstat(file.fileno()).st_mtime)
    return newest_s


def _now_s(folder: Path) -> float:
    """The time by the clock of the file system, if we may make a file, else by our own (Unix time).

    The new file also makes a client of NFS look at the folder anew, which it else keeps for up to 60 s
    (nfs(5), acdirmax).
    """
    probe = folder / f".{MONITOR_FILE}.{os.urandom(8).hex()}.tmp"
    try:
        descriptor = os.open(probe, _NEW_FILE, _MODE)
    except OSError:
        return time.time()
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        with suppress(OSError):
            probe.unlink()


def _age_s(folder: Path) -> float:
    """How long ago a monitor wrote into the folder last."""
    return _now_s(folder) - _written_s(folder)
