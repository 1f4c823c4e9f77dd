"""CPU time of the whole machine by what it went into, from the first line of /proc/stat (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

from carbonmon.core.records import NamedTuple

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_LONGEST_LINE_BYTES = 512
_MOST_DIGITS = 20
"""Of 64 bits."""


class CpuTimes(NamedTuple):
    """Seconds since boot, of all CPUs together; `guest` and `guest_nice` are part of `user` and `nice`."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float


def read_cpu_times(procfs: Path) -> CpuTimes:
    """The times now; raises OSError, or ValueError for a file that is none of the kernel's."""
    descriptor = os.open(procfs / "stat", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        line = os.read(descriptor, _LONGEST_LINE_BYTES).partition(b"\n")[0]
    finally:
        os.close(descriptor)
    name, *ticks = line.split()[: 1 + len(CpuTimes._fields)] or [b""]
    is_whole = name == b"cpu" and len(ticks) == len(CpuTimes._fields)
    if not is_whole or not all(tick.isdigit() and len(tick) <= _MOST_DIGITS for tick in ticks):
        raise ValueError(f"it begins with {line[:40].decode(errors='replace')!r}")
    return CpuTimes(*(int(tick) * _TICK_S for tick in ticks))
