"""Reads one process: /proc/PID/stat (proc(5)) and its CPU-time clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.workload.namespaces import shows_our_pids

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
STAT_BYTES = 1024  # comm has at most 64 bytes, and the 50 numbers after it at most 20 digits each
LOADAVG_BYTES = 128
MAX_DEPTH = 1000
"""Of a chain of parents: pids that are given out again while it is read could make a circle."""


class Stat(NamedTuple):
    """Fields of /proc/PID/stat. `reaped_s` is the CPU time of all descendants that were waited for, in whole
    clock ticks (10 ms), as `own_s` is; `start` are ticks since boot. `stopped`: by a signal. `is_thread`: not
    the first one of its process, whose stat /proc shows under the thread's number, without listing it."""

    ppid: int
    pgrp: int
    session: int
    own_s: float
    reaped_s: float
    start: int
    ended: bool
    stopped: bool = False
    is_thread: bool = False


def parse_stat(text: bytes) -> Stat:
    """Raises ValueError or IndexError for what is no stat line.

    The command's name is in parentheses and may hold spaces and parentheses itself. A leader in state Z
    whose other threads still run has not ended.
    """
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        session=int(fields[3]),
        own_s=(int(fields[11]) + int(fields[12])) * TICK_S,
        reaped_s=(int(fields[13]) + int(fields[14])) * TICK_S,
        start=int(fields[19]),
        ended=fields[0] in (b"Z", b"X") and int(fields[17]) <= 1,
        stopped=fields[0] == b"T",
        # exit_signal: the kernel gives every thread but the first -1 (copy_process in kernel/fork.c).
        is_thread=len(fields) > 35 and fields[35] == b"-1",
    )


class Processes:
    """The processes that `procfs` shows. A vanished process is None, or OSError from a clock."""

    def __init__(self, procfs: Path) -> None:
        self._folder = f"{procfs}/"
        self._has_our_pids = self.are_clocks_exact = shows_our_pids(procfs) and _has_clocks()
        """`are_clocks_exact`: whoever did anything has used CPU time by `own_s`, if only a little later."""
        self.own_pid = os.getpid() if self._has_our_pids else 0
        self._loadavg = -1
        self.own_s: Callable[[int], float] = time.clock_gettime if self._has_our_pids else self._own_s_by_stat
        """CPU time in s of the process with this `clock_of`, to the nanosecond, its ended threads included.

        It works for other users' processes and for those that ended but were not waited for. Raises
        OSError when the process has vanished. Where these are not our pids, it is in whole clock ticks.
        """

    def names(self) -> set[str]:
        """The names in /proc; those of processes are their pids. Raises OSError."""
        return set(os.listdir(self._folder))  # noqa: PTH208 - a Path for each of 5,000 costs 10 ms

    def newest_pid(self) -> bytes | None:
        """The pid of the newest process or thread: while it is the same no other began. None: unknown.

        The last field of /proc/loadavg is the last pid given out in the *reader's* namespace.
        """
        if not self._has_our_pids:
            return None
        try:
            if self._loadavg < 0:
                self._loadavg = os.open(f"{self._folder}loadavg", os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._loadavg, LOADAVG_BYTES, 0).split()[-1]
        except (OSError, IndexError):
            return None

    def newcomers(self, before: bytes, now: bytes) -> Collection[int] | None:
        """The numbers of all processes and threads that began between two answers of `newest_pid`.

        The kernel gives them out in turn (alloc_pid in kernel/pid.c). None where it began again from below.
        """
        if not (before.isdigit() and now.isdigit()):
            return None
        first, last = int(before) + 1, int(now)
        return range(first, last + 1) if first <= last else None

    def children(self, pid: int) -> Collection[int] | None:
        """The children of a process; None where the kernel does not tell (CONFIG_PROC_CHILDREN), or may not.

        While some end it may leave others out (proc(5)), but not all of them; and those of a thread that ends
        become another one's, which may have been read already.
        """
        found: list[int] = []
        folder = f"{self._folder}{pid}/task"
        try:
            threads = os.listdir(folder)  # noqa: PTH208 - as above
            for thread in threads:
                with open(f"{folder}/{thread}/children", "rb") as file:
                    found += map(int, file.read().split())
            return found if threads == os.listdir(folder) else None  # noqa: PTH208 - as above
        except (OSError, ValueError):
            return None

    def now_ticks(self) -> int:
        """The time as a process that begins now has it in `Stat.start`."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) / TICK_S)

    def stat(self, pid: int) -> Stat | None:
        try:
            fd = os.open(f"{self._folder}{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return parse_stat(os.read(fd, STAT_BYTES))
        except (OSError, ValueError, IndexError):
            return None
        finally:
            os.close(fd)

    def reaped_s(self, pid: int, stat: Stat) -> float:
        """CPU time of descendants that were waited for; of our own process to the microsecond."""
        if pid != self.own_pid:
            return stat.reaped_s
        usage = getrusage(RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def close(self) -> None:
        if self._loadavg >= 0:
            os.close(self._loadavg)
            self._loadavg = -1

    def _own_s_by_stat(self, clock: int) -> float:
        stat = self.stat(~(clock >> 3))
        if stat is None:
            raise ProcessLookupError
        return stat.own_s


def with_parents(stat_of: Callable[[int], Stat | None], pid: int) -> Iterator[tuple[int, Stat]]:
    """(pid, stat) of a process, its parent and so on up to the first process of the namespace."""
    for _ in range(MAX_DEPTH):
        stat = stat_of(pid)
        if stat is None:
            return
        yield pid, stat
        pid = stat.ppid


def clock_of(pid: int) -> int:
    """The clock of a process's CPU time, as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED (2)."""
    return (~pid << 3) | 2


def _has_clocks() -> bool:
    """Whether processes have clocks here: a sandbox that emulates Linux may lack them."""
    try:
        return time.clock_gettime(clock_of(os.getpid())) > 0.0
    except OSError:
        return False
