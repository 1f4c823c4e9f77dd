"""What stdout and stderr are written to: how wide the terminal is, and whether colours are wanted.

The variables: NO_COLOR (https://no-color.org), FORCE_COLOR (https://force-color.org), CLICOLOR and
CLICOLOR_FORCE (https://bixense.com/clicolors/), COLUMNS (POSIX).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO

NARROWEST = 40
"""Columns: in a narrower terminal lines overflow."""
_USUAL = 80
"""Columns of a terminal that does not tell."""


def width(*, err: bool = False) -> int | None:
    """The columns of the terminal; None where the output goes to a file or another program."""
    stream = sys.stderr if err else sys.stdout
    if not _is_terminal(stream):
        return None
    told = os.environ.get("COLUMNS", "")
    columns = int(told) if told.isascii() and told.isdecimal() and len(told) < 6 else 0
    if not columns:
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            columns = _USUAL
    return max(columns or _USUAL, NARROWEST)


def has_colours(environ: Mapping[str, str], *, err: bool = False) -> bool:
    """Whether colours are wanted: in a terminal, unless a variable says otherwise."""
    if environ.get("NO_COLOR"):
        return False
    forced = environ.get("FORCE_COLOR") or environ.get("CLICOLOR_FORCE") or "0"
    if forced != "0":
        return True
    if environ.get("CLICOLOR") == "0" or environ.get("TERM") == "dumb":
        return False
    return _is_terminal(sys.stderr if err else sys.stdout)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
