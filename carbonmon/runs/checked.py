"""The files of a run's folder as others may have changed them: what does not fit is a `JournalError`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carbonmon.core.documents import json_object, read_bytes
from carbonmon.core.errors import ConfigError
from carbonmon.core.typed import Entry, Source, shown

_DOCUMENT_LIMIT_BYTES = 64 << 20
_HIGHEST = {"low_ratio": 1.0, "share_ratio": 1.0, "assumed_utilization_ratio": 1.0}


class JournalError(ConfigError):
    """A file of a run's folder cannot be read: says which file, where in it, and why."""


def content(path: Path, limit_bytes: int) -> bytes:
    """All bytes of a file."""
    return read_bytes(path, limit_bytes, JournalError)


def document(path: Path, schema: str) -> Entry:
    """The JSON object in a file that is of this schema."""
    found = json_object(content(path, _DOCUMENT_LIMIT_BYTES), path, JournalError)
    check_schema(path, found, schema)
    return entry_of(path, found)


def entry_of(path: Path, values: Mapping[str, Any]) -> Entry:
    """An object that stands in a file, for its values to be taken."""
    return Entry(Source(path, JournalError, highest=_HIGHEST), values)


def check_schema(path: Path | str, values: Mapping[str, Any], schema: str) -> None:
    """Refuse what another version wrote."""
    found = values.get("schema")
    if found != schema:
        raise JournalError(
            f"{path}: schema {shown(found)} is not {schema!r}: written by another version of carbonmon; "
            "read it with that version"
        )
