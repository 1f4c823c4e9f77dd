"""The checkpoint of a run in two slots: files that are written in turn, so that one is always whole.

A slot is one JSON object, which begins with its checksum and its number, and white space up to whole pages:

    {"crc32":"0a1b2c3d","sequence":17,"schema":"carbonmon.checkpoint/2",…}

`seal.py` says what `crc32` is the checksum of. Of the slots whose checksum is right the one with the highest
`sequence` counts. A write that was torn, a page that came to the disk before another, a digit that flipped:
all are seen, and the slot before counts, as it does for whoever reads a slot while it is written.

Overwriting a file costs a fraction of replacing it: no name, no size and no block of the disk changes. The
first checkpoint of each monitor still replaces both files atomically. Releases until 0.2.0 had
`checkpoint.json` alone, without a checksum, of schema 1: it is read, and they refuse schema 2.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from carbonmon.core.documents import json_object
from carbonmon.core.files import FileId, overwrite_file, replace_file
from carbonmon.core.records import NamedTuple
from carbonmon.core.typed import Entry
from carbonmon.runs.checked import RunFileError, check_schema, entry_of, other_schema, read_bytes
from carbonmon.runs.layout import CHECKPOINT_FILE, CHECKPOINT_FILES, CHECKPOINT_SCHEMA
from carbonmon.runs.seal import checked_sequence, no_checksum, sealed

log = logging.getLogger(__name__)

UNSEALED_SCHEMA = "carbonmon.checkpoint/1"
"""That of the releases until 0.2.0, which replaced the file as a whole."""

PAGE_BYTES = 4096
"""Slots are as many pages long, so that few of them change their size when the text grows."""

LONGEST_BYTES = 64 << 20
READS = 3
"""A slot that a monitor overwrites meanwhile is read again: a write takes microseconds."""


class OtherVersion(RunFileError):
    """Another version wrote a slot: neither that nor the other one may be taken for the last."""


class Slot(NamedTuple):
    """A slot that is whole; 0 is the number of a file of the releases that had no second one."""

    path: Path
    sequence: int
    data: bytes


class CheckpointSlots:
    """Writes the slots of a run's folder in turn."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = [folder / name for name in CHECKPOINT_FILES]
        self._sequence: int | None = None
        self._files: dict[Path, FileId] = {}

    def write(self, text: str) -> None:
        """Write a checkpoint, and wait until the disk has it; raises OSError, and the last one counts."""
        if self._sequence is None:
            self._sequence = max((slot.sequence for slot in _look(self._folder)[0]), default=0)
        path = self._paths[0]
        data = sealed(text, self._sequence + 1)
        own = self._files.get(path)
        size = _pages(max(len(data), 0 if own is None else own.size))
        data = b"".join((data, b" " * (size - 1 - len(data)), b"\n"))
        if own is None or not overwrite_file(path, data, own):
            own = replace_file(path, data)
        self._files[path] = own if own.size == size else own._replace(size=size)
        self._sequence += 1
        self._paths.reverse()


def newest(folder: Path) -> Entry:
    """The newest checkpoint of a run's folder that is whole.

    Raises `RunFileError` where none is, or where another version of carbonmon wrote it.
    """
    slot = newest_slot(folder)
    values = json_object(slot.data, slot.path, RunFileError)
    if slot.sequence:
        check_schema(slot.path, values, CHECKPOINT_SCHEMA)
    return entry_of(slot.path, values)


def newest_slot(folder: Path) -> Slot:
    """The same as it stands there, for a quick look; raises `RunFileError`."""
    slots, faults = _look(folder)
    for _ in range(READS - 1):
        if faults:
            slots, faults = _look(folder)
    for fault in faults:
        if not slots or isinstance(fault, OtherVersion):
            raise fault
    slot = max(slots, key=lambda slot: slot.sequence)
    for fault in faults:
        log.warning("%s; %s counts", fault, slot.path.name)
    return slot


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, of whatever condition."""
    return any((folder / name).is_file() for name in CHECKPOINT_FILES)


def _look(folder: Path) -> tuple[list[Slot], list[RunFileError]]:
    """The slots of a folder that are whole, and what is wrong with the others."""
    slots: list[Slot] = []
    faults: list[RunFileError] = []
    for name in CHECKPOINT_FILES:
        path = folder / name
        if name == CHECKPOINT_FILE or os.path.lexists(path):
            try:
                slots.append(_slot(path, read_bytes(path, LONGEST_BYTES)))
            except RunFileError as error:
                faults.append(error)
    return slots, faults


def _slot(path: Path, data: bytes) -> Slot:
    """What stands in a slot; raises `RunFileError`."""
    sequence = checked_sequence(path, data)
    if sequence is not None:
        return Slot(path, sequence, data)
    values = json_object(data, path, RunFileError)
    schema = values.get("schema")
    if schema == CHECKPOINT_SCHEMA or path.name != CHECKPOINT_FILE or "sequence" in values:
        raise no_checksum(path)
    if schema == UNSEALED_SCHEMA:
        return Slot(path, 0, data)
    is_checkpoint = isinstance(schema, str) and schema.startswith("carbonmon.checkpoint/")
    raise (OtherVersion if is_checkpoint else RunFileError)(other_schema(path, schema, CHECKPOINT_SCHEMA))


def _pages(size: int) -> int:
    return -(-size // PAGE_BYTES) * PAGE_BYTES
