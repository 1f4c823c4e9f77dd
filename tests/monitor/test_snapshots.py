"""Who makes a snapshot when, and who is woken by it: the thread that writes wakes once for a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from carbonmon.core.model import Snapshot
from carbonmon.monitor import recorder as recorder_module
from carbonmon.monitor.clock import Alarm, SystemClock
from carbonmon.monitor.guard import Guard
from carbonmon.monitor.recorder import Recorder
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.monitor.snapshots import PUBLISH_PERIOD_S, Snapshots
from carbonmon.runs.checkpoint_slots import newest
from carbonmon.runs.writer import RunFiles
from tests.chaos.inprocess import GPU, Source, checkpointed_samples, recorder_of, sampler_of
from tests.fuzz.folders import a_snapshot
from tests.support.command import wait_for
from tests.support.harness import INFO, FakeClock


def of(clock: FakeClock) -> Snapshot:
    return a_snapshot()._replace(clock_s=clock.time_s)


def test_a_snapshot_is_due_when_it_is_wanted_and_after_a_while_in_any_case():
    clock = FakeClock()
    snapshots = Snapshots(clock, of(clock))
    assert not snapshots.is_due()
    snapshots.want(clock.time_s + 2.0, lambda: None)
    clock.time_s += 1.9
    assert not snapshots.is_due()
    clock.time_s += 0.1
    assert snapshots.is_due()
    snapshots.want(math.inf)
    assert not snapshots.is_due()
    clock.time_s += PUBLISH_PERIOD_S
    assert snapshots.is_due()
    snapshots.publish(of(clock))
    assert not snapshots.is_due()


def test_who_wants_a_snapshot_is_woken_by_the_first_that_is_new_enough_when_it_is_there():
    clock = FakeClock()
    snapshots = Snapshots(clock, of(clock))
    woken: list[float] = []
    snapshots.want(clock.time_s + 2.0, lambda: woken.append(snapshots.latest.clock_s))
    for _ in range(2):  # the second is that of a run that begins, between two ticks
        snapshots.publish(of(clock))
        clock.time_s += 1.0
    assert woken == []
    snapshots.publish(of(clock))
    assert woken == [clock.time_s]
    snapshots.want(math.inf)
    clock.time_s += 9.0
    snapshots.publish(of(clock))
    assert len(woken) == 1


class Waits:
    """How often a recorder's thread has gone to sleep; there may be threads of other tests."""

    def __init__(self, recorder: Recorder) -> None:
        self._own = recorder._stop
        self.count = 0

    def __enter__(self) -> Waits:
        wait = Alarm.wait

        def counted(alarm: Alarm, timeout_s: float) -> bool:
            self.count += alarm is self._own
            return wait(alarm, timeout_s)

        self._patch = mock.patch.object(Alarm, "wait", counted)
        self._patch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._patch.stop()


@pytest.fixture
def sampler() -> Sampler:
    sampler = sampler_of(Source([GPU]), FakeClock(), 1.0)
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, [GPU]))
    return sampler


@pytest.fixture
def recorder(tmp_path: Path, sampler: Sampler) -> Iterator[Recorder]:
    recorder = recorder_of(tmp_path, sampler.clock, sampler)
    yield recorder
    recorder.abandon()
    recorder.close()


def test_the_thread_that_writes_wakes_once_for_each_checkpoint(
    tmp_path: Path, sampler: Sampler, recorder: Recorder
):
    clock = sampler.clock
    assert isinstance(clock, FakeClock)
    with Waits(recorder) as waits:
        recorder.start()
        wait_for(lambda: waits.count == 1, "its sleep after the first checkpoint")
        for round_number in range(2, 6):
            for _ in range(4):
                clock.time_s += 1.0
                assert not sampler.snapshots.is_due()
                sampler.sample()
            clock.time_s += 1.0
            assert sampler.snapshots.is_due()
            sampler.tick()
            wait_for(lambda number=round_number: waits.count == number, "its sleep")  # type: ignore[misc]
            assert checkpointed_samples(tmp_path) == sampler.latest.samples
        assert newest(tmp_path).values["sequence"] == 5


def test_a_snapshot_of_a_run_that_begins_is_no_checkpoint_of_all_before_one_is_due(
    sampler: Sampler, recorder: Recorder
):
    with Waits(recorder) as waits, mock.patch.object(recorder, "write", wraps=recorder.write) as write:
        recorder.start()
        wait_for(lambda: waits.count == 1, "its sleep after the first checkpoint")
        sampler.show()
        recorder.hurry()
        wait_for(lambda: waits.count == 2, "its sleep after the hurry")
        assert [call.args[1] for call in write.call_args_list] == [True, False]
        sampler.clock.time_s += 5.0  # type: ignore[attr-defined]
        sampler.tick()
        wait_for(lambda: waits.count == 3, "its sleep after the next checkpoint")
        assert [call.args[1] for call in write.call_args_list] == [True, False, True]


def test_where_no_tick_comes_the_newest_snapshot_is_written_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A driver hangs: what waits for a disk that failed is written all the same."""
    monkeypatch.setattr(recorder_module, "FRESH_TIMEOUT_S", 0.05)
    clock = SystemClock()
    shown = a_snapshot()._replace(clock_s=clock.now_s())
    recorder = Recorder(clock, [], Snapshots(clock, shown), Guard("journal"), period_s=0.05)
    recorder.add(shown.runs[0].info.id, RunFiles(tmp_path, "a boot"))
    recorder.start()
    try:
        wait_for(lambda: newest(tmp_path).values["sequence"] > 3, "three more checkpoints")
    finally:
        recorder.close()
