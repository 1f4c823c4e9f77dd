"""The name of the notebook that this process is the kernel of, where it can be known.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

_FILE = re.compile(r"(?:.*[/\\])?([^/\\]+)\.ipynb(?:-.*)?")


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
