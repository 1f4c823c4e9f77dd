"""Checkpoints over time: when they come, what is shown meanwhile, and devices that are gone at the next."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.core.model import Device, Snapshot
from carbonmon.monitor.recorder import STALE_S, Recorder
from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs.holder import MONITOR_FILE
from carbonmon.runs.layout import CHECKPOINT_FILE, RUN_FILE, SERIES_FILE
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.series import read_series
from tests.chaos.disks import CHECKPOINT_S, INTERVAL_S, Running
from tests.chaos.inprocess import (
    GPU,
    POWER_ONLY,
    POWER_W,
    Source,
    checkpointed_samples,
    lost_s,
    recorder_of,
    run_j,
    sampler_of,
    state_of,
)
from tests.support import command
from tests.support.harness import INFO, FakeClock
from tests.support.series import sums, totals_of

BOTH = [GPU, POWER_ONLY]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sampler(clock: FakeClock) -> Sampler:
    sampler = sampler_of(Source(BOTH), clock, 1.0)
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, BOTH))
    return sampler


@pytest.fixture
def recorder(tmp_path: Path, clock: FakeClock, sampler: Sampler) -> Iterator[Recorder]:
    recorder = recorder_of(tmp_path, clock, sampler)
    yield recorder
    recorder.close()


def watch(clock: FakeClock, sampler: Sampler, seconds: int) -> None:
    for _ in range(seconds):
        clock.time_s += 1.0
        sampler.tick()


def resumed(clock: FakeClock, devices: list[Device], folder: Path, same_boot: bool = True) -> Sampler:
    """A second monitor's sampler after its first sample."""
    before: Snapshot = read_checkpoint(folder).snapshot
    sampler = sampler_of(Source(devices), clock, 1.0)
    outage = Outage(clock.time_s - before.clock_s, same_boot)
    resume_run(sampler, RunAccount(INFO, devices), before, outage)
    sampler.tick(edge=True)
    return sampler


# ---- when, and what is shown ----


def test_a_checkpoint_holds_the_tick_that_is_one_period_after_the_checkpoint_before():
    with Running() as run:
        written = [0]

        def enough() -> bool:
            samples = checkpointed_samples(run.folder)
            if samples > written[-1]:
                written.append(samples)
            return len(written) > 8

        command.wait_for(enough, "checkpoints")
    ticks = [after - before for before, after in itertools.pairwise(written[1:])]
    # A busy machine may be late with a tick or a write, and a look at the file may miss one.
    assert round(CHECKPOINT_S / INTERVAL_S) in ticks


def test_a_resumed_run_shows_its_last_checkpoint_until_the_next_one_is_safe(
    tmp_path: Path, clock: FakeClock, sampler: Sampler, recorder: Recorder
):
    watch(clock, sampler, 5)
    recorder.write(sampler.latest)
    recorder.close()
    before = read_checkpoint(tmp_path).snapshot
    clock.time_s += 3.0
    second = sampler_of(Source(BOTH), clock, 1.0)  # it has not even resumed: all its totals are 0
    again = recorder_of(tmp_path, clock, second, before=before)
    assert again.shown() is before
    resume_run(second, RunAccount(INFO, BOTH), before, Outage(3.0, same_boot=True))
    watch(clock, second, 2)
    assert again.shown() is before
    again.write(second.latest)
    assert again.shown() is second.latest
    again.close()


def test_where_the_disk_fails_for_long_the_newest_totals_are_shown_and_never_fall(
    clock: FakeClock, sampler: Sampler, recorder: Recorder
):
    watch(clock, sampler, 5)
    recorder.write(sampler.latest)
    safe = sampler.latest
    watch(clock, sampler, int(STALE_S) - 1)
    assert recorder.shown() is safe
    watch(clock, sampler, 2)
    shown = recorder.shown()
    assert shown is sampler.latest
    recorder.write(safe)
    assert recorder.shown() is shown


# ---- what is written ----


def test_time_in_the_series_never_runs_backwards_also_across_monitors(
    tmp_path: Path, clock: FakeClock, sampler: Sampler, recorder: Recorder
):
    """Nobody told this recorder of parts: each checkpoint makes rows of what the totals hold."""
    watch(clock, sampler, 60)
    recorder.write(sampler.latest)
    first_s = sampler.latest.at_s
    clock.wall_offset_s -= 7200.0
    watch(clock, sampler, 60)
    recorder.write(sampler.latest)
    recorder.close()
    again = recorder_of(tmp_path, clock, sampler)
    watch(clock, sampler, 60)
    again.write(sampler.latest)
    again.close()
    rows, _ = read_series(tmp_path)
    assert {row.at_s for row in rows} == {round(first_s, 3)}
    assert [row.duration_s for row in rows if row.device == GPU.id] == [60.0, 0.0, 0.0]
    assert sums(rows) == pytest.approx(totals_of(sampler.latest.runs[0].totals), abs=0.01)
    assert read_checkpoint(tmp_path).snapshot.at_s == sampler.latest.at_s < first_s


@pytest.mark.parametrize(
    "last", [b'{"at_s":NaN}\n', b'{"at_s":1e999}\n', b"[]\n", b'{"at_s":[]}\n', b"\xff\n"]
)
def test_a_damaged_end_of_the_series_does_not_stop_it(
    tmp_path: Path, clock: FakeClock, sampler: Sampler, last: bytes
):
    (tmp_path / SERIES_FILE).write_bytes(last + b"\n")
    recorder = recorder_of(tmp_path, clock, sampler)
    watch(clock, sampler, 5)
    recorder.write(sampler.latest)
    recorder.close()
    rows, _ = read_series(tmp_path)
    assert rows[-1].at_s == pytest.approx(sampler.latest.at_s, abs=0.001)
    assert sums(rows) == pytest.approx(totals_of(sampler.latest.runs[0].totals), abs=0.01)


def test_what_a_killed_monitor_left_half_written_is_removed_by_the_next(
    tmp_path: Path, sampler: Sampler, recorder: Recorder
):
    (tmp_path / f".{CHECKPOINT_FILE}.4242.tmp").write_text("{")
    recorder.write(sampler.latest)
    there = {path.name for path in tmp_path.iterdir()} - {MONITOR_FILE}
    assert there == {RUN_FILE, CHECKPOINT_FILE, SERIES_FILE}


# ---- devices that are gone ----


def test_a_device_that_is_gone_after_an_outage_is_silent_and_its_counter_bridges_when_it_is_back(
    tmp_path: Path, clock: FakeClock, sampler: Sampler, recorder: Recorder
):
    watch(clock, sampler, 10)
    recorder.write(sampler.latest)
    recorder.close()
    second = resumed(clock, [POWER_ONLY], tmp_path)
    watch(clock, second, 20)
    again = recorder_of(tmp_path, clock, second)
    again.write(second.latest)
    again.close()
    assert state_of(second.latest, GPU).energy_j == 10 * POWER_W[GPU.id]
    third = resumed(clock, BOTH, tmp_path)
    watch(clock, third, 10)
    final = third.finish(0, None)
    assert run_j(final) == pytest.approx(40 * (POWER_W[GPU.id] + POWER_W[POWER_ONLY.id]))
    assert lost_s(final, GPU) == 0.0
    assert final.runs[0].recovered_j >= 20 * POWER_W[GPU.id], "what nobody watched is called recovered"


def test_a_device_that_stays_gone_is_unobserved_from_its_last_reading_on(
    tmp_path: Path, clock: FakeClock, sampler: Sampler, recorder: Recorder
):
    watch(clock, sampler, 10)
    recorder.write(sampler.latest)
    recorder.close()
    clock.time_s += 5.0
    second = resumed(clock, [POWER_ONLY], tmp_path)
    watch(clock, second, 20)
    final = second.finish(0, None)
    assert lost_s(final, GPU) == 25.0
    assert state_of(final, GPU).energy_j == 10 * POWER_W[GPU.id]


def test_after_another_boot_a_device_that_is_gone_is_unobserved_for_the_outage_alone(
    tmp_path: Path, clock: FakeClock, sampler: Sampler, recorder: Recorder
):
    watch(clock, sampler, 10)
    recorder.write(sampler.latest)
    recorder.close()
    clock.time_s += 5.0
    second = resumed(clock, [POWER_ONLY], tmp_path, same_boot=False)
    watch(clock, second, 20)
    assert lost_s(second.finish(0, None), GPU) == 5.0
