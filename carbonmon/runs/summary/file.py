"""The file summary.json of a run's folder, its schema, and the memory of its monitor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carbonmon.core.files import replace_file
from carbonmon.core.plain_text import plain_json
from carbonmon.runs.layout import SUMMARY_FILE

SCHEMA_FILE = Path(__file__).with_name("summary.schema.json")
"""The JSON Schema (draft 2020-12) of every summary."""


def write_summary(folder: Path, summary: dict[str, Any], uid: int | None = None) -> Path:
    """Replace summary.json in the folder atomically and durably; returns its path. Raises OSError.

    Of what root keeps for user `uid`, this file is that user's, so that it can be read.
    """
    path = folder / SUMMARY_FILE
    text = plain_json(json.dumps(summary, ensure_ascii=False, allow_nan=False, indent=2))
    replace_file(path, f"{text}\n".encode(), uid=uid)
    return path


def own_peak_rss_bytes(procfs: Path) -> int | None:
    """The largest memory of this process so far: VmHWM, in kB of 1024 bytes; None if it cannot be read.

    It is not getrusage's ru_maxrss, which an exec inherits from the process that forked.
    """
    try:
        with (procfs / "self" / "status").open("rb") as lines:
            for line in lines:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
