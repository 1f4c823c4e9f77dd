"""A driver that hangs in the sampling thread: another thread goes on in its place, and nothing is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Failure, Reading
from carbonmon.hardware.kernel_timer import KernelTimer
from carbonmon.hardware.own_thread import OwnThread
from carbonmon.monitor import loop
from carbonmon.monitor.clock import SystemClock
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.loop import SamplingLoop
from carbonmon.monitor.relief import Relief
from carbonmon.monitor.requests import RequestQueue
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.monitor.threaded_sensor import ThreadedSensor
from tests.chaos.inprocess import GPU, PACKAGE, POWER_W, Source
from tests.support.harness import INFO, FixedIntensity, make_sampler

PATIENCE_S = 20.0
WAIT_S = 0.2
INTERVAL_S = 0.05


class Driver(Source):
    """A source whose reads wait while `hangs` is set; `stuck` says that one waits, `threads` who read."""

    def __init__(self, name: str = "driver", devices: tuple[object, ...] = (GPU,)) -> None:
        super().__init__(list(devices))  # type: ignore[arg-type]
        self.name = name
        self.hangs, self.free, self.stuck = threading.Event(), threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []
        self.closed_in: list[threading.Thread] = []

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self.threads.append(threading.current_thread())
        if self.hangs.is_set():
            self.stuck.set()
            assert self.free.wait(PATIENCE_S)
        return super().read(now_s, edge)

    def close(self) -> None:
        self.closed_in.append(threading.current_thread())

    def let_go(self) -> None:
        self.hangs.clear()
        self.free.set()


class Sampling:
    """A loop in real time over a driver that may hang and a package that does not."""

    def __init__(self, *drivers: Driver, package: Source | None = None) -> None:
        self.sensors = [ThreadedSensor(driver, wait_s=WAIT_S) for driver in drivers]
        self.devices = {device.id: device for device in (GPU, PACKAGE)}
        clock = SystemClock()
        guarded = [*self.sensors, GuardedSensor(package or Source([PACKAGE]))]
        self.sampler: Sampler = make_sampler(
            guarded, self.devices, [], FixedIntensity(), clock, INTERVAL_S, Overheads()
        )
        self.requests = RequestQueue(clock)
        self.loop = SamplingLoop(self.sampler, self.requests, clock)
        self.run = RunAccount(INFO, self.devices.values())

    def start(self) -> None:
        assert self.loop.start()
        self.asked(lambda: self.sampler.begin(self.run), "edge")

    def asked(self, what: Callable[[], object], sample: str = "") -> None:
        """Have something done in the sampling thread, and wait for it."""
        done = threading.Event()
        self.requests.post(lambda: (what(), done.set()), sample)  # type: ignore[arg-type, func-returns-value]
        assert done.wait(PATIENCE_S)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s
            self.asked(self.sampler.show)


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Relief", partial(Relief, wait_s=WAIT_S))


def counted_j(sampling: Sampling, device_id: str) -> float:
    (state,) = [each for each in sampling.sampler.latest.devices if each.device.id == device_id]
    return state.counter_j


def test_a_driver_is_read_in_the_sampling_thread_and_nobody_else_wakes_up():
    driver = Driver()
    sampling = Sampling(driver)
    sampling.start()
    sampling.until(lambda: len(driver.threads) > 5)
    (relief,) = [thread for thread in threading.enumerate() if thread.name == "carbonmon-relief"]
    assert {thread.name for thread in driver.threads} == {"carbonmon-sampler"}
    assert sampling.loop.stop()
    assert not relief.is_alive()
    sampling.sensors[0].close()
    assert driver.closed_in[0] is not threading.current_thread(), "closing a driver may hang as well"


def test_a_driver_that_hangs_costs_its_own_sensor_only_and_its_counter_gives_the_time_back(
    caplog: pytest.LogCaptureFixture,
):
    driver = Driver()
    sampling = Sampling(driver)
    with caplog.at_level(logging.WARNING):
        sampling.start()
        driver.hangs.set()
        assert driver.stuck.wait(PATIENCE_S)
        sampling.until(lambda: not sampling.sampler.latest.sensors[0].up)
        before_j, gpu_j = counted_j(sampling, PACKAGE.id), counted_j(sampling, GPU.id)
        samples = sampling.sampler.latest.samples
        sampling.until(lambda: sampling.sampler.latest.samples > samples + 5)
        assert counted_j(sampling, PACKAGE.id) > before_j
        assert counted_j(sampling, GPU.id) == gpu_j
        driver.let_go()
        sampling.until(lambda: sampling.sampler.latest.sensors[0].up)
        sampling.until(lambda: counted_j(sampling, GPU.id) > gpu_j)
        assert sampling.loop.stop()
    sampling.sampler.finish(0, None)
    gpu, package = sampling.sampler.latest.devices
    seconds = package.counter_j / POWER_W[PACKAGE.id]
    assert gpu.counter_j == pytest.approx(seconds * POWER_W[GPU.id], rel=0.05), "nothing is lost"
    assert gpu.unobserved_s == 0.0
    assert [record.message for record in caplog.records] == [
        f"sensor driver did not answer within {WAIT_S:g} s: its driver may hang; the others are read on",
        "sensor driver answers again",
    ]
    sampled_by = {thread.name for thread in driver.threads}
    assert sampled_by == {"carbonmon-sampler", "carbonmon-relief"}
    assert all(not thread.is_alive() for thread in driver.threads), "who was relieved has ended"


def test_what_was_asked_for_beside_a_sample_that_hangs_is_done_once():
    driver = Driver()
    sampling = Sampling(driver)
    sampling.start()
    done: list[str] = []
    driver.hangs.set()
    ready = threading.Event()
    for sample in ("after", "before", "edge", ""):
        sampling.requests.post(lambda sample=sample: done.append(sample), sample)  # type: ignore[arg-type, misc]
    sampling.requests.post(ready.set)
    assert driver.stuck.wait(PATIENCE_S)
    assert ready.wait(PATIENCE_S)
    driver.let_go()
    sampling.until(lambda: sampling.sampler.latest.sensors[0].up)
    assert sampling.loop.stop()
    assert sorted(done) == ["", "after", "before", "edge"]


def test_a_driver_that_hangs_from_the_first_sample_on_does_not_keep_the_job_from_starting():
    driver = Driver()
    sampling = Sampling(driver)
    driver.hangs.set()
    sampling.start()
    sampling.until(lambda: counted_j(sampling, PACKAGE.id) > 0.0)
    assert not sampling.sampler.latest.sensors[0].up
    assert sampling.loop.stop(), "the last sample was taken without it"
    sampling.sensors[0].close()
    assert not driver.closed_in, "closing a driver that hangs hangs too"
    driver.let_go()


class Shaped(Source):
    """A package whose driver can say when energy was drawn; `asked` is whether each read was to say it."""

    def __init__(self) -> None:
        super().__init__([PACKAGE])
        self.shape_wanted = False
        self.asked: list[bool] = []

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self.asked.append(self.shape_wanted)
        return super().read(now_s, edge)


def test_a_window_that_is_asked_for_while_a_driver_hangs_has_the_shape_of_what_the_others_say():
    driver, package = Driver(), Shaped()
    sampling = Sampling(driver, package=package)
    sampling.start()
    driver.hangs.set()
    sampling.sampler.wants_shape = True
    sampling.asked(lambda: None, "before")
    assert driver.stuck.is_set(), "the sample beside the request is the one that hangs"
    assert any(package.asked)
    driver.let_go()
    assert sampling.loop.stop()


def test_two_drivers_that_hang_one_after_the_other_are_both_left():
    first, second = Driver("first"), Driver("second", ())
    sampling = Sampling(first, second)
    sampling.start()
    first.hangs.set()
    assert first.stuck.wait(PATIENCE_S)
    sampling.until(lambda: not sampling.sampler.latest.sensors[0].up)
    assert sampling.sampler.latest.sensors[1].up
    second.hangs.set()
    assert second.stuck.wait(PATIENCE_S)
    sampling.until(lambda: not sampling.sampler.latest.sensors[1].up)
    before_j = counted_j(sampling, PACKAGE.id)
    sampling.until(lambda: counted_j(sampling, PACKAGE.id) > before_j)
    for driver in (first, second):
        driver.let_go()
    sampling.until(lambda: all(state.up for state in sampling.sampler.latest.sensors))
    assert sampling.loop.stop()


def test_without_a_timer_of_the_kernel_a_driver_has_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch):
    def refuse(timer: KernelTimer) -> None:
        raise OSError("none here")

    monkeypatch.setattr(KernelTimer, "__init__", refuse)
    driver = Driver()
    sampling = Sampling(driver)
    sampling.start()
    driver.hangs.set()
    assert driver.stuck.wait(PATIENCE_S)
    sampling.until(lambda: not sampling.sampler.latest.sensors[0].up)
    assert {thread.name for thread in driver.threads} == {"carbonmon-driver"}
    driver.let_go()
    assert sampling.loop.stop()


def test_where_no_thread_may_begin_nobody_stands_by(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OwnThread, "are_allowed", False)
    driver = Driver()
    sampling = Sampling(driver)
    sampling.start()
    assert sampling.loop.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "carbonmon-relief"]


def test_a_timer_that_is_begun_anew_in_time_wakes_nobody_and_one_that_runs_out_wakes_once():
    timer = KernelTimer()
    timer.set_time(30.0)
    timer.start()
    timer.set_time(0.02)
    begun_s = time.monotonic()
    timer.start()
    timer.wait()
    assert 0.02 <= time.monotonic() - begun_s < 30.0
    timer.close()
