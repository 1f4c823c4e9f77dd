"""A kernel's processes in memory: fork, work, exit and wait, as the process table sees them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from carbonmon.hardware.workload.proc import Processes, Stat, clock_of
from carbonmon.hardware.workload.processes import ProcessTable

INIT = 1
CALL_S = 1e-9
"""What a fork, a wait or an exit costs the process itself."""


@dataclass
class FakeProcess:
    pid: int
    ppid: int
    pgrp: int
    session: int
    start: int
    own_s: float = 0.0
    reaped_s: float = 0.0
    zombie: bool = False
    subreaper: bool = False
    ignores_children: bool = False
    children: set[int] = field(default_factory=set)


class FakeKernel(Processes):
    """Times are exact. `before_read` is called before each look, so that a test can let things happen
    between two looks of one scan. Pids from 2 to `last_pid` are given out in turn and used again."""

    def __init__(self, last_pid: int = 1000) -> None:
        self.own_s = self._own_s
        self.are_clocks_exact = True
        self.own_pid = 0
        self.before_read: Callable[[], None] = lambda: None
        self.last_pid = last_pid
        self.newest = INIT
        self.births = 0
        self.born: dict[int, int] = {}
        self.table = {INIT: FakeProcess(INIT, 0, INIT, INIT, 0)}

    # ---- what happens ----

    def fork(self, parent: int) -> int:
        pid = self.newest + 1
        while pid in self.table or pid > self.last_pid:
            pid = pid + 1 if pid < self.last_pid else 2
        self.newest = pid
        self.births += 1
        self.born[self.births] = pid
        old = self.table[parent]
        old.own_s += CALL_S
        self.table[pid] = FakeProcess(
            pid, parent, old.pgrp, old.session, self.births // 3, ignores_children=old.ignores_children
        )
        old.children.add(pid)
        return pid

    def setsid(self, pid: int) -> None:
        process = self.table[pid]
        process.pgrp = process.session = pid

    def work(self, pid: int, cpu_s: float) -> None:
        self.table[pid].own_s += cpu_s

    def exit(self, pid: int) -> None:
        process = self.table[pid]
        process.own_s += CALL_S
        process.zombie = True
        reaper = self.table[process.ppid]
        while not reaper.subreaper and reaper.pid != INIT:
            reaper = self.table[reaper.ppid]
        for child in list(process.children):
            self.table[child].ppid = reaper.pid
            reaper.children.add(child)
            if self.table[child].zombie and reaper.pid == INIT:
                self.wait(INIT, child)
        process.children.clear()
        parent = self.table[process.ppid]
        if parent.ignores_children:
            self._release(process)
        elif parent.pid == INIT:
            self.wait(INIT, pid)

    def wait(self, parent: int, child: int) -> None:
        process = self.table[child]
        self.table[parent].own_s += CALL_S
        self.table[parent].reaped_s += process.own_s + process.reaped_s
        self._release(process)

    def _release(self, process: FakeProcess) -> None:
        self.table[process.ppid].children.discard(process.pid)
        del self.table[process.pid]

    # ---- what is seen ----

    def names(self) -> set[str]:
        self.before_read()
        return {"self", "uptime", *map(str, self.table)}

    def newest_pid(self) -> bytes | None:
        self.before_read()
        return b"%d" % self.births

    def newcomers(self, before: bytes, now: bytes) -> Collection[int] | None:
        """The pids of these births in turn; None where a test has only said that there were some."""
        births = range(int(before) + 1, int(now) + 1)
        return [self.born[birth] for birth in births] if all(birth in self.born for birth in births) else None

    def children(self, pid: int) -> Collection[int] | None:
        self.before_read()
        return list(self.table[pid].children) if pid in self.table else None

    def now_ticks(self) -> int:
        return self.births // 3

    def stat(self, pid: int) -> Stat | None:
        self.before_read()
        process = self.table.get(pid)
        if process is None:
            return None
        return Stat(
            process.ppid,
            process.pgrp,
            process.session,
            process.own_s,
            process.reaped_s,
            process.start,
            process.zombie,
        )

    def _own_s(self, clock: int) -> float:
        self.before_read()
        process = self.table.get(~(clock >> 3))
        if process is None:
            raise ProcessLookupError
        return process.own_s

    def reaped_s(self, pid: int, stat: Stat) -> float:
        return stat.reaped_s

    def close(self) -> None:
        pass


def begin_others(kernel: FakeKernel, leader: int) -> int:
    """Three processes of nobody, and before them an orphan in the leader's session, whose pid is returned.

    That is what a shell leaves that began something in the background and became the leader by exec.
    """
    between = kernel.fork(leader)
    orphan = kernel.fork(between)
    kernel.exit(between)
    kernel.wait(leader, between)
    for pid in (orphan, *(kernel.fork(INIT) for _ in range(3))):
        kernel.work(pid, 9.0)
    return orphan


def following(kernel: FakeKernel, **runs: int) -> ProcessTable:
    table = ProcessTable(Path("/nowhere"), processes=kernel)
    for run_id, pid in runs.items():
        table.add(run_id, [pid])
    return table


assert ~(clock_of(7) >> 3) == 7
