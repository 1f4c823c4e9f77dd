"""Checks values from JSON that another program may have written against the annotations of our records.

A value that does not fit is a `RunFileError` that names file and field, and is never corrected by a guess.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import read_file

Record = TypeVar("Record")

LARGEST = 1e30
"""Far above every number of a run; with larger ones arithmetic could overflow."""
_AT_MOST_1 = ("low_ratio", "share_ratio", "assumed_utilization_ratio")

_DOCUMENT_LIMIT_BYTES = 64 << 20


class RunFileError(ConfigError):
    """A file of a run's folder cannot be read: says which file, where in it, and why."""


def read_bytes(path: Path, limit_bytes: int) -> bytes:
    """All bytes of a file."""
    try:
        return read_file(path, limit_bytes)
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse(text: bytes) -> Any:
    """The value of a JSON text without NaN and Infinity; raises ValueError or RecursionError."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def document(path: Path, schema: str) -> dict[str, Any]:
    """The JSON object in a file that is of this schema."""
    text = read_bytes(path, _DOCUMENT_LIMIT_BYTES)
    try:
        found = parse(text)
    except (ValueError, RecursionError) as error:
        raise RunFileError(f"{path}: damaged, not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RunFileError(f"{path}: damaged: not a JSON object")
    check_schema(path, found, schema)
    return found


def check_schema(path: Path | str, entry: Mapping[str, Any], schema: str) -> None:
    """Raise `RunFileError` for a file that another version wrote."""
    found = entry.get("schema")
    if found != schema:
        raise RunFileError(
            f"{path}: schema {short_text(found)} is not {schema!r}: written by another version of carbonmon; "
            "read it with that version"
        )


def member(path: Path, entry: Mapping[str, Any], key: str, kind: type[Record]) -> Record:
    """A value of this Python type under a key."""
    found = entry.get(key)
    if not isinstance(found, kind):
        raise RunFileError(f"{path}: {key!r} must be {kind.__name__}, and is {short_text(found)}")
    return found


def items(path: Path, where: str, found: Any) -> list[Any]:
    """A list with items of any type."""
    if not isinstance(found, list):
        raise RunFileError(f"{path}: {where} must be a list, and is {short_text(found)}")
    return found


def rows(path: Path, entry: Mapping[str, Any], key: str) -> enumerate[Any]:
    """The items of the list under a key, with their indices."""
    return enumerate(items(path, key, entry.get(key)))


def texts(path: Path, entry: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts under a key."""
    found = items(path, key, entry.get(key))
    if not all(isinstance(item, str) for item in found):
        raise RunFileError(f"{path}: {key!r} must hold texts")
    return found


def pair(path: Path, where: str, found: Any) -> tuple[str, Any]:
    """A name, and a value of any type."""
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], str):
        raise RunFileError(f"{path}: {where} must be a name and a value, and is {short_text(found)}")
    return found[0], found[1]


def pairs_of(path: Path, entry: Mapping[str, Any], key: str, hint: Any) -> list[tuple[str, Any]]:
    """The pairs under a key: names, each once, and values that fit an annotation."""
    pairs = [pair(path, f"{key}[{i}]", item) for i, item in rows(path, entry, key)]
    check_unique(path, key, [name for name, _ in pairs])
    return [(name, value(path, f"{key} of {name!r:.40}", found, hint)) for name, found in pairs]


def check_unique(path: Path, key: str, names: Sequence[Any]) -> None:
    """Raise `RunFileError` if two names are the same."""
    if len(set(names)) < len(names):
        raise RunFileError(f"{path}: {key!r} holds the same twice")


def record(path: Path, where: str, values: Any, kind: type[Record], known: int | None = None) -> Record:
    """A named tuple from the list of its values, each checked against its annotation.

    `known` is how many of the fields the file's version knew; the others take their defaults.
    """
    hints = get_type_hints(kind)
    known = len(hints) if known is None else known
    values = items(path, where, values)
    if len(values) != known:
        raise RunFileError(f"{path}: {where} must have {known} values, and has {len(values)}")
    checked = (
        value(path, f"{where}.{key}", found, hint)
        for found, (key, hint) in zip(values, hints.items(), strict=False)
    )
    return kind(*checked)


def value(path: Path, where: str, found: Any, hint: Any) -> Any:
    """A value that fits its annotation; numbers must be at least 0 and at most `LARGEST`."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if found is None:
            return None
        (hint,) = (option for option in get_args(hint) if option is not type(None))
        return value(path, where, found, hint)
    if hasattr(hint, "_fields"):
        return record(path, where, found, hint)
    if origin is typing.Literal:
        fits = found in get_args(hint)
    elif origin is tuple:
        return tuple(value(path, where, item, get_args(hint)[0]) for item in items(path, where, found))
    elif hint is float:
        largest = 1.0 if where.endswith(_AT_MOST_1) else LARGEST
        fits = type(found) in (int, float) and 0 <= found <= largest
        found = float(found) if fits else found
    elif hint is int:
        fits = type(found) is int and 0 <= found <= LARGEST
    else:
        fits = isinstance(found, hint)
    if not fits:
        raise RunFileError(f"{path}: {where} cannot be {short_text(found)}")
    return found


def short_text(found: Any) -> str:
    """A value for an error message: short, however deep or long it is."""
    if isinstance(found, (dict, list)):
        return "an object" if isinstance(found, dict) else "a list"
    return f"{found!r:.40}"
