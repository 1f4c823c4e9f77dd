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


@pytest.mark.parametrize("ends_by", ["end", "finish"])
def test_seconds_of_before_a_run_are_not_the_run_s_though_their_counter_is_still_waited_for(
    clock: FakeClock, ends_by: str
):
    class Flaky(Source):
        counts, answers = True, True

        def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
            energy_uj = round(100e6 * clock.time_s) if self.counts else None
            yield Reading(GPU.id, energy_uj, 100.0) if self.answers else Failure(GPU.id, "io")

    device = GPU._replace(methods=("counter", "power"))
    source = Flaky([device])
    sampler = sampler_of(source, clock, 1.0)
    sampler.tick(edge=True)

    def watch(seconds: int) -> None:
        for _ in range(seconds):
            clock.time_s += 1.0
            sampler.tick()

    watch(3)
    source.counts = False
    watch(10)
    source.answers = False
    watch(30)
    source.answers = True
    watch(20)
    assert sampler.accounts[GPU.id].meter is not None
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, [device]))
    watch(10)
    run = end(sampler, clock) if ends_by == "end" else sampler.finish(0, None).runs[0]
    assert run.duration_s == 10.0
    ((_, lost_s),) = run.unobserved_s
    if ends_by == "end":
        assert lost_s * 100.0 == pytest.approx(1000.0 - sum(row.energy_j for row in run.totals))
    else:  # the 30 s may have been anywhere before, but not before the run
        assert lost_s <= run.duration_s
