"""The checkpoints of all runs of a node at one moment, in one file that is replaced as a whole.

What a device drew is divided among the runs. If the checkpoint of one run is newer than that of another when
the monitor is killed, what was drawn between the two is in both runs, or in none. So this file is written
before those of the runs, and the next monitor first brings each run to the moment of this file.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from carbonmon.core.files import replace_file
from carbonmon.core.model import Snapshot
from carbonmon.core.typed import Entry
from carbonmon.runs import folders, layout
from carbonmon.runs.checked import RunFileError, document, entry_of
from carbonmon.runs.lock import has_monitor
from carbonmon.runs.reader import checkpoint_of

log = logging.getLogger(__name__)

MODE = 0o600
"""It holds what the folders of several users hold."""


class NodeCheckpoint:
    """The file of a monitor; `boot_id` is the kernel's, whose counters are in it."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self.path = path
        self._boot_id = boot_id

    def write(self, snapshot: Snapshot, run_folders: Mapping[str, Path]) -> frozenset[str]:
        """Write the state of all runs of a snapshot whose folders lie beside the file; returns their ids.

        One run alone needs no other moment than its own: then nothing is written. Raises OSError.
        """
        here = {
            run_id: folder.name for run_id, folder in run_folders.items() if folder.parent == self.path.parent
        }
        runs = [(here[run.info.id], run) for run in snapshot.runs if run.info.id in here]
        if len(runs) < 2:
            return frozenset()
        replace_file(self.path, layout.node_checkpoint_text(snapshot, runs, self._boot_id).encode(), MODE)
        return frozenset(run.info.id for _, run in runs)


def replay(path: Path) -> list[Path]:
    """Bring the checkpoints of runs that are older than this file to its moment.

    Returns the folders of those that had ended by then. A run that has a monitor, that ended, or whose folder
    is not ours, is left alone. Raises `RunFileError` where the file is damaged, or somebody else's.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        raise RunFileError(f"{path}: no file of ours: it is not believed")
    kept = document(path, layout.NODE_CHECKPOINT_SCHEMA)
    node = kept.entry("node").values
    ended = []
    for run in kept.entries("runs"):
        name = run.text("folder")
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise kept.source.mistake(f"{name!r:.70} is no name of a run's folder")
        values = {**node, **run.values}
        del values["folder"]
        if _bring(path.parent / name, entry_of(path, values)) and values["ended_at_s"] is not None:
            ended.append(path.parent / name)
    return ended


def _bring(folder: Path, newer: Entry) -> bool:
    """Give a run this checkpoint if its own is of the same monitor's boot, and older."""
    if folders.why_not_ours(folder):
        return False
    file = folder / layout.CHECKPOINT_FILE
    try:
        own = document(file, layout.CHECKPOINT_SCHEMA)
        if (
            own.text("boot_id") != newer.text("boot_id")
            or own.text("run") != newer.text("run")
            or own.value("ended_at_s", float | None) is not None
            or own.number("clock_s") >= newer.number("clock_s")
            or has_monitor(folder)
        ):
            return False
        checkpoint_of(folder, newer)  # as it will be read
        replace_file(file, layout.document_text(newer.values).encode())
    except RunFileError as error:
        log.warning("%s; its run is left as it is", error)
        return False
    except OSError as error:
        log.warning("%s: cannot be brought to the newest checkpoint: %s", folder, error.strerror or error)
        return False
    return True
