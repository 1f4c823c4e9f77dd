"""Keeps the runs of a folder within a size: the oldest ended ones go, and never one that is needed."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.runs.index import read_entry
from carbonmon.runs.layout import CHECKPOINT_FILE, SUMMARY_FILE
from carbonmon.runs.pruning import end_of, remove, size_of, why_it_stays

YOUNGEST_S = 7 * 86_400.0
"""A run stays for so long after its end, whatever it takes: somebody is to read its result."""


class Kept(NamedTuple):
    """What was removed, and what the folder holds now, with what could not be removed."""

    removed: int
    freed_bytes: int
    left_bytes: int


def keep_size(output: Path, keep_bytes: float, now_s: float, shown: Collection[str]) -> Kept:
    """Remove the runs that ended first until the others take no more than `keep_bytes` of the disk.

    A run stays while it is running or may be resumed, while it is among the `shown`, by id, for `YOUNGEST_S`
    after its end, and where `why_it_stays` knows a reason. The order is that in which their last files were
    written, so that of thousands only those that may go are read. Raises OSError for a folder that cannot be
    listed.
    """
    found = []
    left_bytes = 0
    with os.scandir(output) as folders:
        for folder in folders:
            if folder.is_dir(follow_symlinks=False):
                path = Path(folder.path)
                size = size_of(path)
                left_bytes += size
                found.append((_written_s(path), size, path))
    removed = freed_bytes = 0
    for written_s, size, path in sorted(found) if left_bytes > keep_bytes else ():
        if left_bytes <= keep_bytes or now_s - written_s < YOUNGEST_S:
            break
        if _may_go(path, now_s, shown):
            with suppress(ConfigError):  # in use, or a disk that fails: the next ones may go
                remove(path)
                removed += 1
                freed_bytes += size
                left_bytes -= size
    return Kept(removed, freed_bytes, left_bytes)


def _may_go(folder: Path, now_s: float, shown: Collection[str]) -> bool:
    try:
        entry = read_entry(folder)
    except ConfigError:  # damaged: somebody is to look at it
        return False
    if entry is None or entry.id in shown:
        return False
    return now_s - end_of(entry) >= YOUNGEST_S and not why_it_stays(entry, now_s)


def _written_s(folder: Path) -> float:
    """When a run's last figures were written (Unix time); now and later for a folder that holds no run."""
    for name in (SUMMARY_FILE, CHECKPOINT_FILE):
        with suppress(OSError):
            return (folder / name).lstat().st_mtime
    return float("inf")
