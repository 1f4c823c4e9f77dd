"""What no reading of a device covers of a run's time is told as unobserved, and is never simply missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.core.model import Failure, Reading, RunState
from carbonmon.monitor.node import RunPlan
from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from tests.chaos.inprocess import GPU, PACKAGE, POWER_W, Source, sampler_of
from tests.monitor.test_sampling import monitor_of
from tests.support.harness import INFO, FakeClock

DEVICES = [GPU, PACKAGE]


class Faulty(Source):
    """A source of which devices may be `silent`, and which answers `late_s` after it is asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(DEVICES)
        self._clock = clock
        self.late_s = 0.0
        self.silent: set[str] = set()

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self._clock.time_s += self.late_s
        for device in self._devices:
            if device.id not in self.silent:
                yield Reading(device.id, round(POWER_W[device.id] * self._clock.time_s * 1e6))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def source(clock: FakeClock) -> Faulty:
    return Faulty(clock)


def watched(source: Faulty, clock: FakeClock, seconds: int) -> Sampler:
    """A run that was sampled for so long."""
    sampler = sampler_of(source, clock, 1.0)
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, DEVICES))
    for _ in range(seconds):
        clock.time_s += 1.0
        sampler.tick()
    return sampler


def end(sampler: Sampler, clock: FakeClock) -> RunState:
    sampler.runs.stop(INFO.id, clock.now_s(), clock.wall_s())
    sampler.tick(edge=True)
    sampler.end(INFO.id, 0, None)
    return sampler.latest.runs[0]


def check(run: RunState) -> None:
    """Each device's energy is that of the run's time but for what is unobserved."""
    energy_j = {row.device_id: row.energy_j for row in run.totals}
    for device_id, lost_s in run.unobserved_s:
        known_s = run.duration_s - lost_s
        assert energy_j[device_id] == pytest.approx(POWER_W[device_id] * known_s, abs=1e-3)


def test_a_counter_that_is_silent_at_the_end_leaves_the_time_since_its_last_value(
    source: Faulty, clock: FakeClock
):
    sampler = watched(source, clock, 3)
    source.silent.add(GPU.id)
    clock.time_s += 0.75
    run = end(sampler, clock)
    assert dict(run.unobserved_s) == {GPU.id: pytest.approx(0.75), PACKAGE.id: 0.0}
    check(run)


def test_a_few_milliseconds_are_not_told(source: Faulty, clock: FakeClock):
    sampler = watched(source, clock, 3)
    source.silent.add(GPU.id)
    clock.time_s += 0.004
    assert dict(end(sampler, clock).unobserved_s) == {GPU.id: 0.0, PACKAGE.id: 0.0}


def test_a_device_that_was_silent_for_the_whole_run_is_unobserved_for_the_whole_run(
    source: Faulty, clock: FakeClock
):
    source.silent.add(GPU.id)
    sampler = watched(source, clock, 3)
    clock.time_s += 0.5
    run = end(sampler, clock)
    assert dict(run.unobserved_s) == {GPU.id: pytest.approx(run.duration_s), PACKAGE.id: 0.0}
    check(run)


def test_a_run_that_began_before_any_reading_lacks_the_time_until_the_first(source: Faulty, clock: FakeClock):
    """A driver hung at the start, and the job was not kept waiting."""
    sampler = sampler_of(source, clock, 1.0)
    sampler.begin(RunAccount(INFO, DEVICES))
    clock.time_s += 7.0
    sampler.tick()
    clock.time_s += 2.0
    run = end(sampler, clock)
    assert dict(run.unobserved_s) == {GPU.id: pytest.approx(7.0), PACKAGE.id: pytest.approx(7.0)}
    check(run)


def test_a_run_whose_driver_never_answered_knows_nothing_of_its_time(
    source: Faulty, clock: FakeClock, tmp_path: Path
):
    sampler = sampler_of(source, clock, 1.0)
    monitor = monitor_of(tmp_path, source, sampler, clock)
    monitor.begin_now(RunPlan(INFO, tmp_path))
    clock.time_s += 20.0
    monitor.sampling.stop = lambda: False  # type: ignore[method-assign]  # its thread is in the driver's call
    final = monitor.finish(0, None)
    assert final is not None
    assert dict(final.runs[0].unobserved_s) == {GPU.id: 20.0, PACKAGE.id: 20.0}
    assert final.runs[0].duration_s == 20.0


def test_the_end_does_not_wait_for_a_driver_that_hangs_and_the_time_until_it_is_told(
    source: Faulty, clock: FakeClock, tmp_path: Path
):
    sampler = watched(source, clock, 3)
    monitor = monitor_of(tmp_path, source, sampler, clock)
    clock.time_s += 4.0

    def stop() -> bool:
        clock.time_s += 5.0  # so long it is waited for
        return False

    monitor.sampling.stop = stop  # type: ignore[method-assign]
    final = monitor.finish(0, None)
    assert final is not None
    assert final.runs[0].duration_s == 7.0, "the job's time, not that of the wait"
    assert dict(final.runs[0].unobserved_s) == {GPU.id: pytest.approx(4.0), PACKAGE.id: pytest.approx(4.0)}
    check(final.runs[0])


@pytest.mark.parametrize("same_boot", [True, False])
def test_a_resumed_run_lacks_what_no_counter_spans(source: Faulty, clock: FakeClock, same_boot: bool):
    """After another boot its first reading is a new baseline, a slow one here."""
    before = watched(source, clock, 5).latest
    clock.time_s += 10.0
    again = Faulty(clock)
    again.late_s = 0.5
    sampler = sampler_of(again, clock, 1.0)
    resume_run(sampler, RunAccount(INFO, DEVICES), before, Outage(10.0, same_boot))
    sampler.tick(edge=True)
    clock.time_s += 1.0
    run = end(sampler, clock)
    lost_s = 0.0 if same_boot else 10.5
    assert dict(run.unobserved_s) == {GPU.id: pytest.approx(lost_s), PACKAGE.id: pytest.approx(lost_s)}
    assert run.duration_s == pytest.approx(16.5)
    check(run)


def test_a_run_is_resumed_before_its_first_interval_has_passed_its_begin(source: Faulty, clock: FakeClock):
    """The counter's last value is from before the run: of what it spans the run has its own time."""
    sampler = sampler_of(source, clock, 1.0)
    sampler.tick()
    clock.time_s += 0.5
    sampler.begin(RunAccount(INFO, DEVICES))
    before = sampler.latest
    clock.time_s += 10.0
    again = sampler_of(Faulty(clock), clock, 1.0)
    resume_run(again, RunAccount(INFO, DEVICES), before, Outage(10.0, same_boot=True))
    again.tick(edge=True)
    run = end(again, clock)
    assert run.duration_s == pytest.approx(10.0)
    check(run)


def test_an_outage_of_which_no_meter_is_left_is_told_once(source: Faulty, clock: FakeClock):
    """A monitor whose driver hung from the start was killed: it left a run, and no reading."""
    former = sampler_of(source, clock, 1.0)
    former.begin(RunAccount(INFO, DEVICES))
    clock.time_s += 10.0
    sampler = sampler_of(source, clock, 1.0)
    resume_run(sampler, RunAccount(INFO, DEVICES), former.latest, Outage(10.0, same_boot=True))
    sampler.tick(edge=True)
    clock.time_s += 2.0
    run = end(sampler, clock)
    assert run.duration_s == 12.0
    assert dict(run.unobserved_s) == {GPU.id: 10.0, PACKAGE.id: 10.0}
    check(run)


WITH_POWER = GPU._replace(methods=("counter", "power"))


class Flaky(Source):
    """A GPU of 100 W of which the counter may say nothing, or the whole driver."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__([WITH_POWER])
        self._clock = clock
        self.counts = self.answers = True
        self.watts = 100.0
        self.reset_s = 0.0
        self.sampler = sampler_of(self, clock, 1.0)
        self.sampler.tick(edge=True)

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        energy_uj = round(100e6 * (self._clock.time_s - self.reset_s)) if self.counts else None
        yield Reading(GPU.id, energy_uj, self.watts) if self.answers else Failure(GPU.id, "io")

    def watch(self, seconds: int) -> None:
        for _ in range(seconds):
            self._clock.time_s += 1.0
            self.sampler.tick()

    def be_away(self) -> None:
        """The counter says nothing from now on, and for 30 s in between nothing answers."""
        self.counts = False
        self.watch(10)
        self.answers = False
        self.watch(30)
        self.answers = True
        self.watch(20)
        meter = self.sampler.accounts[GPU.id].meter
        assert meter is not None
        assert meter.open_s == pytest.approx(31.0)

    def begin(self, run_id: str = INFO.id) -> None:
        self.sampler.tick(edge=True)
        self.sampler.begin(RunAccount(INFO._replace(id=run_id), [WITH_POWER]))

    def end(self, run_id: str = INFO.id) -> RunState:
        self.sampler.runs.stop(run_id, self._clock.now_s(), self._clock.wall_s())
        self.sampler.tick(edge=True)
        self.sampler.end(run_id, 0, None)
        (run,) = [run for run in self.sampler.latest.runs if run.info.id == run_id]
        return run


def check_gpu(run: RunState, duration_s: float, lost_s: float) -> None:
    """Its energy is that of its time but for what is unobserved, and so is what the machine drew."""
    assert run.duration_s == duration_s
    ((_, found_s),) = run.unobserved_s
    assert found_s == pytest.approx(lost_s)
    assert sum(row.energy_j for row in run.totals) == pytest.approx(100.0 * (duration_s - lost_s))
    (node,) = run.node
    assert node.counter_j + node.power_j == pytest.approx(100.0 * (duration_s - lost_s))


def test_what_a_counter_tells_late_of_before_a_run_is_not_charged_to_it(clock: FakeClock):
    """In a daemon: the counter comes back while a run lives that began when it was away."""
    source = Flaky(clock)
    source.watch(3)
    source.be_away()
    source.begin()
    source.watch(4)
    source.counts = True
    source.watch(6)
    check_gpu(source.end(), 10.0, 0.0)
    (state,) = source.sampler.latest.devices
    assert state.energy_j == pytest.approx(100.0 * 73)
    assert state.unattributed_j == pytest.approx(100.0 * 63)


def test_what_a_counter_tells_late_of_a_run_is_the_run_s(clock: FakeClock):
    source = Flaky(clock)
    source.watch(3)
    source.begin()
    source.watch(2)
    source.be_away()
    source.counts = True
    source.watch(5)
    check_gpu(source.end(), 67.0, 0.0)


def test_what_a_counter_tells_late_of_a_run_is_the_run_s_under_another_monitor_too(clock: FakeClock):
    source = Flaky(clock)
    source.begin()
    source.be_away()
    before = source.sampler.latest
    clock.time_s += 10.0
    again = Flaky(clock)
    again.sampler = sampler_of(again, clock, 1.0)
    resume_run(again.sampler, RunAccount(INFO, [WITH_POWER]), before, Outage(10.0, same_boot=True))
    again.sampler.tick(edge=True)
    again.watch(5)
    run = again.end()
    assert run.duration_s == pytest.approx(75.0)
    assert sum(row.energy_j for row in run.totals) == pytest.approx(7500.0)
    assert dict(run.unobserved_s) == {GPU.id: pytest.approx(0.0)}


def test_what_a_counter_tells_when_a_run_has_ended_is_unobserved_for_it(clock: FakeClock):
    """The run was stopped before the counter came back, and ended behind it."""
    source = Flaky(clock)
    source.begin("first")
    source.be_away()
    source.begin("second")
    source.sampler.runs.stop("first", clock.now_s(), clock.wall_s())
    source.watch(3)
    source.counts = True
    source.watch(2)
    check_gpu(source.end("first"), 60.0, 31.0)
    check_gpu(source.end("second"), 5.0, 0.0)


def test_what_a_counter_that_was_reset_tells_no_more_is_unobserved_for_those_who_lived_then(clock: FakeClock):
    source = Flaky(clock)
    source.begin("first")
    source.be_away()
    source.begin("second")
    source.watch(1)
    source.counts, source.reset_s = True, clock.time_s
    source.watch(5)
    check_gpu(source.end("first"), 66.0, 31.0)
    check_gpu(source.end("second"), 6.0, 0.0)


@pytest.mark.parametrize("begins", ["when it is back", "while it is away"])
def test_a_run_does_not_pay_for_what_was_credited_too_much_to_one_before(clock: FakeClock, begins: str):
    """While the counter is away the power sensor says 300 W, thrice what is drawn."""
    source = Flaky(clock)
    source.watts = 300.0
    source.begin("first")
    source.counts = False
    source.watch(60)
    source.end("first")
    source.watts = 100.0
    if begins == "while it is away":
        source.begin("second")
    source.counts = True
    source.watch(1)
    if begins == "when it is back":
        source.begin("second")
    source.watch(30)
    run = source.end("second")
    (row,) = [row for row in run.totals if row.energy_j]
    assert row.method == "counter"
    assert row.energy_j == pytest.approx(3000.0)  # but for the second in which a counter came back
    assert dict(run.unobserved_s) == {GPU.id: 0.0}
    (state,) = source.sampler.latest.devices
    charged_j = sum(row.energy_j for run in source.sampler.latest.runs for row in run.totals)
    assert charged_j + state.unattributed_j == pytest.approx(state.energy_j)


def test_who_had_too_much_pays_for_it_also_where_another_run_has_begun(clock: FakeClock):
    source = Flaky(clock)
    source.watts = 300.0
    source.begin("first")
    source.counts = False
    source.watch(20)
    source.watts, source.counts = 100.0, True
    source.watch(5)
    source.begin("second")
    source.watch(60)
    source.end("second")
    assert sum(row.energy_j for row in source.end("first").totals) == pytest.approx(8500.0)


@pytest.mark.parametrize("ends_by", ["end", "finish"])
def test_seconds_of_before_a_run_are_not_the_run_s_though_their_counter_is_still_waited_for(
    clock: FakeClock, ends_by: str
):
    source = Flaky(clock)
    source.watch(3)
    source.be_away()
    source.begin()
    source.watch(10)
    run = source.end() if ends_by == "end" else source.sampler.finish(0, None).runs[0]
    check_gpu(run, 10.0, 3.0 if ends_by == "end" else 0.0)  # no reading has settled the last 3 s
