"""An energy counter and a power sensor of one GPU are held against one another over minutes."""

from __future__ import annotations

import pytest

from carbonmon.hardware.sensors.nvml.cross_check import CrossCheck
from tests.simulator import Constant, Gpu, Simulator, Square
from tests.support.harness import Monitor


def fed(check: CrossCheck, seconds: int, counter_w: float, sensor_w: float, start_s: int = 0) -> None:
    for second in range(start_s, start_s + seconds):
        check.add(float(second), round(second * counter_w * 1e6), sensor_w)


def test_a_counter_that_says_less_than_its_sensor_is_told_once(caplog: pytest.LogCaptureFixture):
    fed(CrossCheck("GPU 0"), 900, counter_w=250.0, sensor_w=300.0)
    assert [record.getMessage() for record in caplog.records] == [
        "GPU 0: its energy counter gives 250 W and its power sensor 300 W over 3 min: "
        "one of them is wrong; the counter is used"
    ]


def test_small_differences_and_idle_boards_are_nothing_to_tell(caplog: pytest.LogCaptureFixture):
    fed(CrossCheck("GPU 0"), 900, counter_w=280.0, sensor_w=300.0)
    fed(CrossCheck("GPU 1"), 900, counter_w=5.0, sensor_w=15.0)
    assert caplog.records == []


def test_a_reset_begins_a_new_window(caplog: pytest.LogCaptureFixture):
    check = CrossCheck("GPU 0")
    fed(check, 170, counter_w=300.0, sensor_w=300.0)
    check.add(171.0, 0, 300.0)
    for second in range(172, 600):
        check.add(float(second), (second - 171) * 300_000_000, 300.0)
    assert caplog.records == []


def test_healthy_boards_agree_also_on_a_fast_load(caplog: pytest.LogCaptureFixture):
    gpus = [Gpu(profile=Constant(300.0)), Gpu(profile=Square(60.0, 350.0, 0.7), power_averaged=True)]
    with Simulator(gpus=gpus) as machine, Monitor(machine) as monitor:
        monitor.watch(400)
    assert [record for record in caplog.records if "power sensor" in record.getMessage()] == []
