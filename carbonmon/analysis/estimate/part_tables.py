"""The parts of a job in a TOML file: its `[[part]]` tables, each with the options' names as keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carbonmon.analysis.estimate.part_values import key_text
from carbonmon.analysis.estimate.parts import KEYS, Part, part_of
from carbonmon.core.documents import read_toml
from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import meant

MAX_PARTS = 1_000
LONGEST_NAME = 64


def read_parts(path: Path) -> tuple[Part, ...]:
    """The parts of a TOML file, its `[[part]]` tables; raises ConfigError with file, part and key."""
    tables = read_toml(path)
    strange = [key for key in tables if key != "part"]
    entries = tables.get("part")
    if strange or not isinstance(entries, list) or not entries:
        what = f"it holds {strange[0]!r:.60}" if strange else "with double brackets, and it holds none"
        raise ConfigError(f"{path}: parts are [[part]] tables, {what}; see examples/estimate.toml")
    if len(entries) > MAX_PARTS:
        raise ConfigError(f"{path}: more than {MAX_PARTS} parts")
    parts = [_table_part(path, number, entry) for number, entry in enumerate(entries, start=1)]
    names = [part.name for part in parts]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigError(f"{path}: two parts are called {double!r}; give each a name of its own")
    return tuple(parts)


def _table_part(path: Path, number: int, entry: Any) -> Part:
    where = f"{path}, part {number}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: not a table; parts are [[part]] tables")
    values: dict[str, Any] = {}
    for key, value in entry.items():
        word = key.replace("_", "-")
        if word not in KEYS:
            raise ConfigError(f"{key_text(where, key)} is unknown; {meant(word, KEYS)}")
        if word in values:
            raise ConfigError(f"{key_text(where, key)} is given twice, with a hyphen and with an underscore")
        values[word] = value
    name = values.pop("name", f"part {number}")
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise ConfigError(f"{key_text(where, 'name')} must be a text of 1 to {LONGEST_NAME} characters")
    return part_of(values, name, where)
