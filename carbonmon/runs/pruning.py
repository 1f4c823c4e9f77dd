"""Which runs of a folder are to go by age and size, and their removal: only files of ours, of ended runs.

One rule for the folders of `carbonmon run` and those of the daemon. A folder stays, whatever its age, while
a monitor writes it, and where it is another user's, damaged, a link, or holds a file that is not ours.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.checkpoint_slots import newest
from carbonmon.runs.folders import why_not_ours
from carbonmon.runs.holder import MONITOR_FILE
from carbonmon.runs.index import Entry
from carbonmon.runs.layout import CHECKPOINT_FILES, RUN_FILE, SERIES_FILE, SUMMARY_FILE
from carbonmon.runs.lock import has_monitor

_ORDER = (SERIES_FILE, *CHECKPOINT_FILES, MONITOR_FILE, SUMMARY_FILE, RUN_FILE)
"""Files of a run, in the order in which they go: what says that it is a run goes last."""


RESUMABLE_S = 86_400.0
"""For so long a run whose monitor was lost may be resumed, by its user or by the next daemon."""


class Old(NamedTuple):
    """A run that is to go: how large its files are, when it ended (Unix time), and which limit it breaks."""

    entry: Entry
    size_bytes: int
    ended_s: float
    reason: str


class Plan(NamedTuple):
    """What is to go, oldest first, and what stays: its size, and why some of it does."""

    old: list[Old]
    kept_bytes: int
    notes: list[str]


def plan(entries: Iterable[Entry], now_s: float, oldest_s: float | None, keep_bytes: float | None) -> Plan:
    """What is to go: runs that ended over `oldest_s` ago, and the oldest until `keep_bytes` hold the rest."""
    runs: list[Old] = []
    notes: list[str] = []
    kept_bytes = 0
    for entry in entries:
        size_bytes = size_of(entry.folder)
        reason = why_it_stays(entry, now_s)
        if reason:
            notes.append(f"{entry.folder.name!r:.80} stays: {reason}")
            kept_bytes += size_bytes
        else:
            runs.append(Old(entry, size_bytes, end_of(entry), ""))
    runs.sort(key=lambda run: run.ended_s)
    left_bytes = kept_bytes + sum(run.size_bytes for run in runs)
    old = []
    for run in runs:
        is_old = oldest_s is not None and now_s - run.ended_s > oldest_s
        if is_old or (keep_bytes is not None and left_bytes > keep_bytes):
            old.append(run._replace(reason="age" if is_old else "size"))
            left_bytes -= run.size_bytes
    return Plan(old, left_bytes, notes)


def why_it_stays(entry: Entry, now_s: float) -> str:
    """Why the folder of a run may not go, "" if it may."""
    folder = entry.folder
    reason = why_not_ours(folder)
    if reason:
        return reason
    if entry.state == "running" or has_monitor(folder):
        return "it is running"
    if entry.state == "recovered" and now_s - end_of(entry) < RESUMABLE_S:
        return "its monitor was lost within a day, and may go on with it"
    try:
        others = sorted(found.name for found in os.scandir(folder) if not _is_ours(found))
    except OSError as error:
        return error.strerror or str(error)
    return f"it holds {others[0]!r:.60}, which is no file of a run" if others else ""


def remove(folder: Path) -> None:
    """Remove the folder of an ended run with its files. Raises `ConfigError` if it cannot, or must not."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if _is_locked(descriptor):
                raise ConfigError(f"{folder}: stays: a monitor writes it now")
            temporary = [found.name for found in os.scandir(descriptor) if _is_leftover(found.name)]
            for name in (*temporary, *_ORDER):
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        folder.rmdir()
    except FileNotFoundError:  # another prune was faster
        return
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be removed: {error.strerror or error}") from None


def _is_locked(folder: int) -> bool:
    """Whether a monitor took the run since it was looked at; on a file system without locks nobody knows."""
    try:
        series = os.open(SERIES_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(series, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(series)
    return False


def _is_ours(found: os.DirEntry[str]) -> bool:
    return found.is_file(follow_symlinks=False) and (found.name in _ORDER or _is_leftover(found.name))


def _is_leftover(name: str) -> bool:
    """A temporary file of `core/files.py` or of the lock, whose process was killed."""
    return any(name.startswith(f".{own}.") for own in _ORDER) and name.endswith((".tmp", ".taking"))


def end_of(entry: Entry) -> float:
    """When a run ended; where nobody knows, when its folder changed last.

    The duration leaves out the time between a loss and a resume.
    """
    if entry.ended_s is not None:
        return entry.ended_s
    with suppress(RunFileError):
        return newest(entry.folder).number("at_s")
    with suppress(OSError):
        return entry.folder.stat().st_mtime
    return 0.0


def size_of(folder: Path) -> int:
    """What a run's own files take of the disk's space: blocks of 512 bytes, stat(2)."""
    with suppress(OSError):
        own = [found for found in os.scandir(folder) if _is_ours(found)]
        return sum(512 * found.stat(follow_symlinks=False).st_blocks for found in own)
    return 0
