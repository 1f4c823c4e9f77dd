"""A driver that hangs costs its own sensor: the others lose nothing, and nobody waits for it twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Failure, Reading
from carbonmon.hardware.own_thread import OwnThread
from carbonmon.hardware.workload.gpus import GpuProcesses
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.threaded_sensor import ThreadedSensor
from tests.chaos.inprocess import GPU, PACKAGE, POWER_W, Source
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

PATIENCE_S = 10.0


class Driver(Source):
    """A source whose reads wait while `hangs` is set; `stuck` says that one waits."""

    def __init__(self) -> None:
        super().__init__([GPU])
        self.name = "driver"
        self.closed = False
        self.hangs, self.free, self.stuck = threading.Event(), threading.Event(), threading.Event()

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self.hangs.is_set():
            self.stuck.set()
            assert self.free.wait(PATIENCE_S)
        return super().read(now_s, edge)

    def close(self) -> None:
        self.closed = True


def test_a_driver_that_hangs_costs_its_own_sensor_only_and_its_counter_gives_the_time_back(
    caplog: pytest.LogCaptureFixture,
):
    clock, driver = FakeClock(), Driver()
    sensors = [ThreadedSensor(driver, wait_s=0.2), GuardedSensor(Source([PACKAGE]))]
    devices = {device.id: device for device in (GPU, PACKAGE)}
    sampler = make_sampler(sensors, devices, [], FixedIntensity(), clock, 1.0, Overheads())
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, devices.values()))
    driver.hangs.set()
    begun_s = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            clock.time_s += 1.0
            sampler.tick()
        assert driver.stuck.is_set()
        assert time.perf_counter() - begun_s < 20 * 0.2, "only the first tick waited for it"
        gpu, package = sampler.latest.devices
        assert package.counter_j == 20 * POWER_W[PACKAGE.id]
        assert gpu.counter_j == 0.0
        assert [state.up for state in sampler.latest.sensors] == [False, True]
        driver.hangs.clear()
        driver.free.set()
        deadline_s = time.monotonic() + PATIENCE_S
        while not sampler.latest.sensors[0].up:  # its answer is taken at the tick after it came
            assert time.monotonic() < deadline_s
            clock.time_s += 1.0
            sampler.tick()
        clock.time_s += 1.0
        sampler.tick()
    seconds = sampler.latest.clock_s - 1000.0
    gpu, package = sampler.latest.devices
    assert gpu.counter_j == seconds * POWER_W[GPU.id], "nothing is lost"
    assert gpu.unobserved_s == 0.0
    assert package.counter_j == seconds * POWER_W[PACKAGE.id]
    assert [record.message for record in caplog.records] == [
        "sensor driver did not answer within 0.2 s: its driver may hang; the others are read on",
        "sensor driver answers again",
    ]
    sensors[0].close()
    assert driver.closed


def test_a_sensor_whose_driver_hangs_is_left_and_not_closed():
    driver = Driver()
    sensor = ThreadedSensor(driver, wait_s=0.05)
    driver.hangs.set()
    sensor.read(FakeClock(), False, {})
    sensor.close()
    assert not driver.closed
    driver.free.set()


def test_a_hung_driver_makes_the_processes_on_its_gpus_unknown():
    processes = GpuProcesses(["GPU-1"])
    processes._own = OwnThread("test", wait_s=0.05)
    free = threading.Event()
    processes._own.run(lambda: free.wait(PATIENCE_S))
    assert processes.processes(0.0) == {"GPU-1": None}
    assert processes.utilization("GPU-1", 0.0) is None
    processes.close()
    free.set()


def test_calls_end_in_order_and_a_call_that_raises_holds_nobody_up(caplog: pytest.LogCaptureFixture):
    own = OwnThread("test")
    heard: list[int] = []
    for number in range(50):
        assert own.run(lambda number=number: heard.append(number))  # type: ignore[misc]
    assert heard == list(range(50))
    with caplog.at_level(logging.ERROR):
        assert own.run(lambda: 1 // 0)
    assert "a call of test failed" in caplog.text
    own.close()
