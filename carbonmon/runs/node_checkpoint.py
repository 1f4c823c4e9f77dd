"""A node's devices and the checkpoints of all its runs at one moment, in one file, replaced as a whole.

What a device drew is divided among the runs. If the checkpoint of one run is newer than that of another when
the monitor is killed, what was drawn between the two is in both runs, or in none. So this file is written
before those of the runs, and the next monitor first brings each run to the moment of this file.

It has the checksum of a run's slot (`seal.py`). Where it is damaged the runs' own checkpoints count, and the
totals of the devices begin anew where no run goes on.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from carbonmon.core.documents import json_object
from carbonmon.core.files import replace_file
from carbonmon.core.model import Device, Snapshot
from carbonmon.core.typed import Entry
from carbonmon.runs import folders, layout
from carbonmon.runs.checked import RunFileError, check_schema, entry_of, read_bytes
from carbonmon.runs.checkpoint_slots import LONGEST_BYTES, CheckpointSlots, newest
from carbonmon.runs.lock import has_monitor
from carbonmon.runs.reader import Checkpoint, checkpoint_of, devices_of
from carbonmon.runs.seal import checked_sequence, no_checksum, sealed_parts

log = logging.getLogger(__name__)

MODE = 0o600
"""It holds what the folders of several users hold."""

UNSEALED_SCHEMA = "carbonmon.node-checkpoint/1"
"""That of the builds before the checksum."""


class NodeCheckpoint:
    """The file of a monitor; `boot_id` is the kernel's, whose counters are in it."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self.path = path
        self._boot_id = boot_id

    def write(self, snapshot: Snapshot, run_folders: Mapping[str, Path]) -> frozenset[str]:
        """Write the devices, and all runs of a snapshot whose folders lie beside the file; returns their ids.

        Raises OSError.
        """
        here = {
            run_id: folder.name for run_id, folder in run_folders.items() if folder.parent == self.path.parent
        }
        runs = [(here[run.info.id], run) for run in snapshot.runs if run.info.id in here]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        parts = layout.node_checkpoint_parts(snapshot, runs, self._boot_id)
        replace_file(self.path, sealed_parts(parts), MODE)
        return frozenset(run.info.id for _, run in runs)


def read_devices(path: Path, devices: Iterable[Device]) -> Checkpoint | None:
    """The totals of these devices, as a snapshot without runs; None where the file is not there.

    Raises `RunFileError` where it is damaged, or somebody else's.
    """
    kept = _read(path)
    return None if kept is None else devices_of(kept.entry("node"), devices)


def replay(path: Path) -> dict[Path, Checkpoint]:
    """Bring the checkpoints of runs that are older than this file to its moment; returns them by folder.

    Where a disk does not take them they are returned all the same. A run that has a monitor, that ended, or
    whose folder is not ours, is left alone. Raises `RunFileError` as `read_devices`.
    """
    kept = _read(path)
    if kept is None:
        return {}
    node = kept.entry("node").values
    brought = {}
    for run in kept.entries("runs"):
        name = run.text("folder")
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise kept.source.mistake(f"{name!r:.70} is no name of a run's folder")
        values = {key: value for key, value in {**node, **run.values}.items() if key != "folder"}
        checkpoint = _bring(path.parent / name, entry_of(path, values))
        if checkpoint is not None:
            brought[path.parent / name] = checkpoint
    return brought


def _read(path: Path) -> Entry | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        raise RunFileError(f"{path}: no file of ours: it is not believed")
    data = read_bytes(path, LONGEST_BYTES)
    is_sealed = checked_sequence(path, data) is not None
    kept = json_object(data, path, RunFileError)
    if not is_sealed and (kept.get("schema") == layout.NODE_CHECKPOINT_SCHEMA or "sequence" in kept):
        raise no_checksum(path)
    check_schema(path, kept, layout.NODE_CHECKPOINT_SCHEMA if is_sealed else UNSEALED_SCHEMA)
    entry = entry_of(path, kept)
    check_schema(path, entry.entry("node").values, layout.CHECKPOINT_SCHEMA)  # of which runs' slots are made
    return entry


def _bring(folder: Path, newer: Entry) -> Checkpoint | None:
    """Give a run this checkpoint if its own is of the same monitor's boot, and older; else None."""
    if folders.why_not_ours(folder):
        return None
    try:
        own = newest(folder)
        if (
            own.text("boot_id") != newer.text("boot_id")
            or own.text("run") != newer.text("run")
            or own.value("ended_at_s", float | None) is not None
            or own.number("clock_s") >= newer.number("clock_s")
            or has_monitor(folder)
        ):
            return None
        checkpoint = checkpoint_of(folder, newer)
        text = _text(newer)
    except RunFileError as error:
        log.warning("%s; its run is left as it is", error)
        return None
    try:
        CheckpointSlots(folder).write(text)
    except OSError as error:
        log.warning("%s: the newest checkpoint cannot be written yet: %s", folder, error.strerror or error)
    return checkpoint


def _text(newer: Entry) -> str:
    """A run's checkpoint with all that stood in the file; raises `RunFileError`."""
    try:
        return layout.document_text(newer.values)
    except (ValueError, RecursionError):  # 1e999, or lists in lists, under a key that we do not know
        raise newer.source.mistake("a value cannot be written again") from None
