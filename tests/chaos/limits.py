"""A job is started where next to nothing is left: processes, memory, inodes, a place to write."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.chaos.table import Check, Row
from tests.simulator import can_wrap
from tests.support.limits import EXIT_CODE, FIRST_UID, PIDS_CGROUP, as_user, ended, mounted, start

TOGETHER = 4
"""So many jobs are started at once."""

DISKS = {"no inodes": "nr_inodes=1", "read-only": "ro", "full": "size=4k,nr_inodes=2"}
MEBIBYTES = (28, 31, 40, 56, 72, 96, 128)
MEBIBYTES_OF_DATA = (16, 28, 40, 64, 128)
REMOVED = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
"""Starts a command in a working folder that is not there any more."""


class Place:
    """A folder that every user may reach, in which jobs are started and waited for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = 0

    def told(self, prefixes: Iterable[Sequence[str]], *options: str) -> list[tuple[int, str]]:
        """The exit code and the words of one job for each prefix."""
        left, found = list(prefixes), []
        while left:
            started = [start(self._new(), prefix, *options) for prefix in left[:TOGETHER]]
            del left[:TOGETHER]
            found += [ended(process) for process in started]
        return found

    def _new(self) -> Path:
        self._began += 1
        folder = self._folder / str(self._began)
        folder.mkdir()
        folder.chmod(0o777)
        return folder


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    if os.geteuid() != 0:
        sys.stderr.write("limits: left out, to be another user and to mount needs root\n")
        return
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cm-limits-") as name:
        Path(name).chmod(0o777)
        place = Place(Path(name))
        places = range(2, 13, 5 if short else 1)
        limited = [as_user(FIRST_UID + most, "prlimit", f"--nproc={most}") for most in places]
        yield _row(
            "few places for processes", f"`ulimit -u` {places[0]} to {places[-1]}", place.told(limited)
        )
        if os.access(PIDS_CGROUP, os.W_OK):
            yield _pids_max(place, (3, 6) if short else range(3, 10))
        memory = [["prlimit", f"--as={most << 20}"] for most in (MEBIBYTES[::4] if short else MEBIBYTES)]
        yield _row("little memory", f"RLIMIT_AS {MEBIBYTES[0]} to {MEBIBYTES[-1]} MiB", place.told(memory))
        data = [["prlimit", f"--data={most << 20}"] for most in MEBIBYTES_OF_DATA[:: 4 if short else 1]]
        few = f"RLIMIT_DATA {MEBIBYTES_OF_DATA[0]} to {MEBIBYTES_OF_DATA[-1]} MiB"
        yield _row("little room for data", few, place.told(data))
        told = place.told([REMOVED]) + place.told([REMOVED], "--output", "runs", "--targets", "targets")
        yield _row("the working folder was removed", "with and without --output and --targets", told)
        if can_wrap():
            for what, options in DISKS.items():
                with mounted(options) as prefix:
                    told = place.told([prefix]) + place.told([prefix], "--output", "/mnt/mine/runs")
                yield _row(f"a disk that takes nothing: {what}", "with and without --output", told)


def _pids_max(place: Place, limits: Iterable[int]) -> Row:
    told = []
    for most in limits:
        cgroup = PIDS_CGROUP / f"carbonmon-chaos-{os.getpid()}-{most}"
        cgroup.mkdir()
        try:
            (cgroup / "pids.max").write_text(str(most))
            enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', os.fspath(cgroup)]
            told += place.told([enter])
        finally:
            cgroup.rmdir()
    return _row("few places in a cgroup", f"pids.max {min(limits)} to {max(limits)}", told)


def _row(scenario: str, faults: str, told: Sequence[tuple[int, str]]) -> Row:
    hurt = [code for code, _ in told if code != EXIT_CODE]
    traced = sum("Traceback" in text for _, text in told)
    return Row(
        scenario,
        faults,
        None,
        None,
        None,
        (
            Check(f"{len(told)} jobs, {len(hurt)} refused or hurt {hurt[:3] or ''}".rstrip(), not hurt),
            Check(f"{traced} tracebacks", traced == 0),
        ),
    )
