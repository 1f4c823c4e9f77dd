"""Runs that begin and end beside one another while readings are late: each joule is in one, or in none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from carbonmon.core.model import (
    Failure,
    GpuClaim,
    IdlePolicy,
    NodeUsage,
    Reading,
    ResumePoint,
    RunState,
    Usage,
)
from carbonmon.core.ports import Roots
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from tests.chaos.inprocess import GPU, PACKAGE, POWER_W, Source, sampler_of
from tests.support.harness import INFO, FakeClock

WHOLE = GpuClaim(1.0, None, "allocated")


class Late(Source):
    """Each device answers a while after it is asked, and is heard of a while after that."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__([GPU, PACKAGE])
        self._clock = clock
        self.late_s = 0.0
        self.silent: set[str] = set()

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        for device in self._devices:
            self._clock.time_s += self.late_s
            if device.id not in self.silent:
                yield Reading(device.id, round(POWER_W[device.id] * self._clock.time_s * 1e6))
        self._clock.time_s += self.late_s


class Processes:
    """Each run keeps a CPU of the node busy from when it is followed; `holders` have the GPU."""

    def __init__(self, clock: FakeClock) -> None:
        self._read_s = clock.time_s
        self._since_s: dict[str, float] = {}
        self._clock = clock
        self.holders: set[str] = set()

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None:
        self._since_s[run_id] = self._clock.time_s

    def resume_points(self) -> Mapping[str, ResumePoint]:
        return {}

    def join(self, run_id: str, roots: Roots) -> None:
        pass

    def remove(self, run_id: str) -> None:
        del self._since_s[run_id]

    def read(self, now_s: float) -> NodeUsage:
        used = {run_id: now_s - max(since_s, self._read_s) for run_id, since_s in self._since_s.items()}
        elapsed_s, self._read_s = now_s - self._read_s, now_s
        runs = {
            run_id: Usage(cpu_s, {GPU.id: WHOLE} if run_id in self.holders else {}, 1)
            for run_id, cpu_s in used.items()
        }
        return NodeUsage(sum(used.values()), 8 * elapsed_s, runs)

    def close(self) -> None:
        pass


class Node:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.source = Late(self.clock)
        self.processes = Processes(self.clock)
        self.sampler: Sampler = sampler_of(self.source, self.clock, 1.0, self.processes)
        self.sampler.tick(edge=True)
        self.ended: dict[str, RunState] = {}

    def watch(self, seconds: float) -> None:
        self.clock.time_s += seconds
        self.sampler.tick()

    def change(self, *, ends: str = "", begins: str = "", policy: IdlePolicy = "proportional") -> None:
        """One run ends and another one begins, by one sample in between, as the loop does both."""
        if ends:
            self.sampler.runs.stop(ends, self.clock.now_s(), self.clock.wall_s())
        self.sampler.tick(edge=True)
        if ends:
            self.sampler.end(ends, 0, None)
            self.ended[ends] = next(run for run in self.sampler.latest.runs if run.info.id == ends)
            self.processes.holders.discard(ends)
        if begins:
            info = INFO._replace(id=begins, idle_policy=policy)
            self.sampler.begin(RunAccount(info, [GPU, PACKAGE]))

    def energy_j(self, run_id: str, device_id: str) -> float:
        run = self.ended[run_id]
        return sum(row.energy_j for row in run.totals if row.device_id == device_id)

    def unattributed_j(self, device_id: str) -> float:
        """What is in no run; all of a device's energy is in the runs or in this."""
        (state,) = [state for state in self.sampler.latest.devices if state.device.id == device_id]
        attributed_j = sum(self.energy_j(run_id, device_id) for run_id in self.ended)
        assert attributed_j + state.unattributed_j == pytest.approx(state.energy_j, rel=1e-12)
        return state.unattributed_j


@pytest.mark.parametrize("late_s", [0.0, 0.2])
def test_one_after_the_other_each_has_the_gpu_for_its_own_time(late_s: float):
    node = Node()
    node.processes.holders |= {"one", "two"}
    node.source.late_s = late_s
    node.change(begins="one")
    node.watch(1.0)
    node.watch(1.0)
    node.clock.time_s += 0.3
    node.change(ends="one", begins="two")
    node.watch(1.0)
    node.clock.time_s += 0.7
    node.change(ends="two")
    node.watch(1.0)
    for run_id, run in node.ended.items():
        assert node.energy_j(run_id, GPU.id) == pytest.approx(run.duration_s * POWER_W[GPU.id])
    first, second = node.ended.values()
    between_s = second.info.started_at_s - (first.ended_at_s or 0.0)
    assert between_s == pytest.approx(3 * late_s), "one ends before the sample, the next begins behind it"
    alone_s = node.sampler.latest.clock_s - 1000.0 - first.duration_s - second.duration_s
    read_late_s = 2 * late_s  # the last reading of the GPU was so long before the snapshot
    assert node.unattributed_j(GPU.id) == pytest.approx((alone_s - read_late_s) * POWER_W[GPU.id])


@pytest.mark.parametrize("late_s", [0.0, 0.2])
def test_a_run_that_holds_a_gpu_throughout_loses_nothing_to_others_that_come_and_go(late_s: float):
    node = Node()
    node.processes.holders.add("long")
    node.source.late_s = late_s
    node.change(begins="long")
    for number in range(4):
        node.watch(0.7)
        node.change(begins=f"short-{number}")
        node.watch(0.9)
        node.clock.time_s += 0.2
        node.change(ends=f"short-{number}")
    node.watch(1.0)
    node.change(ends="long")
    long = node.ended["long"]
    assert node.energy_j("long", GPU.id) == pytest.approx(long.duration_s * POWER_W[GPU.id])
    assert all(node.energy_j(f"short-{number}", GPU.id) == 0.0 for number in range(4))
    assert dict(long.unobserved_s) == {GPU.id: 0.0, PACKAGE.id: 0.0}
    for number in range(4):
        short = node.ended[f"short-{number}"]
        share = node.energy_j(short.info.id, PACKAGE.id) / (short.duration_s * POWER_W[PACKAGE.id])
        assert share == pytest.approx(0.5, abs=0.05), "each of the two keeps one CPU busy"


def test_who_owns_the_node_has_what_is_of_no_other_run_also_beside_their_edges():
    node = Node()
    node.change(begins="owner", policy="exclusive")
    before_j = node.sampler.latest.devices[1].unattributed_j
    node.source.late_s = 0.2
    for _ in range(3):
        node.watch(0.7)
        node.change(begins="guest")
        node.watch(0.9)
        node.change(ends="guest")
    node.watch(1.0)
    assert node.sampler.latest.devices[1].unattributed_j == before_j


def test_a_gpu_whose_counter_was_silent_at_a_begin_is_shared_by_the_time_that_each_held_it():
    """Its next value covers both runs' time: the first has what was drawn until the other began."""
    node = Node()
    node.processes.holders |= {"one", "two"}
    node.change(begins="one")
    node.watch(1.0)
    node.source.silent.add(GPU.id)
    node.clock.time_s += 1.0
    node.change(begins="two")
    node.watch(1.0)
    node.source.silent.clear()
    node.watch(1.0)
    node.change(ends="two")
    node.change(ends="one")
    assert node.energy_j("one", GPU.id) == pytest.approx((2.0 + 2.0 / 2) * POWER_W[GPU.id])
    assert node.energy_j("two", GPU.id) == pytest.approx(2.0 / 2 * POWER_W[GPU.id])
