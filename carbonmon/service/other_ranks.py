"""Finds the other ranks of a launch on this node: most code calls `track()` on rank 0 only.

They are children of the same launcher (torchrun, mpirun, slurmstepd), or of rank 0 itself (Lightning's
`ddp`), and their environment names the same launch with another rank.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from carbonmon.client.launcher import mpi_key, read_launch
from carbonmon.core.model import Rank
from carbonmon.core.records import NamedTuple

PROC = Path("/proc")
MAX_GENERATIONS = 8
"""So many parents of a rank are looked at: a shell or two may stand between the launcher and its rank."""


class OtherRank(NamedTuple):
    """A rank that has not joined by itself."""

    pid: int
    rank: Rank
    environ: Mapping[str, str]


def other_ranks(pid: int, key: str, rank: int | None, proc: Path = PROC) -> list[OtherRank]:
    """The processes with the same key as this one and other ranks; only what we may read is found."""
    found: dict[int, OtherRank] = {}
    for parent in (_launcher_of(pid, key, rank, proc), pid):
        for child in _children(parent, proc):
            environ = _environ(child, proc)
            launch = read_launch(environ)
            same = key in (launch.key, mpi_key(environ, parent))
            if same and child != pid and launch.rank is not None and launch.rank != rank:
                named = Rank(launch.rank, launch.local_rank, launch.world_size)
                found.setdefault(launch.rank, OtherRank(child, named, environ))
    return list(found.values())


def _launcher_of(pid: int, key: str, rank: int | None, proc: Path) -> int:
    """The nearest parent that is not this rank itself, such as a shell that the launcher started it with."""
    for _ in range(MAX_GENERATIONS):
        pid = _parent(pid, proc)
        launch = read_launch(_environ(pid, proc)) if pid else None
        if launch is None or launch.key != key or launch.rank != rank:
            break
    return pid


def _parent(pid: int, proc: Path) -> int:
    try:
        text = (proc / str(pid) / "stat").read_bytes()
        return int(text[text.rindex(b")") + 2 :].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _children(pid: int, proc: Path) -> Iterator[int]:
    """The children of a process, by /proc/PID/task/TID/children of each of its threads (proc(5))."""
    try:
        threads = os.listdir(proc / str(pid) / "task")  # noqa: PTH208 (names are enough)
    except OSError:
        return
    for thread in threads:
        try:
            text = (proc / str(pid) / "task" / thread / "children").read_text()
        except OSError:  # the thread has ended
            continue
        yield from map(int, text.split())


def _environ(pid: int, proc: Path) -> dict[str, str]:
    """The environment that a process began with; empty where we may not read it."""
    try:
        text = (proc / str(pid) / "environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return {}
    return dict(entry.partition("=")[::2] for entry in text.split("\0") if "=" in entry)
