"""A number in a file of sysfs, read again and again through one descriptor."""

from __future__ import annotations

import os
from pathlib import Path

from carbonmon.core.patterns import pattern

_UNSIGNED = pattern(rb"\s*[0-9]{1,20}\s*")
_SIGNED = pattern(rb"\s*-?[0-9]{1,20}\s*")
"""A u64 or an s64 as the kernel prints it; `int()` alone would take a plus and underscores as well."""


class NumberFile:
    """A file that holds one whole number, kept open; opened again after an error.

    `unit` names the number in the error for what is none. `signed`: it may be negative.
    """

    __slots__ = ("_file", "_path", "_pattern", "_unit")

    def __init__(self, path: Path, unit: str, signed: bool = False) -> None:
        self._path = str(path)
        self._unit = unit
        self._pattern = _SIGNED if signed else _UNSIGNED
        self._file = -1

    def read(self) -> int:
        """The number as it is now. Raises OSError, or ValueError if it is none."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.pread(self._file, 64, 0)
        except OSError as error:
            self.close()
            raise OSError(error.errno, error.strerror, self._path) from None
        if self._pattern.fullmatch(text) is None:
            self.close()
            raise ValueError(f"{self._path}: {text!r} is not a number of {self._unit}")
        return int(text)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def reason_of(error: OSError | ValueError) -> str:
    """The short word for why a file could not be read, for a label."""
    if isinstance(error, PermissionError):
        return "permission"
    if isinstance(error, FileNotFoundError):
        return "missing"
    return "io" if isinstance(error, OSError) else "garbage"
