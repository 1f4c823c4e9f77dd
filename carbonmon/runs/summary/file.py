"""The file summary.json of a run's folder, its schema, and what its monitor has cost so far."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from carbonmon.core.files import replace_file
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.summary.document import MonitorCost

SCHEMA_FILE = Path(__file__).with_name("summary.schema.json")
"""The JSON Schema (draft 2020-12) of every summary."""


def write_summary(folder: Path, summary: dict[str, Any]) -> Path:
    """Replace summary.json in the folder atomically and durably; returns its path. Raises OSError."""
    path = folder / SUMMARY_FILE
    replace_file(path, (json.dumps(summary, ensure_ascii=False, allow_nan=False, indent=2) + "\n").encode())
    return path


def monitor_cost(procfs: Path) -> MonitorCost:
    """What this process has used so far.

    The peak is VmHWM and not getrusage's ru_maxrss, which an exec inherits from the process that forked.
    """
    return MonitorCost(time.process_time(), _peak_rss_bytes(procfs / "self" / "status"))


def _peak_rss_bytes(status: Path) -> int | None:
    """VmHWM from a /proc status file, which states it in kB of 1024 bytes; None if it cannot be read."""
    try:
        with status.open("rb") as lines:
            for line in lines:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
