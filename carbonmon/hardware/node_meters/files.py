"""Reads the small text files of a node meter in sysfs."""

from __future__ import annotations

import os
from pathlib import Path

from carbonmon.core.errors import SensorReadError

_LONGEST_BYTES = 256


def text(path: Path) -> str:
    """What a file holds, without white space around it; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(descriptor, _LONGEST_BYTES).decode("utf-8", "replace").strip()
    finally:
        os.close(descriptor)


def optional_text(path: Path) -> str:
    """The same, "" where it cannot be read."""
    try:
        return text(path)
    except OSError:
        return ""


def whole_number(path: Path, unit: str = "") -> int:
    """The number, of at least 0, that a file holds, before its `unit` if any; raises `SensorReadError`."""
    try:
        found = text(path)
    except OSError as error:
        raise SensorReadError(f"{path} cannot be read: {error.strerror or error}") from None
    number, _, rest = found.partition(" ")
    is_number = number.isascii() and number.isdecimal() and len(number) <= 20
    if not is_number or rest.partition(" ")[0] != unit:
        raise SensorReadError(f"{path}: {found!r:.40} is no number{f' of {unit}' * bool(unit)}")
    return int(number)
