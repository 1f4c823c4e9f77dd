"""Reads a TOML file, with an error that says which file, which line and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import read_file

LONGEST_BYTES = 1 << 20


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file; raises `ConfigError`, also for what is no file, and waits for no pipe.

    /dev/null is a file with nothing in it: so one says that there is to be none.
    """
    if path == Path(os.devnull):
        return {}
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        try:
            import tomli as tomllib
        except ModuleNotFoundError:
            reason = "reading TOML needs Python 3.11 or later, or: pip install tomli"
            raise ConfigError(f"{path}: {reason}") from None
    text = ""
    try:
        text = read_file(path, LONGEST_BYTES).decode()
        tables: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        # Not only what is no TOML and no UTF-8: Python refuses numbers of thousands of digits as well.
        reason = str(error)
        if "end of document" in reason:
            reason += f", which is line {text.count(chr(10)) + 1}"
        raise ConfigError(f"{path}: not valid TOML: {reason}") from None
    return tables
