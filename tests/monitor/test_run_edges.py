"""The energy of a run is that of its stated time, however late its first and its last reading are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carbonmon.core.config import Config
from carbonmon.core.model import Device, Failure, Reading, RunState
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.monitor.run_account import RunAccount
from carbonmon.service.registry import Registry
from carbonmon.service.socket.operations import Operations
from tests.chaos.inprocess import GPU, PACKAGE, POWER_W, Source, recorder_of, sampler_of
from tests.support.harness import INFO, FakeClock

JOB_S = 2.6
DEVICES = (GPU, PACKAGE)


class Late(Source):
    """A source whose reads take their time: `before_s` until each device says its value, and `after_s` before
    the last answer is heard of by anybody but the one who reads."""

    def __init__(self, clock: FakeClock, devices: Sequence[Device] = DEVICES) -> None:
        super().__init__(devices)
        self._clock = clock
        self.before_s = self.after_s = 0.0
        self.on_read: Callable[[Device], object] | None = None

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        for device in self._devices:
            self._clock.time_s += self.before_s
            if self.on_read is not None:
                self.on_read(device)
            yield Reading(device.id, round(POWER_W[device.id] * self._clock.time_s * 1e6))
        self._clock.time_s += self.after_s


class Events:
    """What the loop waits by: time passes until the next event. After the last one the loop ends."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._events: list[tuple[float, Callable[[], object]]] = []

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        self._events.append((self._clock.time_s + seconds, event))
        self._events.sort(key=itemgetter(0))

    def wait(self, timeout_s: float) -> bool:
        end_s = self._clock.time_s + max(0.0, timeout_s)
        if self._events and self._events[0][0] <= end_s:
            at_s, event = self._events.pop(0)
            self._clock.time_s = max(at_s, self._clock.time_s)
            event()
        else:
            self._clock.time_s = end_s
        return not self._events


class Node:
    """A monitor on a machine that is slow to answer, in this thread."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.source = Late(self.clock)
        self.sampler = sampler_of(self.source, self.clock, 1.0)
        devices = {device.id: device for device in DEVICES}
        recorder = recorder_of(folder, self.clock, self.sampler)
        follows_none = SimpleNamespace(allocation=lambda gpus, environ: None, join=lambda run_id, roots: None)
        self.monitor = Monitor(
            *(self.sampler, recorder, [], devices, follows_none, self.clock, "a boot"),  # type: ignore[arg-type]
            lambda: None,
        )
        self.folder = folder
        self.events = Events(self.clock)
        self.final: list[RunState] = []

    def loop(self) -> None:
        self.monitor.sampling.run_until(self.events)

    def is_late(self, lateness: Lateness) -> None:
        self.source.before_s, self.source.after_s = lateness

    def keep(self) -> None:
        """The runs as they are when their last sample has been taken."""
        self.final = list(self.sampler.latest.runs)


Lateness = tuple[float, float]
ON_TIME: Lateness = (0.0, 0.0)
Message = dict[str, Any]
Way = Callable[[Node, Lateness, Lateness], None]


def by_command(node: Node, begin: Lateness, end: Lateness) -> None:
    """As `carbonmon run` does: the baseline, the job, and the end of all sampling."""
    monitor, events = node.monitor, node.events
    node.is_late(begin)
    monitor.begin(RunPlan(INFO, node.folder))
    monitor.sampling.start_without_thread()
    node.is_late(ON_TIME)

    def stop() -> bool:
        """The thread that samples is woken, which is this one."""
        node.is_late(end)
        events.after(0.0, lambda: None)
        node.loop()
        return True

    monitor.sampling.stop = stop  # type: ignore[method-assign]
    for _ in range(int(JOB_S)):
        node.clock.time_s += 1.0
        node.sampler.tick()
    node.clock.time_s += JOB_S % 1.0
    monitor.finish(0, None)
    node.keep()


class Client:
    """A connection of a process."""

    uid = pid = 0
    state = None


def by_socket(node: Node, begin: Lateness, end: Lateness, first: Message, last: Message) -> None:
    """As a daemon does what clients ask for, with one message to begin and one to end."""
    config = Config(output=node.folder / "runs", idle="exclusive")
    operations = Operations(Registry(node.monitor, config, 0, creates=True))
    peer: Any = Client()

    def ask(message: Message, lateness: Lateness, answered: Callable[[Message], object]) -> None:
        node.is_late(lateness)
        operations.handle(peer, message, answered)

    def job(answer: Message) -> None:
        node.is_late(ON_TIME)
        node.events.after(JOB_S, lambda: ask(last, end, lambda summary: None))
        node.events.after(JOB_S, node.keep)

    node.sampler.tick(edge=True)
    node.events.after(0.3, lambda: ask(first, begin, job))
    node.events.after(9.0, lambda: None)
    node.loop()


def by_track(node: Node, begin: Lateness, end: Lateness) -> None:
    by_socket(node, begin, end, {"op": "join", "run_id": "job"}, {"op": "leave"})


def by_registration(node: Node, begin: Lateness, end: Lateness) -> None:
    by_socket(node, begin, end, {"op": "register", "run_id": "job"}, {"op": "unregister", "run_id": "job"})


def truth_j(run: RunState) -> Mapping[str, float]:
    """What each device drew between the moments that are stated."""
    assert run.ended_at_s is not None
    return {device.id: POWER_W[device.id] * (run.ended_at_s - run.info.started_at_s) for device in DEVICES}


@pytest.mark.parametrize("way", [by_command, by_track, by_registration])
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ((0.0, 0.0), (0.0, 0.0)),
        ((0.0, 0.4), (0.0, 0.0)),
        ((0.3, 0.0), (0.0, 0.0)),
        ((0.0, 0.0), (0.0, 0.4)),
        ((0.0, 0.0), (0.3, 0.0)),
        ((0.3, 0.4), (0.2, 0.9)),
    ],
)
def test_a_run_has_the_energy_of_its_stated_time(tmp_path: Path, way: Way, begin: Lateness, end: Lateness):
    node = Node(tmp_path)
    way(node, begin, end)
    (run,) = node.final
    assert run.ended_at_s is not None
    stated_s = run.ended_at_s - run.info.started_at_s
    assert stated_s == pytest.approx(run.duration_s, abs=1e-6)
    assert stated_s == pytest.approx(JOB_S, abs=1e-6), "the driver's time is not the job's"
    energy_j = {row.device_id: row.energy_j for row in run.totals if row.energy_j}
    assert energy_j == pytest.approx(truth_j(run), abs=1e-3)
    assert {row.device_id: row.counter_j for row in run.node} == pytest.approx(truth_j(run), abs=1e-3)
    assert dict(run.unobserved_s) == {GPU.id: 0.0, PACKAGE.id: 0.0}
    assert dict(run.phases_s) == {"main": pytest.approx(run.duration_s)}
    for state in node.sampler.latest.devices:
        assert state.unattributed_j == pytest.approx(state.energy_j - energy_j[state.device.id], abs=1e-6)


def test_a_run_that_ends_while_a_slow_driver_is_read_has_none_of_what_was_drawn_then(tmp_path: Path):
    """A tick is on its way, and the end is told when the first device is read and the second one not."""
    node = Node(tmp_path)
    node.monitor.begin(RunPlan(INFO, tmp_path))
    node.monitor.sampling.start_without_thread()

    def end() -> None:
        node.source.on_read = None
        node.monitor.end(INFO.id, 0, None, lambda: None)

    def begin_slow_tick() -> None:
        node.is_late((0.5, 0.25))
        node.source.on_read = lambda device: end() if device is GPU else None

    node.events.after(JOB_S, begin_slow_tick)
    node.events.after(JOB_S + 5.0, node.keep)
    node.loop()
    (run,) = node.final
    assert run.duration_s == pytest.approx(3.5), "the tick of 1003 s reads the first device at 1003.5 s"
    assert {row.device_id: row.energy_j for row in run.totals} == pytest.approx(truth_j(run), abs=1e-3)


def test_what_was_charged_before_the_end_was_told_is_not_taken_back(tmp_path: Path):
    node = Node(tmp_path)
    node.sampler.tick(edge=True)
    node.sampler.begin(RunAccount(INFO, DEVICES))
    node.clock.time_s += 2.0
    node.sampler.tick()
    node.sampler.runs.stop(INFO.id, 1001.5, 1001.5 + node.clock.wall_offset_s)
    node.sampler.end(INFO.id, 0, None)
    (run,) = node.sampler.latest.runs
    assert (run.duration_s, run.ended_at_s) == (2.0, 1002.0 + node.clock.wall_offset_s)
    assert {row.device_id: row.energy_j for row in run.totals} == pytest.approx(truth_j(run), abs=1e-3)


def test_a_phase_that_is_told_behind_the_end_adds_no_time_to_the_run(tmp_path: Path):
    node = Node(tmp_path)
    node.sampler.tick(edge=True)
    node.sampler.begin(RunAccount(INFO, DEVICES))
    node.clock.time_s += 2.0
    node.sampler.runs.stop(INFO.id, 1001.5, 0.0)
    node.monitor.change_phase(INFO.id, ["late"], 1001.8)
    node.monitor.requests.carry_out(lambda edge: node.sampler.tick(edge=edge))
    node.sampler.end(INFO.id, 0, None)
    (run,) = node.sampler.latest.runs
    assert dict(run.phases_s) == {"main": pytest.approx(1.5), "late": pytest.approx(0.0)}
    assert {row.phase for row in run.totals if row.energy_j} == {"main"}
