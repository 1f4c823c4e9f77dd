"""Reads whole files of JSON and TOML: every error says which file, where in it, and why."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import read_file

LONGEST_TOML_BYTES = 1 << 20

MOST_DOTS = 100
"""In a line of TOML that is no comment. The time for a key grows with the square of its parts: one of 32,000
takes CPython 3.11 18 s (2026-11-30), and a file may have come with somebody else's project."""


def read_bytes(path: Path, limit_bytes: int, error: Callable[[str], Exception] = ConfigError) -> bytes:
    """All bytes of a regular file, of which there may be so many; waits for no pipe.

    Raises what `error` makes of a text, here and below, where there is nothing that can be used.
    """
    try:
        return read_file(path, limit_bytes)
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror or reason}") from None


def json_value(text: str | bytes) -> Any:
    """The value of a JSON text, in which NaN and infinity are no numbers; raises ValueError.

    It is a `json.JSONDecodeError`, which knows the line, where the text is no JSON.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        return _DECODER.decode(text)  # made once: `json.loads` makes one for each text
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_object(text: str | bytes, where: object, error: Callable[[str], Exception]) -> dict[str, Any]:
    """The object that a JSON text must be; `where` names it in the error."""
    try:
        found = json_value(text)
    except ValueError as reason:
        raise error(f"{where}: damaged, not JSON: {reason}") from None
    if not isinstance(found, dict):
        raise error(f"{where}: damaged: not a JSON object")
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file; raises `ConfigError`.

    /dev/null is a file with nothing in it: so one says that there is to be none.
    """
    if path == Path(os.devnull):
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    data = read_bytes(path, LONGEST_TOML_BYTES)
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.count(b".") > MOST_DOTS and not line.lstrip().startswith(b"#"):
            raise ConfigError(
                f"{path}: line {number} has more than {MOST_DOTS} dots: no option has such a key"
            )
    text = ""
    try:
        text = data.decode()
        tables: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not only what is no TOML and no UTF-8: Python refuses numbers of thousands of digits as well.
        reason = str(error)
        if "end of document" in reason:
            reason += f", which is line {text.count(chr(10)) + 1}"
        from carbonmon.core.toml_mistakes import hint

        raise ConfigError(f"{path}: not valid TOML: {reason}{hint(text, reason)}") from None
    return tables


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)
