"""Checkpoints of run folders for tests: written, read and changed as a monitor's slots are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carbonmon.runs.checkpoint_slots import newest
from carbonmon.runs.layout import CHECKPOINT_FILE, CHECKPOINT_FILES
from carbonmon.runs.seal import sealed

Document = dict[str, Any]


def write(folder: Path, text: str, sequence: int = 1) -> None:
    """The first slot as a monitor writes it: what `layout.checkpoint_text` gave, or was made of it."""
    (folder / CHECKPOINT_FILE).write_bytes(sealed(text, sequence))


def read(folder: Path) -> Document:
    """What the newest checkpoint says; raises `RunFileError`."""
    return dict(newest(folder).values)


def edit(path: Path, change: Callable[[Document], object]) -> None:
    """Change what a JSON file of a run's folder says, as if its monitor had written it so."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(as_written(document))


def as_written(document: Document) -> bytes:
    """A changed document of a file; that of a slot with a checksum that is right again."""
    if document.pop("crc32", None) is None:
        return json.dumps(document).encode()
    sequence = document.pop("sequence", None)
    number = sequence if isinstance(sequence, int) and sequence >= 0 else 1
    return sealed(json.dumps(document, separators=(",", ":")), number)


def replace(folder: Path, **values: Any) -> None:
    """Write the newest checkpoint anew with other values, and no second slot: it alone counts."""
    document = read(folder)
    for name in CHECKPOINT_FILES:
        (folder / name).unlink(missing_ok=True)
    (folder / CHECKPOINT_FILE).write_bytes(as_written({**document, **values}))


def written_ns(folder: Path) -> int:
    """When a slot was written last (ns since 1970), 0 before the first."""
    paths = [folder / name for name in CHECKPOINT_FILES]
    return max((path.stat().st_mtime_ns for path in paths if path.exists()), default=0)
