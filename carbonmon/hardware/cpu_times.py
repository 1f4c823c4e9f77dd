"""CPU time of the whole machine by what it went into, from the first line of /proc/stat (proc(5)).

The kernel makes the whole file for each reader, a line for each CPU and a number for each interrupt: on a
large machine that costs more than all other reads of a tick. So who asks at the same time has one answer.
"""

from __future__ import annotations

import os
from pathlib import Path

from carbonmon.core.records import NamedTuple

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")

SAME_TIME_S = 0.005
"""The times increase in steps of 10 ms: a younger answer than half of it is as good as another one."""

_LONGEST_LINE_BYTES = 512
_MOST_DIGITS = 20
"""Of 64 bits."""


class CpuTimes(NamedTuple):
    """Clock ticks since boot, of all CPUs together; `guest` and `guest_nice` are part of `user` and `nice`.

    Idle and iowait are not busy. Steal is another guest's time.
    """

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int

    @property
    def busy(self) -> int:
        return self.user + self.nice + self.system + self.irq + self.softirq


class _File:
    """One machine's file, kept open, and what was read of it last."""

    def __init__(self) -> None:
        self.descriptor = -1
        self.at_s = float("-inf")
        self.times: CpuTimes | None = None


_files: dict[Path, _File] = {}


def read_cpu_times(procfs: Path, now_s: float) -> CpuTimes:
    """The times now, or those of less than `SAME_TIME_S` ago on the clock of `now_s`. For one thread.

    Raises OSError, or ValueError for a file that is none of the kernel's.
    """
    file = _files.get(procfs)
    if file is None:
        file = _files[procfs] = _File()
    if file.times is not None and 0.0 <= now_s - file.at_s < SAME_TIME_S:
        return file.times
    file.times = None
    try:
        if file.descriptor < 0:
            file.descriptor = os.open(procfs / "stat", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        file.times = _parsed(os.pread(file.descriptor, _LONGEST_LINE_BYTES, 0).partition(b"\n")[0])
    except (OSError, ValueError):
        close_cpu_times(procfs)
        raise
    file.at_s = now_s
    return file.times


def close_cpu_times(procfs: Path) -> None:
    """Close the file; who reads it next opens it again."""
    file = _files.pop(procfs, None)
    if file is not None and file.descriptor >= 0:
        os.close(file.descriptor)


def _parsed(line: bytes) -> CpuTimes:
    name, *ticks = line.split()[: 1 + len(CpuTimes._fields)] or [b""]
    is_whole = name == b"cpu" and len(ticks) == len(CpuTimes._fields) and b"".join(ticks).isdigit()
    if not is_whole or max(map(len, ticks)) > _MOST_DIGITS:
        raise ValueError(f"it begins with {line[:40].decode(errors='replace')!r}")
    return CpuTimes(*map(int, ticks))
