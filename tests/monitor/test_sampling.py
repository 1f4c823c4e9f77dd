"""The sampling thread of a run: it begins once, and what hangs keeps nobody waiting at the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest

from carbonmon.core.model import Failure, GpuClaim, NodeUsage, Reading, ResumePoint, Usage
from carbonmon.core.ports import Roots
from carbonmon.monitor import loop
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.monitor.requests import RequestQueue
from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from tests.chaos.inprocess import GPU, PACKAGE, POWER_W, Source, recorder_of, sampler_of
from tests.support.harness import INFO, FakeClock

PATIENCE_S = 10.0
SHARED = INFO._replace(idle_policy="proportional")


class Hanging(Source):
    """A source whose reads do not return while it is told so."""

    def __init__(self) -> None:
        super().__init__([GPU])
        self.hangs = threading.Event()
        self.free = threading.Event()

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self.hangs.is_set():
            assert self.free.wait(PATIENCE_S)
        return super().read(now_s, edge)


class Node:
    """A workload: each run has half of the CPU time, and holds the GPU. `knows` tells where a run stands."""

    def __init__(self, clock: FakeClock, knows: bool = False) -> None:
        self._read_s = clock.time_s
        self._knows = knows
        self._runs: list[str] = []
        self.reads = 0

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None:
        self._runs.append(run_id)
        if since is not None:
            self._read_s = since.busy_s

    def resume_points(self) -> Mapping[str, ResumePoint]:
        stands = ResumePoint(self._read_s, 2 * self._read_s, 0.5 * self._read_s, (), (), None)
        return dict.fromkeys(self._runs, stands) if self._knows else {}

    def join(self, run_id: str, roots: Roots) -> None:
        pass

    def remove(self, run_id: str) -> None:
        self._runs.remove(run_id)

    def read(self, now_s: float) -> NodeUsage:
        self.reads += 1
        elapsed_s, self._read_s = now_s - self._read_s, now_s
        used = Usage(0.5 * elapsed_s, {GPU.id: GpuClaim(1.0, None, "allocated")}, 1)
        return NodeUsage(elapsed_s, 2 * elapsed_s, dict.fromkeys(self._runs, used))

    def close(self) -> None:
        pass


def monitor_of(folder: Path, source: Source, sampler: Sampler, clock: FakeClock) -> Monitor:
    devices = {device.id: device for device in source.devices()}
    recorder = recorder_of(folder, clock, sampler)
    return Monitor(sampler, recorder, [], devices, None, clock, "a boot", lambda: None)


def shared(clock: FakeClock, source: Source, knows: bool = False) -> tuple[Sampler, Node]:
    """A sampler whose runs share a node."""
    node = Node(clock, knows)
    sampler = sampler_of(source, clock, 1.0, node)
    sampler.tick(edge=True)
    return sampler, node


def watch(clock: FakeClock, sampler: Sampler, seconds: int) -> None:
    for _ in range(seconds):
        clock.time_s += 1.0
        sampler.tick()


def energy_j(sampler: Sampler, run: int = 0) -> dict[str, float]:
    return {
        row.device_id: row.energy_j
        for row in sampler.latest.runs[run].totals
        if row.energy_j and row.method == "counter"
    }


# ---- a driver that hangs ----


def test_a_run_that_began_while_a_driver_hung_does_not_begin_again_when_it_answers(tmp_path: Path):
    clock, source = FakeClock(), Hanging()
    source.hangs.set()
    sampler = sampler_of(source, clock, 0.05)
    monitor = monitor_of(tmp_path, source, sampler, clock)
    plan = RunPlan(INFO, tmp_path)
    monitor.begin(plan)
    with mock.patch.object(loop, "ANSWER_TIMEOUT_S", 0.01):
        assert not monitor.sampling.start()
    monitor.begin_now(plan)
    run = monitor.runs[INFO.id]
    clock.time_s += 30.0
    source.free.set()
    assert monitor.sampling.stop()
    assert monitor.runs[INFO.id] is run
    assert sampler.finish(0, None).runs[0].duration_s == 30.0
    monitor.recorder.close()


def test_a_driver_that_hangs_at_the_end_is_not_asked_whose_processes_use_the_node():
    clock = FakeClock()
    sampler, node = shared(clock, Source([GPU, PACKAGE]))
    sampler.begin(RunAccount(SHARED, [GPU, PACKAGE]))
    watch(clock, sampler, 4)
    clock.time_s += 20.0
    reads = node.reads
    final = sampler.finish(0, None, hangs=True)
    assert node.reads == reads
    assert energy_j(sampler) == {GPU.id: 4 * POWER_W[GPU.id], PACKAGE.id: 2 * POWER_W[PACKAGE.id]}
    assert dict(final.runs[0].unobserved_s) == {GPU.id: 20.0, PACKAGE.id: 20.0}
    assert final.runs[0].ended_at_s is not None


# ---- several runs ----


def test_all_runs_are_in_the_last_snapshot_also_where_none_is_retained():
    class Going(FakeClock):
        """Time that moves on at each look."""

        def now_s(self) -> float:
            self.time_s += 1e-3
            return self.time_s

    clock = Going()
    sampler, _ = shared(clock, Source([GPU]))
    for name in ("one", "two", "three"):
        sampler.begin(RunAccount(SHARED._replace(id=name), [GPU]))
    final = sampler.finish(0, None)
    assert [run.info.id for run in final.runs] == ["one", "two", "three"]
    assert all(run.ended_at_s is not None for run in final.runs)


# ---- a resumed run that shares the node ----


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def gone_on(clock: FakeClock, outage_s: float, knows: bool = False) -> Sampler:
    """A second monitor's sampler, at its first sample after an outage; 10 s were watched before."""
    first, _ = shared(clock, Source([GPU, PACKAGE]), knows)
    first.begin(RunAccount(SHARED, [GPU, PACKAGE]))
    watch(clock, first, 10)
    assert energy_j(first) == {GPU.id: 10 * POWER_W[GPU.id], PACKAGE.id: 5 * POWER_W[PACKAGE.id]}
    clock.time_s += outage_s
    second = sampler_of(Source([GPU, PACKAGE]), clock, 1.0, Node(clock, knows))
    resume_run(second, RunAccount(SHARED, [GPU, PACKAGE]), first.latest, Outage(outage_s, same_boot=True))
    second.tick(edge=True)
    return second


def test_a_resumed_run_held_its_gpus_in_the_outage_and_without_a_note_of_the_cpu_s_its_part_is_lost(
    clock: FakeClock,
):
    sampler = gone_on(clock, 60.0)
    assert energy_j(sampler) == {GPU.id: 70 * POWER_W[GPU.id], PACKAGE.id: 5 * POWER_W[PACKAGE.id]}
    (run,) = sampler.latest.runs
    assert dict(run.unobserved_s) == {GPU.id: 0.0, PACKAGE.id: 60.0}
    assert run.recovered_j == 60 * POWER_W[GPU.id]
    package = next(state for state in sampler.latest.devices if state.device is PACKAGE)
    assert package.unattributed_j == 65 * POWER_W[PACKAGE.id]


def test_after_the_outage_a_resumed_run_is_charged_as_ever(clock: FakeClock):
    sampler = gone_on(clock, 60.0)
    watch(clock, sampler, 10)
    assert energy_j(sampler) == {GPU.id: 80 * POWER_W[GPU.id], PACKAGE.id: 10 * POWER_W[PACKAGE.id]}
    assert dict(sampler.latest.runs[0].unobserved_s) == {GPU.id: 0.0, PACKAGE.id: 60.0}


def test_where_the_cpu_time_was_noted_a_resumed_run_s_part_of_the_outage_is_recovered(clock: FakeClock):
    sampler = gone_on(clock, 60.0, knows=True)
    assert energy_j(sampler) == {GPU.id: 70 * POWER_W[GPU.id], PACKAGE.id: 35 * POWER_W[PACKAGE.id]}
    (run,) = sampler.latest.runs
    assert dict(run.unobserved_s) == {GPU.id: 0.0, PACKAGE.id: 0.0}
    assert run.recovered_j == 60 * POWER_W[GPU.id] + 30 * POWER_W[PACKAGE.id]


# ---- requests ----


def test_a_wake_up_after_its_request_was_carried_out_makes_no_sample():
    clock, source = FakeClock(), Source([GPU])
    sampler = sampler_of(source, clock, 1.0)

    class Early:
        """Waits: the first is cut short by a wake-up, the last by the end."""

        def __init__(self) -> None:
            self._waits_s = [0.3, 0.7, 1.0, 1.0]

        def wait(self, timeout_s: float) -> bool:
            clock.time_s += min(timeout_s, self._waits_s.pop(0))
            return not self._waits_s

    loop.SamplingLoop(sampler, RequestQueue(clock), clock).run_until(Early())
    assert [now_s - 1000.0 for now_s in source.asked_s] == [1.0, 2.0, 3.0]
