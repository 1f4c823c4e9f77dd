"""NVIDIA GPUs whose driver, counter, sensor or clock misbehaves while a run is metered."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import pairwise

import pynvml
import pytest

from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.sensors import nvml
from carbonmon.monitor.guard import GuardedSensor
from tests.simulator import Constant, Gpu, Simulator, Square, can_build
from tests.support.harness import Monitor

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

NVML = ("nvml",)
LEVELS_W = (300.0, 200.0, 100.0)


def three() -> list[Gpu]:
    return [Gpu(profile=Constant(watts)) for watts in LEVELS_W]


def errors(monitor: Monitor) -> dict[str, int]:
    return dict(monitor.latest.sensors[0].errors)


def backs_off(moments: Sequence[float]) -> bool:
    """Whether every wait is longer than the one before, up to about a minute."""
    waits = [after - before for before, after in pairwise(moments)]
    return all(after > before or after >= 60.0 for before, after in pairwise(waits))


# ---- the counter ----


def test_a_counter_that_is_refused_for_a_while_is_asked_again_once_a_minute_and_nothing_counts_twice():
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        uuid = machine.gpus[0].uuid
        monitor.watch(10)
        machine.gpus[0].fault(no_counter=True)
        asked = machine.calls("nvmlDeviceGetTotalEnergyConsumption", gpu=0)
        monitor.watch(50)
        assert machine.calls("nvmlDeviceGetTotalEnergyConsumption", gpu=0) - asked <= 3
        stepped_down = monitor.device(uuid)
        assert stepped_down.power_j > 0.0
        assert (stepped_down.power_w, errors(monitor)) == (300.0, {})
        machine.gpus[0].clear()
        monitor.watch(100)
        stepped_up = monitor.device(uuid)
        assert stepped_up.counter_j > stepped_down.counter_j
        assert abs(monitor.error_ratio(uuid)) < 0.002
        assert (stepped_up.resets, stepped_up.jumps, stepped_up.unobserved_s) == (0, 0, 0.0)


def test_a_counter_that_comes_only_later_is_used_from_then_on():
    with Simulator(gpus=three()) as machine:
        machine.gpus[0].fault(no_counter=True)
        with Monitor(machine, sensors=NVML) as monitor:
            uuid = machine.gpus[0].uuid
            monitor.watch(30)
            assert monitor.device(uuid).counter_j == 0.0
            machine.gpus[0].clear()
            monitor.watch(90)
            assert monitor.device(uuid).counter_j > 0.0
            assert abs(monitor.error_ratio(uuid)) < 0.002


@pytest.mark.parametrize(
    ("offset_mj", "resets", "jumps"), [(-600_000, 1, 0), (500_000_000, 0, 1), (2**62, 0, 1)]
)
def test_a_counter_that_steps_back_or_jumps_costs_one_rejected_difference(
    offset_mj: int, resets: int, jumps: int
):
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        uuid = machine.gpus[0].uuid
        monitor.watch(10)
        machine.gpus[0].fault(counter_offset_mj=offset_mj)
        monitor.watch(10)
        state = monitor.device(uuid)
        assert (state.resets, state.jumps) == (resets, jumps)
        assert abs(monitor.error_ratio(uuid)) < 0.005, "integrated power stood in for it"
        assert state.unobserved_s == 0.0


# ---- a GPU that is lost ----


def test_a_lost_gpu_is_looked_for_ever_more_seldom_and_found_again():
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        lost = machine.gpus[1]
        monitor.watch(5)
        lost.fault(lost=True)
        monitor.watch(1)
        before = machine.calls("nvmlDeviceGetHandleByUUID")
        looked_at = []
        for second in range(600):
            monitor.watch(1)
            looked_for = machine.calls("nvmlDeviceGetHandleByUUID") - before
            looked_at += [float(second)] * (looked_for - len(looked_at))
        assert 10 <= len(looked_at) <= 16
        assert backs_off(looked_at)
        assert errors(monitor) == {"gpu_is_lost": 601}
        for gpu in (machine.gpus[0], machine.gpus[2]):
            assert abs(monitor.error_ratio(gpu.uuid)) < 0.001
        lost.clear()
        monitor.watch(61)
        assert abs(monitor.error_ratio(lost.uuid)) < 0.001, "its counter bridged the gap"


def test_a_gpu_that_can_be_found_but_never_answers_is_asked_ever_more_seldom_too():
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        dead = machine.gpus[1]
        monitor.watch(5)
        before = machine.calls("nvmlDeviceGetTotalEnergyConsumption", gpu=1)
        dead.fault(counter_error=15, power_error=15, no_utilization=True)
        monitor.watch(600)
        assert machine.calls("nvmlDeviceGetTotalEnergyConsumption", gpu=1) - before <= 18
        assert errors(monitor) == {"gpu_is_lost": 600}
        dead.clear()
        monitor.watch(61)
        assert abs(monitor.error_ratio(dead.uuid)) < 0.001
        dead.fault(lost=True)
        monitor.watch(1)
        dead.clear()
        monitor.watch(1)
        assert errors(monitor)["gpu_is_lost"] <= 600 + 62
        assert monitor.latest.sensors[0].up


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"lost": 1}, "gpu_is_lost"),
        ({"no_permission": 1}, "no_permission"),
        ({"call_error": 999}, "unknown"),
        ({"call_error": 10}, "timeout"),
    ],
)
def test_a_failing_gpu_is_logged_once_when_it_fails_and_once_when_it_is_back(
    fault: dict[str, int], reason: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        gpu = machine.gpus[2]
        monitor.watch(3)
        gpu.fault(**fault)
        monitor.watch(200)
        assert errors(monitor) == {reason: 200}
        gpu.clear()
        monitor.watch(61)
        lines = [record.getMessage() for record in caplog.records if gpu.uuid in record.getMessage()]
        assert len(lines) == 2, lines
        assert lines[1] == f"nvml: {gpu.uuid} is read again"


def test_one_failing_call_among_those_that_answer_is_an_error_beside_a_reading():
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        machine.gpus[0].fault(power_error=999)
        monitor.watch(10)
        assert errors(monitor) == {"unknown": 10}
        state = monitor.device(machine.gpus[0].uuid)
        assert state.counter_j == state.energy_j
        assert monitor.latest.sensors[0].up


def test_a_gpu_whose_driver_drops_every_reading_is_a_failure_and_not_silence():
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        machine.gpus[0].fault(no_counter=True, no_power=True, no_utilization=True)
        monitor.watch(20)
        assert errors(monitor) == {"not_supported": 20}
        assert monitor.device(machine.gpus[0].uuid).power_w is None


# ---- the driver ----


def test_after_a_reload_with_other_indices_every_gpu_keeps_its_account():
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        monitor.watch(20)
        machine.reload_driver(order=[2, 0, 1])
        monitor.watch(40)
        machine.reload_driver(order=[1, 2, 0])
        monitor.watch(40)
        for gpu, watts in zip(machine.gpus, LEVELS_W, strict=True):
            state = monitor.device(gpu.uuid)
            assert state.resets == 2
            assert state.unobserved_s <= 4.0
            assert state.energy_j == pytest.approx(watts * (100.0 - state.unobserved_s), rel=0.005)
            assert state.power_w == pytest.approx(watts, rel=0.01)


def test_a_driver_that_stays_away_is_asked_ever_more_seldom_and_its_return_is_noticed():
    gpus = [Gpu(profile=Constant(watts), counter_start_mj=10**9) for watts in LEVELS_W]
    with Simulator(gpus=gpus) as machine, Monitor(machine, sensors=NVML) as monitor:
        monitor.watch(10)
        machine.reload_driver()
        machine.fault(init_error=9)
        before = machine.calls("nvmlInitWithFlags")
        monitor.watch(600)
        assert 10 <= machine.calls("nvmlInitWithFlags") - before <= 16
        assert errors(monitor) == {"driver": 3 * 600}
        assert monitor.latest.sensors[0].up is False
        machine.clear()
        monitor.watch(65)
        assert monitor.latest.sensors[0].up is True
        for gpu, watts in zip(machine.gpus, LEVELS_W, strict=True):
            state = monitor.device(gpu.uuid)
            assert (state.resets, state.power_w) == (1, pytest.approx(watts, rel=0.01))
            assert state.energy_j == pytest.approx(watts * (675.0 - state.unobserved_s), rel=0.01)


def test_a_driver_that_initialises_but_does_not_work_is_not_initialised_at_every_tick():
    with Simulator(gpus=three()) as machine, Monitor(machine, sensors=NVML) as monitor:
        monitor.watch(10)
        for gpu in machine.gpus:
            gpu.fault(counter_error=1, power_error=1, no_utilization=True)
        before = machine.calls("nvmlInitWithFlags")
        monitor.watch(300)
        assert machine.calls("nvmlInitWithFlags") - before <= 12
        for gpu in machine.gpus:
            gpu.clear()
        monitor.watch(61)
        assert monitor.latest.sensors[0].up
        assert all(abs(monitor.error_ratio(gpu.uuid)) < 0.002 for gpu in machine.gpus)


# ---- power samples, clocks, slowness ----


def test_a_buffer_that_overflows_between_two_samples_still_gives_the_mean():
    gpu = Gpu(profile=Square(100.0, 300.0, period_s=0.5))
    with Simulator(gpus=[gpu]) as machine:
        machine.gpus[0].fault(no_counter=True)
        with Monitor(machine, sensors=NVML, interval_s=10.0) as monitor:
            monitor.watch(600)
            state = monitor.device(machine.gpus[0].uuid)
            assert abs(monitor.error_ratio(machine.gpus[0].uuid)) < 0.5, "2.4 s of every 10 s are known"
            assert state.power_j == state.energy_j
            assert state.unobserved_s == 0.0
    with Simulator(gpus=[Gpu(profile=Constant(222.0))]) as machine:
        machine.gpus[0].fault(no_counter=True)
        with Monitor(machine, sensors=NVML, interval_s=10.0) as monitor:
            monitor.watch(600)
            assert abs(monitor.error_ratio(machine.gpus[0].uuid)) < 1e-6


@pytest.mark.parametrize("step_s", [-3600.0, -5.0, 3600.0])
def test_a_wall_clock_that_is_set_costs_integrated_power_nothing(step_s: float):
    with Simulator(gpus=[Gpu(profile=Constant(250.0))]) as machine:
        machine.gpus[0].fault(no_counter=True)
        with Monitor(machine, sensors=NVML) as monitor:
            monitor.watch(30)
            machine._control.wall_offset_s += step_s  # the driver's samples bear wall time
            monitor.watch(120)
            state = monitor.device(machine.gpus[0].uuid)
            assert state.unobserved_s == 0.0
            assert abs(monitor.error_ratio(machine.gpus[0].uuid)) < 1e-3


def test_samples_that_come_more_seldom_than_the_ticks_are_waited_for():
    with Simulator(gpus=[Gpu(profile=Square(100.0, 300.0, period_s=3.0), sample_period_s=0.1)]) as machine:
        machine.gpus[0].fault(no_counter=True)
        with Monitor(machine, sensors=NVML, interval_s=0.06) as monitor:
            monitor.watch(30)
            assert abs(monitor.error_ratio(machine.gpus[0].uuid)) < 0.01
            assert monitor.device(machine.gpus[0].uuid).unobserved_s == 0.0


def test_a_slow_gpu_does_not_distort_the_others():
    """Real time, because slowness is: each reading must be stamped when it was made."""
    fast, slow = Gpu(profile=Constant(300.0), counter_refresh_s=0.001), Gpu(profile=Constant(100.0))
    with Simulator(gpus=[slow, fast]) as machine:
        machine.gpus[0].fault(slow_s=0.03)
        with Monitor(machine, sensors=NVML) as monitor:
            machine.clock.set(0.0)
            for _ in range(8):
                monitor.sampler.tick(edge=True)
            end_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            state = monitor.device(machine.gpus[1].uuid)
            assert state.mean_power_w == pytest.approx(300.0, rel=0.02)
            assert monitor.latest.sensors[0].read_s == pytest.approx(0.09, abs=0.06)
            assert end_s - monitor.start_s < 5.0


def test_a_driver_that_knows_no_such_error_code_still_gives_a_reason():
    with Simulator(gpus=[Gpu(), Gpu()]) as machine:
        machine.freeze()
        machine.preload()
        sensor = nvml.open_sensor(SensorSettings())
        machine.gpus[0].fault(call_error=4711)
        first, second = list(sensor.read(100.0))
        assert isinstance(first, Failure) and isinstance(second, Reading)
        assert first.reason == "nvml_4711"
        sensor.close()
        with pytest.raises(pynvml.NVMLError):
            pynvml.nvmlDeviceGetCount()


def test_the_sensor_s_state_names_it_and_what_it_found():
    with Simulator(gpus=three()) as machine:
        machine.preload()
        guarded = GuardedSensor(nvml.open_sensor(SensorSettings()))
        assert guarded.state()[:4] == ("nvml", "used", "3 of 3 GPUs: 3 by counter", "")
        guarded.close()
