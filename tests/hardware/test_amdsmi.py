"""AMD's GPUs through the simulated library of ROCm and a stand-in for its package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.model import Part
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import AMDSMI_UNCERTAINTY
from carbonmon.hardware.sensors.amdsmi import open_sensor
from carbonmon.hardware.workload import NodeWorkload
from tests.simulator import Constant, Package, Simulator, Sine, Square, boards, can_build
from tests.simulator.boards import MI300X, MOMENT, amd_gpu
from tests.simulator.hwmon import Chip
from tests.simulator.rocm import Rocm
from tests.support.harness import Monitor
from tests.support.rocm import Here, rocm_here

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

WAVE, SWELL = Square(60.0, 350.0, 0.7), Sine(400.0, 150.0, 60.0)
MI250X = "0x7408"
IDS = [f"GPU-a0b1c2d3e4f5000{place}" for place in range(8)]
SENSORS = ("amdsmi", "hwmon")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Here]:
    yield from rocm_here(monkeypatch, tmp_path)


def mi300x(place: int, profile: Any = SWELL) -> Chip:
    return amd_gpu(place, profile, model=MI300X, level=MOMENT, cap_w=750.0)


def reasons(monitor: Monitor) -> dict[str, str]:
    return {source.name: source.reason for source in monitor.sensors.sources}


@pytest.fixture
def eight(here: Here) -> Iterator[tuple[Simulator, Rocm]]:
    """Eight cards of different power, in another order in the library's list than on the bus."""
    chips = [mi300x(place, Sine(300.0 + 40.0 * place, 100.0, 45.0 + place)) for place in range(8)]
    order = [3, 7, 0, 5, 1, 6, 2, 4]
    with Simulator(chips=chips) as machine, here(Rocm(machine, library_order=order)) as rocm:
        yield machine, rocm


# ---- energy ----


def test_each_card_gets_its_own_energy_whatever_the_library_s_order(eight: tuple[Simulator, Rocm]):
    with Monitor(eight[0], sensors=SENSORS) as monitor:
        monitor.watch(120)
        assert list(monitor.sensors.devices) == IDS
        for gpu in IDS:
            state = monitor.device(gpu)
            assert abs(monitor.error_ratio(gpu)) < 1e-6, "the unit is 2⁻¹⁶ J, not 15.3 µJ"
            assert (state.power_j, state.tdp_j) == (0.0, 0.0), "counted once, though hwmon reads it too"
            assert state.device.measured_uncertainty == AMDSMI_UNCERTAINTY
            assert state.utilization_ratio == 0.5


@pytest.mark.parametrize(("chip", "is_average"), [(amd_gpu(0, SWELL), True), (mi300x(0), False)])
def test_a_card_without_a_counter_is_measured_by_its_power(chip: Chip, is_average: bool, here: Here):
    with Simulator(chips=[chip]) as machine, here(Rocm(machine)) as rocm:
        rocm.cards[0].fault(counter_error=2)
        with Monitor(machine, sensors=("amdsmi",)) as monitor:
            monitor.watch(120)
            state = monitor.device(IDS[0])
            assert state.device.methods == ("power", "tdp")
            assert state.counter_j == 0.0
            assert abs(monitor.error_ratio(IDS[0])) < 0.02
            assert state.device.measured_uncertainty is not None
            is_wide = state.device.measured_uncertainty.high_ratio > AMDSMI_UNCERTAINTY.high_ratio
            assert is_wide is not is_average, "a power of the moment says nothing of the time between"


def test_a_counter_that_steps_back_and_returns_loses_nothing(here: Here):
    with Simulator(chips=[mi300x(0)]) as machine, here(Rocm(machine)) as rocm:
        with Monitor(machine, sensors=("amdsmi",)) as monitor:
            monitor.watch(20)
            rocm.cards[0].fault(counter_offset=-140_000_000)  # as in github.com/ROCm/amdsmi, issue 115
            monitor.watch(2)
            rocm.cards[0].fault(counter_offset=0)
            monitor.watch(20)
            state = monitor.device(IDS[0])
            assert abs(monitor.error_ratio(IDS[0])) < 1e-6
            assert (state.step_backs, state.resets) == (2, 0)


def test_a_counter_that_begins_anew_gives_no_joule_twice(here: Here):
    with Simulator(chips=[mi300x(0)]) as machine, here(Rocm(machine)) as rocm:
        with Monitor(machine, sensors=("amdsmi",)) as monitor:
            monitor.watch(20)
            rocm.cards[0].fault(counter_offset=-4_750_000_000)
            monitor.watch(20)
            assert monitor.device(IDS[0]).resets == 1
            assert abs(monitor.error_ratio(IDS[0])) < 0.02, "what the counter did not tell is known by power"


@pytest.mark.parametrize("sentinel", [0xFFFF, 0xFFFFFFFF])
def test_a_value_that_stands_for_nothing_is_unknown_and_hwmon_stands_in(sentinel: int, here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        with Monitor(machine, sensors=SENSORS) as monitor:
            monitor.watch(5)
            rocm.cards[0].fault(
                counter_sentinel=2**64 - 1, power_sentinel=sentinel, activity_sentinel=sentinel
            )
            monitor.watch(115)
            state = monitor.device(IDS[0])
            assert state.implausible == 0, "none of them was taken for a figure"
            assert state.power_j > 0.0
            assert state.utilization_ratio == 0.5
            assert abs(monitor.error_ratio(IDS[0])) < 0.02


def test_a_card_that_shows_only_sentinels_is_left_to_hwmon(here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        rocm.cards[0].fault(counter_sentinel=2**64 - 1, power_sentinel=0xFFFFFFFF)
        with Monitor(machine, sensors=SENSORS) as monitor:
            assert "neither its energy nor its power" in reasons(monitor)["amdsmi"]
            assert monitor.sensors.devices[IDS[0]].methods == ("power", "tdp")


@pytest.mark.parametrize("resolution_uj", [-1.0, float("nan"), float("inf"), 1e30])
def test_a_unit_that_is_none_makes_no_counter(resolution_uj: float, here: Here):
    with Simulator(chips=[mi300x(0)]) as machine, here(Rocm(machine)) as rocm:
        rocm.cards[0].fault(resolution_uj=resolution_uj)
        with Monitor(machine, sensors=("amdsmi",)) as monitor:
            assert monitor.sensors.devices[IDS[0]].methods == ("power", "tdp")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"counter_factor": 100.0}, "grows by"),
        ({"counter_factor": 0.01}, "grows by"),
        ({"resolution_uj": 1.0}, "grows by"),
    ],
)
def test_a_counter_with_a_wrong_rate_is_not_used(fault: dict[str, float], said: str, here: Here):
    with Simulator(chips=[mi300x(0, Constant(300.0)), mi300x(1, Constant(300.0))]) as machine:
        with here(Rocm(machine)) as rocm:
            rocm.cards[1].fault(**fault)
            sensor = open_sensor(SensorSettings(sysfs=machine.sysfs))  # time runs: the check compares rates
            with closing(sensor):
                methods = [device.methods[0] for device in sensor.devices()]
                text = next(source.reason for source in sensor.sources() if source.name == "amdsmi")
            assert methods == ["counter", "power"]
            assert f"{IDS[1]}: power, its energy counter {said}" in text


def test_a_counter_that_nobody_renews_is_replaced_by_power(here: Here):
    with Simulator(chips=[mi300x(0)]) as machine, here(Rocm(machine)) as rocm:
        rocm.cards[0].fault(frozen_at=machine.now_s())
        with Monitor(machine, sensors=("amdsmi",)) as monitor:
            assert "not checked against its power" in reasons(monitor)["amdsmi"]
            monitor.watch(60)
            assert monitor.device(IDS[0]).stuck == 1
            assert abs(monitor.error_ratio(IDS[0])) < 0.02


@pytest.mark.parametrize("sensors", [("amdsmi", "hwmon"), ("hwmon", "amdsmi"), ("hwmon", "amdsmi", "tdp")])
def test_no_joule_is_counted_twice_in_any_order_of_the_sensors(sensors: tuple[str, ...], here: Here):
    with Simulator(chips=[mi300x(0), mi300x(1)]) as machine, here(Rocm(machine)) as rocm:
        with Monitor(machine, sensors=sensors) as monitor:
            assert [device for device in monitor.sensors.devices if device.startswith("GPU-")] == IDS[:2]
            for fault in ({"counter_error": 12}, {}, {"power_error": 12}, {"call_error": 7}, {}):
                rocm.cards[0].fault(
                    **dict.fromkeys(("counter_error", "power_error", "call_error"), 0) | fault
                )
                monitor.watch(12)
            assert abs(monitor.error_ratio(IDS[0])) < 1e-6, "the counter covers what power stood in for"
            assert abs(monitor.error_ratio(IDS[1])) < 1e-6


def test_a_library_that_lists_no_card_leaves_them_to_hwmon(here: Here):
    with Simulator(chips=[amd_gpu(0, SWELL)]) as machine, here(Rocm(machine)) as rocm:
        rocm.control.card_count = 0  # as where librocm_smi64 was loaded before it
        with Monitor(machine, sensors=SENSORS) as monitor:
            assert reasons(monitor)["amdsmi"] == "AMD's library lists no GPU of this job"
            assert monitor.sensors.devices[IDS[0]].methods == ("power", "tdp")


# ---- which cards, and of whom ----


def test_an_mi250_is_one_meter_of_two_gpus(here: Here):
    chips = [amd_gpu(place, SWELL, model=MI250X, cap_w=560.0) for place in range(4)]
    with Simulator(chips=chips) as machine, here(Rocm(machine)):
        with Monitor(machine, sensors=SENSORS) as monitor:
            monitor.watch(60)
            assert list(monitor.sensors.devices) == [IDS[0], IDS[2]]
            assert monitor.sensors.devices[IDS[0]].contains == (Part("gpu", None, IDS[1]),)
            assert abs(monitor.error_ratio(IDS[0])) < 1e-6
        environ = {"ROCR_VISIBLE_DEVICES": "1"}
        with Monitor(machine, sensors=SENSORS, environ=environ) as monitor:
            (device,) = monitor.sensors.devices.values()
            assert (device.id, device.share_ratio) == (IDS[0], 0.5)
            monitor.watch(60)
            (run,) = monitor.latest.runs
            assert sum(total.energy_j for total in run.totals) == pytest.approx(
                monitor.truth_j(IDS[0]) / 2, rel=1e-3
            )


def test_the_partitions_of_a_card_share_its_energy(here: Here):
    chips = [mi300x(place) for place in range(2)]
    with Simulator(chips=chips) as machine, here(Rocm(machine, partitions=8)):

        def shares(**environ: str) -> dict[str, tuple[float, str]]:
            with Monitor(machine, sensors=SENSORS, environ=environ) as monitor:
                found = monitor.sensors.devices.values()
                return {device.id: (device.share_ratio, device.share_note) for device in found}

        assert shares() == {IDS[0]: (1.0, ""), IDS[1]: (1.0, "")}
        note = "partition 3 of 8: 1/8 of the GPU's energy"
        assert shares(HIP_VISIBLE_DEVICES="3") == {IDS[0]: (0.125, note)}
        assert shares(ROCR_VISIBLE_DEVICES="8,9")[IDS[1]][0] == 0.25
        assert shares(HIP_VISIBLE_DEVICES=",".join(map(str, range(8)))) == {IDS[0]: (1.0, "")}
        assert shares(ROCR_VISIBLE_DEVICES=IDS[1]) == {IDS[1]: (1.0, "")}
        with Monitor(machine, sensors=SENSORS) as monitor:
            assert "of the whole card, in 8 partitions" in reasons(monitor)["amdsmi"]
            monitor.watch(30)
            assert abs(monitor.error_ratio(IDS[1])) < 1e-6, "counted once, not once a partition"


@pytest.mark.parametrize("has_function", [False, True])
def test_a_partition_is_known_in_the_lists_of_older_kernels_too(has_function: bool, here: Here):
    chips = [mi300x(place) for place in range(2)]
    with Simulator(chips=chips) as machine, here(Rocm(machine, partitions=4, has_function=has_function)):
        environ = {"HIP_VISIBLE_DEVICES": "5,6"}
        with Monitor(machine, sensors=("hwmon",), environ=environ) as monitor:
            (device,) = monitor.sensors.devices.values()
            assert (device.id, device.share_ratio) == (IDS[1], 0.5)


def test_the_lists_of_a_job_count_in_hip_s_order(here: Here):
    chips = [mi300x(place, Constant(100.0 + place)) for place in range(4)]
    with Simulator(chips=chips) as machine, here(Rocm(machine, hip_order=[2, 3, 0, 1])):
        environ = {"ROCR_VISIBLE_DEVICES": "1,2,3", "HIP_VISIBLE_DEVICES": "1"}
        with Monitor(machine, sensors=SENSORS, environ=environ) as monitor:
            assert list(monitor.sensors.devices) == [IDS[0]]
            assert monitor.sensors.gpus_are_given
        with Monitor(machine, sensors=SENSORS, gpus=("1", IDS[3])) as monitor:
            assert list(monitor.sensors.devices) == [IDS[1], IDS[3]]


def test_an_mi300a_is_a_module_and_its_cpu_is_counted_in_it(here: Here):
    chip = amd_gpu(0, SWELL, model=boards.MI300A, cap_w=760.0)
    machine = Simulator(chips=[chip], packages=[Package(profile=Constant(80.0), dram=Constant(9.0))])
    with machine, here(Rocm(machine)), Monitor(machine, sensors=("rapl", *SENSORS)) as monitor:
        assert list(monitor.sensors.devices) == ["module-0"]
        monitor.watch(30)
        assert abs(monitor.error_ratio("module-0")) < 1e-6


def test_half_a_card_is_charged_to_each_run_that_was_given_one_of_its_two_gpus(here: Here):
    chips = [amd_gpu(place, SWELL, model=MI250X, cap_w=560.0) for place in range(2)]
    with Simulator(chips=chips) as machine, here(Rocm(machine)):
        with Monitor(machine, sensors=SENSORS) as monitor:
            devices = monitor.sensors.devices
            with closing(NodeWorkload(Path("/proc"), machine.sysfs, devices)) as workload:
                assert workload.allocation(None, {"ROCR_VISIBLE_DEVICES": "1"}) == {IDS[1]: 1.0}
                assert workload.allocation(None, {"ROCR_VISIBLE_DEVICES": "0"}) == {IDS[0]: 1.0}
        assert devices[IDS[0]].gpu_ids == (IDS[0], IDS[1])
