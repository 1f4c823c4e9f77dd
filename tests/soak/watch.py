"""What the daemon takes of its machine, and what it shows, over time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil

from tests.support import command


class Taken(NamedTuple):
    """What one process holds at one moment, and how much it shows and keeps."""

    rss_bytes: int
    descriptors: int
    threads: int
    series: int
    folder_bytes: int


def taken(pid: int, address: str, folder: Path) -> Taken:
    process = psutil.Process(pid)
    text = command.get(address)
    with process.oneshot():
        return Taken(
            process.memory_info().rss,
            process.num_fds(),
            process.num_threads(),
            sum(not line.startswith("#") for line in text.splitlines()),
            sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        )


def total(text: str, name: str) -> float:
    """The sum of all series of a metric in an answer."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
