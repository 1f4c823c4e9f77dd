"""Reads the files of a run's folder, which another program may have changed: mistakes are `RunFileError`s."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carbonmon.core import documents
from carbonmon.core.errors import ConfigError
from carbonmon.core.typed import Entry, Source, short_text

_DOCUMENT_LIMIT_BYTES = 64 << 20
_HIGHEST = {"low_ratio": 1.0, "share_ratio": 1.0, "assumed_utilization_ratio": 1.0}


class RunFileError(ConfigError):
    """A file of a run's folder cannot be read: says which file, where in it, and why."""


def read_bytes(path: Path, limit_bytes: int) -> bytes:
    """All bytes of a file."""
    return documents.read_bytes(path, limit_bytes, RunFileError)


def document(path: Path, schema: str) -> Entry:
    """The JSON object in a file that is of this schema."""
    found = documents.json_object(read_bytes(path, _DOCUMENT_LIMIT_BYTES), path, RunFileError)
    check_schema(path, found, schema)
    return entry_of(path, found)


def entry_of(path: Path, values: Mapping[str, Any]) -> Entry:
    """An object that stands in a file, for its values to be taken."""
    return Entry(Source(path, RunFileError, highest=_HIGHEST), values)


def check_schema(path: Path | str, values: Mapping[str, Any], schema: str) -> None:
    """Raise `RunFileError` for a file that another version wrote."""
    found = values.get("schema")
    if found != schema:
        raise RunFileError(other_schema(path, found, schema))


def other_schema(path: Path | str, found: object, schema: str) -> str:
    """What there is to say of a file with another schema than this one."""
    return (
        f"{path}: schema {short_text(found)} is not {schema!r}: written by another version of carbonmon; "
        "read it with that version"
    )
