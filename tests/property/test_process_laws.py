"""Laws of the CPU time of process trees, over any order of forks, exits and waits, also amid a scan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.hardware.workload.processes import ProcessTable
from tests.support.effort import examples
from tests.support.kernel import INIT, FakeKernel, begin_others

OPS = ("fork", "fork", "work", "work", "exit", "wait", "wait", "setsid", "scan")
SCRIPTS = st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 30), st.integers(1, 20)), max_size=60)


class World:
    """A wrapper with a job below it, followed from its start; `truth_s` is what the job used.

    `ours`: the wrapper is the process that looks, as in `carbonmon run`. Others are there already.
    """

    def __init__(self, subreaper: bool, ignorant: bool, ours: bool = False) -> None:
        self.kernel = FakeKernel()
        self.wrapper = self.kernel.fork(INIT)
        self.kernel.setsid(self.wrapper)
        self.orphan = begin_others(self.kernel, self.wrapper)
        if ours:
            self.kernel.own_pid = self.wrapper
        self.kernel.table[self.wrapper].subreaper = subreaper
        self.ignorant = ignorant
        self.table = ProcessTable(Path("/nowhere"), processes=self.kernel)
        self.table.add("run", [], [self.wrapper])
        self.job: list[int] = []
        self.truth_s = self.credited_s = 0.0

    def living(self) -> list[int]:
        table = self.kernel.table
        return [pid for pid in [self.wrapper, *self.job] if pid in table and not table[pid].zombie]

    def play(self, op: str, which: int, amount: int) -> None:
        kernel, living = self.kernel, self.living()
        pid = living[which % len(living)]
        if op == "fork":
            child = kernel.fork(pid)
            kernel.table[child].ignores_children = self.ignorant and which % 3 == 0
            if child not in self.job:
                self.job.append(child)
        elif op == "work" and pid != self.wrapper:
            kernel.work(pid, amount * 0.25)
            self.truth_s += amount * 0.25
        elif op == "exit" and pid != self.wrapper:
            kernel.exit(pid)
        elif op == "setsid":
            kernel.setsid(pid)
        elif op == "add" and pid != self.wrapper:
            self.table.add("nested", *(([], [pid]) if amount % 2 else ([pid], [])))
        elif op == "remove":
            self.table.remove("nested")
        elif op == "wait":
            zombies = [child for child in kernel.table[pid].children if kernel.table[child].zombie]
            if zombies:
                kernel.wait(pid, sorted(zombies)[amount % len(zombies)])

    def scan(self) -> None:
        used_s = self.table.scan()
        assert min(used_s.values()) >= 0.0
        self.credited_s += sum(used_s.values())

    def run(self, script: list[tuple[str, int, int]]) -> None:
        """Play the script; `amount` of the operations after a scan happen amid it, one before each look."""
        rest: Iterator[tuple[str, int, int]] = iter(script)
        amid = 0

        def before_read() -> None:
            nonlocal amid
            if amid > 0:
                amid -= 1
                op = next(rest, None)
                if op is not None:
                    self.play(*op)

        self.kernel.before_read = before_read
        for op, which, amount in rest:
            if op == "scan":
                amid = amount if which % 2 else 0
                self.scan()
                amid = 0
            else:
                self.play(op, which, amount)
        self.kernel.before_read = lambda: None

    def end(self) -> None:
        """All of the job ends and is waited for."""
        for pid in reversed(self.living()[1:]):
            self.kernel.exit(pid)
        for pid in [pid for pid in self.job if pid in self.kernel.table]:
            self.kernel.wait(self.kernel.table[pid].ppid, pid)
        self.scan()
        self.scan()


@examples(400)
@given(SCRIPTS, st.booleans())
def test_below_a_subreaper_all_cpu_time_is_credited_exactly_once(
    script: list[tuple[str, int, int]], ours: bool
):
    world = World(subreaper=True, ignorant=False, ours=ours)
    world.run(script)
    world.end()
    assert world.credited_s == pytest.approx(world.truth_s, abs=1e-6)
    assert world.table.members("run") <= {world.wrapper, world.orphan}


@examples(400)
@given(SCRIPTS, st.booleans(), st.booleans())
def test_nothing_is_ever_credited_twice(script: list[tuple[str, int, int]], subreaper: bool, ours: bool):
    world = World(subreaper=subreaper, ignorant=True, ours=ours)
    world.run(script)
    world.end()
    assert world.credited_s <= world.truth_s + 1e-6


NESTED = st.lists(
    st.tuples(st.sampled_from((*OPS, "add", "remove", "exit")), st.integers(0, 30), st.integers(1, 20)),
    max_size=60,
)


@examples(300)
@given(NESTED)
def test_runs_within_a_run_together_get_no_more_than_was_used(script: list[tuple[str, int, int]]):
    world = World(subreaper=True, ignorant=False)
    world.run([step for step in script if step[0] != "scan" or step[1] % 2 == 0])
    world.table.remove("nested")
    world.end()
    assert world.credited_s <= world.truth_s + 1e-6


@examples(400)
@given(SCRIPTS)
def test_whoever_lives_is_found_though_nobody_else_runs_any_more(script: list[tuple[str, int, int]]):
    world = World(subreaper=True, ignorant=False)
    world.run([step for step in script if step[0] != "setsid"])
    for _ in range(3):
        world.scan()
    assert world.table.members("run") >= set(world.living())
