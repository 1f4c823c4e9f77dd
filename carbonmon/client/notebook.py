"""A line below a notebook's cell when a run begins and ends there; in a program nothing is printed.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import sys
from contextlib import suppress


def is_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is asked only if the program loaded it."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    if get_ipython is None:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def say(text: str) -> None:
    """Print a line, in a notebook only; a cell that cannot be written to is no reason to fail it."""
    with suppress(Exception):
        if is_notebook():
            sys.stdout.write(f"carbonmon: {text}\n")
