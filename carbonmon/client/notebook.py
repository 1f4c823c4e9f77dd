"""A notebook: its name where it can be known, and a line below its cell when a run begins and ends there.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import suppress

from carbonmon.core.plain_text import plain

_FILE = re.compile(r"(?:.*[/\\])?([^/\\]+)\.ipynb(?:-.*)?")


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
            sys.stdout.write(f"carbonmon: {plain(text)}\n")


def notebook_name(environ: Mapping[str, str]) -> str | None:
    """The notebook's file without folder and ending; None outside of a notebook, and where nobody says.

    Jupyter Server (since 2.0) names the notebook in JPY_SESSION_NAME, VS Code in a variable of the notebook.
    """
    if "ipykernel" not in sys.modules:
        return None
    main = sys.modules.get("__main__")
    for said in (getattr(main, "__vsc_ipynb_file__", None), environ.get("JPY_SESSION_NAME")):
        match = _FILE.fullmatch(said) if isinstance(said, str) else None
        if match:
            return match[1]
    return None
