"""Chips of hwmon: every machine of the table against its truth, and what its files may do wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Device, Part, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware import drm_gpus, nvml_library
from carbonmon.hardware.pci_devices import AMD
from carbonmon.hardware.sensors import hwmon
from carbonmon.hardware.spec_sheets import gpu_spec
from carbonmon.hardware.workload import NodeWorkload
from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square, boards, can_build
from tests.simulator.boards import AVERAGE, MOMENT, amd_gpu, intel_gpu
from tests.simulator.hwmon import Chip
from tests.support.harness import Monitor
from tests.support.recorded import recorded_machine

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

WAVE = Square(60.0, 350.0, 0.7)
SWELL = Sine(200.0, 80.0, 20.0)
ORIN, AGX, THOR = boards.ORIN_NANO, boards.AGX_ORIN, boards.THOR


def sensor_of(machine: Simulator, **settings: Any) -> hwmon.Sensor:
    return hwmon.open_sensor(SensorSettings(sysfs=machine.sysfs, **settings))


def devices_of(*chips: Chip, board: str = "", **settings: Any) -> dict[str, Device]:
    with Simulator(chips=chips, board=board) as machine:
        sensor = sensor_of(machine, **settings)
        sensor.close()
        return {device.id: device for device in sensor.devices()}


def notes_of(*chips: Chip, board: str = "") -> list[str]:
    with Simulator(chips=chips, board=board) as machine:
        sensor = sensor_of(machine)
        sensor.close()
        return [f"{source.name}: {source.reason}" for source in sensor.sources() if source.name != "hwmon"]


COUNTERS = {
    "Battlemage": intel_gpu(0, WAVE, Square(50.0, 300.0, 0.7), start_uj=10**12),
    "Arc A of Linux 6.8": intel_gpu(0, WAVE, labels=["pkg"], model=boards.ARC_A770),
    "Ponte Vecchio": intel_gpu(0, WAVE, labels=["pkg"], model=boards.MAX_1550),
    "xe of Linux 6.6": intel_gpu(0, WAVE, labels=[""], model=boards.ARC_A770),
    "i915": intel_gpu(0, WAVE, labels=[""], driver="i915", model=boards.ARC_A770),
}


@pytest.mark.parametrize("chip", COUNTERS.values(), ids=COUNTERS)
def test_an_energy_counter_is_within_two_thousandths_of_the_truth(chip: Chip):
    with Simulator(chips=[chip]) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        monitor.watch(30.0)
        monitor.finish()
        (state,) = monitor.latest.devices
        assert (state.device.id, state.device.component) == ("GPU-0000:10:00.0", "gpu")
        assert abs(monitor.error_ratio(state.device.id)) <= 0.002
        assert state.counter_j == state.energy_j


AVERAGES: dict[str, tuple[list[Chip], str]] = {
    "MI210": ([amd_gpu(0, WAVE)], "GPU-a0b1c2d3e4f50000"),
    "a Radeon without a unique id": ([amd_gpu(0, WAVE, unique_id=None)], "GPU-0000:10:00.0"),
    "MI300A": ([amd_gpu(0, WAVE, model=boards.MI300A)], "module-0"),
    "an APU": ([amd_gpu(0, WAVE, model=boards.RYZEN, is_integrated=True)], "package-0"),
}


@pytest.mark.parametrize(("chips", "device_id"), AVERAGES.values(), ids=AVERAGES)
def test_an_average_power_is_within_two_hundredths_of_the_truth(chips: list[Chip], device_id: str):
    with Simulator(chips=chips) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        monitor.watch(60.0)
        monitor.finish()
        assert [state.device.id for state in monitor.latest.devices] == [device_id]
        assert abs(monitor.error_ratio(device_id)) <= 0.02


MOMENTS: dict[str, tuple[list[Chip], str, str]] = {
    "MI300X": ([amd_gpu(0, WAVE, model=boards.MI300X, level=MOMENT)], "", "GPU-a0b1c2d3e4f50000"),
    "EPYC": ([boards.hsmp(0, WAVE)], "", "package-0"),
    "Grace": (boards.grace(0, grace=WAVE), "", "grace-0"),
    "Grace's module": (
        boards.grace(0, module=WAVE, grace=SWELL, cpu=SWELL, sysio=SWELL),
        "",
        "module-socket-0",
    ),
    "Thor": ([boards.thor(Square(20.0, 120.0, 0.7))], THOR, "module-0"),
}


@pytest.mark.parametrize("seconds", [3.0, 5.0, 60.0])
@pytest.mark.parametrize(("chips", "board", "device_id"), MOMENTS.values(), ids=MOMENTS)
def test_the_range_of_a_momentary_power_holds_the_truth_of_a_fast_wave(
    chips: list[Chip], board: str, device_id: str, seconds: float
):
    with Simulator(chips=chips, board=board) as machine:
        machine.freeze()
        for phase_s in (0.0, 0.1, 0.13, 0.17):
            machine.advance(phase_s)
            with Monitor(machine, sensors=("hwmon",)) as monitor:
                monitor.watch(seconds)
                monitor.finish()
                (state,) = monitor.latest.devices
                stated = state.device.measured_uncertainty
                assert stated is not None
                truth_j = monitor.truth_j(device_id)
                assert state.energy_j * (1.0 - stated.low_ratio) <= truth_j
                assert truth_j <= state.energy_j * (1.0 + stated.high_ratio)


def test_the_range_of_an_average_is_narrower_than_that_of_a_moment():
    with_average = devices_of(amd_gpu(0, WAVE, level=AVERAGE))["GPU-a0b1c2d3e4f50000"]
    of_moments = devices_of(amd_gpu(0, WAVE, level=MOMENT))["GPU-a0b1c2d3e4f50000"]
    assert with_average.measured_uncertainty is not None and of_moments.measured_uncertainty is not None
    assert with_average.measured_uncertainty.high_ratio == 0.10
    assert of_moments.measured_uncertainty.high_ratio > 0.4


def test_the_claim_of_the_momentary_range_is_what_the_wave_gives():
    def mean_of_readings_w(phase_s: float, seconds: int) -> float:
        levels = [WAVE.value(phase_s + second) for second in range(seconds + 1)]
        return (sum(levels) - (levels[0] + levels[-1]) / 2) / seconds

    for seconds, low, high in ((3, -0.23, 0.37), (5, -0.14, 0.18), (60, -0.10, 0.12)):
        errors = [
            (WAVE.integral(phase_s + seconds) - WAVE.integral(phase_s))
            / seconds
            / mean_of_readings_w(phase_s, seconds)
            - 1.0
            for phase_s in (step / 1000 for step in range(700))
        ]
        assert (round(min(errors), 2), round(max(errors), 2)) == (low, high)


def test_orin_nano_is_its_input_and_not_the_rails_within_it():
    chip = boards.orin_nano(Sine(15.0, 5.0, 20.0), Constant(5.3), Constant(3.1))
    with Simulator(chips=[chip], board=ORIN) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        monitor.watch(60.0)
        monitor.finish()
        (state,) = monitor.latest.devices
        assert (state.device.id, state.device.name) == ("module-0", ORIN)
        assert state.energy_j == pytest.approx(monitor.truth_j("VDD_IN"), rel=0.02)
    assert notes_of(chip, board=ORIN) == [
        "hwmon ina3221 in2_input (VDD_CPU_GPU_CV): no meter of a whole device",
        "hwmon ina3221 in3_input (VDD_SOC): no meter of a whole device",
    ]


def test_agx_orin_has_no_input_meter_so_its_four_rails_are_added():
    rails = [Sine(15.0, 5.0, 20.0), Sine(5.0, 2.0, 17.0), Sine(8.0, 2.0, 13.0), Sine(2.0, 0.5, 11.0)]
    with Simulator(chips=boards.agx_orin(*rails), board=AGX) as machine:
        with Monitor(machine, sensors=("hwmon",)) as monitor:
            monitor.watch(60.0)
            monitor.finish()
            (state,) = monitor.latest.devices
            truth_j = sum(monitor.truth_j(rail) for rail in machine.channels)
            assert state.energy_j == pytest.approx(truth_j, rel=0.02)


@pytest.mark.parametrize("board", [boards.TX2, "", "NVIDIA Jetson TX2"])
def test_an_older_jetson_is_its_input_by_the_meter_below_its_driver(board: str):
    """TX2's first meter has rails only, and its model may be the name of a carrier board."""
    chips = boards.tx2(Sine(9.0, 4.0, 20.0), Constant(3.3), Constant(2.1))
    with Simulator(chips=chips, board=board) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        monitor.watch(60.0)
        monitor.finish()
        (state,) = monitor.latest.devices
        assert (state.device.id, state.device.name) == ("module-0", board or "Jetson board")
        assert state.energy_j == pytest.approx(monitor.truth_j("VDD_IN"), rel=0.02)
        kinds = {part.component for part in state.device.contains}
        assert kinds == {"gpu", "cpu", "dram"}


@pytest.mark.parametrize("is_old", [True, False], ids=["iio", "hwmon"])
def test_agx_xavier_has_no_input_meter_so_its_six_rails_are_added(is_old: bool):
    rails = [Sine(3.0 + place, 1.0, 11.0 + place) for place in range(6)]
    names = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
    named = [(name, 19.0, rail) for name, rail in zip(names, rails, strict=True)]
    newer = [boards.ina3221("1-0040", named[:3]), boards.ina3221("1-0041", named[3:])]
    chips = boards.agx_xavier(*rails) if is_old else newer
    with Simulator(chips=chips, board=boards.AGX_XAVIER) as machine:
        with Monitor(machine, sensors=("hwmon",)) as monitor:
            monitor.watch(60.0)
            monitor.finish()
            (state,) = monitor.latest.devices
            truth_j = sum(monitor.truth_j(rail) for rail in machine.channels)
            assert state.energy_j == pytest.approx(truth_j, rel=0.02)


def test_five_of_agx_xavier_s_six_rails_are_not_the_board():
    with pytest.raises(SensorUnavailable, match="3 of the 6 channels"):
        devices_of(boards.agx_xavier(*[Constant(5.0)] * 6)[0], board=boards.AGX_XAVIER)


def test_a_link_to_an_older_jetson_s_meter_is_no_second_one(tmp_path: Path):
    chips = boards.tx2(Constant(9.0), Constant(3.3), Constant(2.1))
    with Simulator(chips=chips, board=boards.TX2) as machine:
        for folder in machine.hwmon.folders:
            (folder.parent / "iio_device").symlink_to(folder)
        sensor = sensor_of(machine)
        sensor.close()
        assert [device.id for device in sensor.devices()] == ["module-0"]
        assert "ina3221x in_power0_input (VDD_IN)" in sensor.sources()[0].reason


@pytest.mark.parametrize("sensors", [("hwmon", "rapl"), ("rapl", "hwmon")], ids=",".join)
def test_the_counters_of_dies_count_and_not_their_socket_s_power(sensors: tuple[str, ...]):
    dies = [Package(socket=0, die=die, profile=Constant(60.0 + die)) for die in (0, 1)]
    with Simulator(packages=dies, chips=[boards.hsmp(0, Constant(500.0))]) as machine:
        with Monitor(machine, sensors=sensors) as monitor:
            monitor.watch(20.0)
            monitor.finish()
            states = {state.device.id: state for state in monitor.latest.devices}
            assert [*states] == ["package-0-die-0", "package-0-die-1"]
            for die, state in enumerate(states.values()):
                assert state.energy_j == pytest.approx((60.0 + die) * 20.0, rel=0.01)


def test_three_of_agx_orin_s_four_rails_are_not_the_board():
    with pytest.raises(SensorUnavailable, match="3 of the 4 channels"):
        devices_of(boards.agx_orin(*[Constant(5.0)] * 4)[0], board=AGX)


def test_a_chip_of_rails_on_a_board_that_is_no_jetson_is_not_counted():
    with pytest.raises(SensorUnavailable, match="no Jetson board"):
        devices_of(boards.orin_nano(WAVE, WAVE, WAVE), board="Raspberry Pi 5")


def test_a_power_meter_of_the_whole_node_is_no_device():
    with pytest.raises(SensorUnavailable):
        devices_of(boards.node_meter(Constant(800.0)))


def test_a_machine_without_chips_says_so_and_loads_no_more():
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from carbonmon.core.errors import SensorUnavailable\n"
        "from carbonmon.core.ports import SensorSettings\n"
        "from carbonmon.hardware import unmetered\n"
        "from carbonmon.hardware.sensors import hwmon\n"
        "from carbonmon.hardware.workload import NodeWorkload\n"
        "sysfs = Path(sys.argv[1])\n"
        "try:\n"
        "    hwmon.open_sensor(SensorSettings(sysfs=sysfs))\n"
        "except SensorUnavailable as error:\n"
        "    print(error, file=sys.stderr)\n"
        "unmetered.sources(sysfs, [])\n"
        "NodeWorkload(Path('/proc'), sysfs, {}).allocation(None, {})\n"
        "print(*sys.modules)"
    )
    with Simulator() as machine:
        command = [sys.executable, "-c", code, str(machine.sysfs)]
        child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert child.stderr.startswith("no chip under ")
    own = "carbonmon.hardware.sensors.hwmon"
    loaded = {name for name in child.stdout.split() if name.startswith(own)}
    assert loaded == {own, f"{own}.chips", f"{own}.table"}
    others = ("drm_gpus", "rocm_selection", "workload.drm_clients")
    assert {f"carbonmon.hardware.{name}" for name in others}.isdisjoint(child.stdout.split())


def test_a_card_s_second_limit_is_not_a_second_sensor():
    chip = amd_gpu(0, WAVE)
    assert len(chip.channels) == 2
    assert list(devices_of(chip)) == ["GPU-a0b1c2d3e4f50000"]


def test_what_a_superchip_s_meters_contain_is_declared():
    found = devices_of(*boards.grace(1, module=WAVE, grace=WAVE, cpu=WAVE, sysio=WAVE))
    assert {name: device.component for name, device in found.items()} == {
        "module-socket-1": "module",
        "grace-1": "module",
        "package-1": "cpu",
    }
    assert found["grace-1"].contains == (Part("cpu", 1), Part("dram", 1))


def test_a_superchip_is_counted_once_whichever_meters_it_has():
    chips = boards.grace(0, module=Sine(650.0, 80.0, 20.0), grace=SWELL, cpu=Sine(150.0, 50.0, 20.0))
    chip = Gpu(name="NVIDIA GH200 480GB", profile=Square(350, 550, 0.7), rest=Constant(250.0), superchip=1)
    with Simulator(gpus=[chip], chips=chips, packages=[]) as machine:
        everything = ("nvml", "rapl", "hwmon", "tdp", "dram")
        with Monitor(machine, sensors=everything) as monitor:
            assert list(monitor.sensors.devices) == ["module-0"]
            reasons = {source.name: source.reason for source in monitor.sensors.unused()}
            assert "is in module-0 (measured)" in reasons["hwmon"]
        machine.gpus[0].fault(no_counter=True)
        with Monitor(machine, sensors=everything) as monitor:
            assert list(monitor.sensors.devices) == [machine.gpus[0].uuid, "grace-0"]


def test_a_container_that_sees_the_host_s_socket_gets_its_share_and_says_so(tmp_path: Path):
    chips = [boards.hsmp(0, Constant(100.0)), amd_gpu(0, Constant(50.0))]
    with (
        recorded_machine(tmp_path) as recorded,
        Simulator(chips=chips, packages=[Package(cores=4)]) as machine,
    ):
        recorded.counted = 1
        recorded.pass_time()
        sensor = sensor_of(machine, procfs=recorded.procfs)
        sensor.close()
        gpu, package = sensor.devices()
    assert (package.share_ratio, gpu.share_ratio) == (0.25, 1.0)
    assert "its true one is unknown" in package.share_note


def test_cards_beside_a_grace_cpu_are_counted_beside_its_module():
    chips = boards.grace(0, module=Sine(350.0, 80.0, 20.0), grace=SWELL)
    with Simulator(gpus=[Gpu(name="NVIDIA H100 PCIe")], chips=chips, packages=[]) as machine:
        with Monitor(machine, sensors=("nvml", "hwmon", "tdp", "dram")) as monitor:
            assert list(monitor.sensors.devices) == [machine.gpus[0].uuid, "module-socket-0"]


def test_the_socket_s_power_stands_in_for_rapl_and_is_not_added_to_it():
    chips = [boards.hsmp(0, Constant(120.0)), boards.hsmp(1, Constant(90.0))]
    packages = [Package(Constant(120.0), start_uj=10**9), Package(Constant(90.0), start_uj=10**8)]
    with Simulator(chips=chips, packages=packages) as machine:
        with Monitor(machine, sensors=("rapl", "hwmon")) as monitor:
            assert [device.methods for device in monitor.sensors.devices.values()] == [
                ("counter", "power")
            ] * 2
            monitor.watch(10.0)
            machine.zones["package-0"].fault(file="missing")
            machine.zones["package-0"].fault(frozen=True)
            monitor.watch(20.0)
            monitor.finish()
            first, second = monitor.latest.devices
            assert first.power_j > 0.0 and second.power_j == 0.0
            assert monitor.error_ratio("package-0") == pytest.approx(0.0, abs=0.02)
            assert monitor.error_ratio("package-1") == pytest.approx(0.0, abs=0.002)


def test_a_gpu_that_sleeps_is_not_read_and_one_that_is_off_draws_nothing():
    with Simulator(chips=[amd_gpu(0, Constant(7.0))]) as machine:
        sensor = sensor_of(machine)
        machine.hwmon.write(0, "power/runtime_status", "suspended")
        machine.channels["GPU-a0b1c2d3e4f50000"].fault(file="garbage")  # a read would be a failure
        machine.hwmon.write(0, "power_state", "D3cold")
        assert [reading.power_w for reading in sensor.read(100.0)] == [0.0]  # type: ignore[union-attr]
        machine.hwmon.write(0, "power_state", "D3hot")
        assert [reading.power_w for reading in sensor.read(101.0)] == [None]  # type: ignore[union-attr]
        machine.hwmon.write(0, "power/runtime_status", "active")
        assert [reading.reason for reading in sensor.read(102.0)] == ["garbage"]  # type: ignore[union-attr]
        sensor.close()


def test_how_busy_an_apu_s_graphics_are_is_not_how_busy_its_package_is():
    chip = amd_gpu(0, WAVE, model=boards.RYZEN, is_integrated=True)
    with Simulator(chips=[chip]) as machine:
        machine.hwmon.write(0, "gpu_busy_percent", "0")
        sensor = sensor_of(machine)
        (reading,) = sensor.read(1.0)
        sensor.close()
    assert isinstance(reading, Reading)
    assert reading.device_id == "package-0"
    assert reading.power_w is not None
    assert reading.utilization_ratio is None, "else it would stand for the CPU's, which tdp tells"


def test_nothing_of_a_gpu_that_sleeps_is_read_at_opening_or_later():
    with Simulator(chips=[amd_gpu(0, Constant(7.0)), intel_gpu(1, WAVE, WAVE)]) as machine:
        for place, chip in enumerate(machine.hwmon.chips):
            machine.hwmon.write(place, "power/runtime_status", "suspended")
            moving = [channel.file for channel in chip.channels]
            limits = [name for name in chip.files if not name.endswith("label")]
            for name in (*moving, *limits):
                (machine.hwmon.folders[place] / name).unlink()
                os.mkfifo(machine.hwmon.folders[place] / name)  # a read would wait for ever
        (machine.hwmon.device(0) / "gpu_busy_percent").unlink()
        os.mkfifo(machine.hwmon.device(0) / "gpu_busy_percent")
        sensor = sensor_of(machine)
        assert [type(said) for said in sensor.read(1.0)] == [Reading, Reading]
        sensor.close()


def test_a_jetson_is_its_board_s_meter_also_where_nvml_starts():
    chip = boards.orin_nano(Sine(15.0, 5.0, 20.0), Constant(5.3), Constant(3.1))
    with Simulator(gpus=[Gpu(name="Orin (nvgpu)")], chips=[chip], board=ORIN) as machine:
        machine.gpus[0].fault(no_counter=True, no_power=True, no_utilization=True)
        with Monitor(machine, sensors=("nvml", "rapl", "hwmon", "tdp", "dram")) as monitor:
            assert list(monitor.sensors.devices) == ["module-0"]


def test_a_register_that_begins_anew_after_the_gpu_was_off_counts_nothing():
    chip = intel_gpu(0, Constant(90.0), labels=[""], start_uj=10**11)
    with Simulator(chips=[chip]) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        (key,) = machine.channels
        monitor.watch(10.0)
        machine.hwmon.write(0, "power/runtime_status", "suspended")
        machine.hwmon.write(0, "power_state", "D3cold")
        monitor.watch(20.0)
        machine.channels[key].fault(offset_uj=2_000_000_000)  # 2 kJ of a difference that nobody drew
        machine.hwmon.write(0, "power/runtime_status", "active")
        machine.hwmon.write(0, "power_state", "D0")
        monitor.watch(10.0)
        monitor.finish()
        (state,) = monitor.latest.devices
        assert state.energy_j == pytest.approx(90.0 * 20.0, abs=2 * 90.0)


def test_what_a_register_may_have_lost_between_two_far_readings_is_not_invented():
    chip = intel_gpu(0, Constant(90.0), labels=[""])
    with Simulator(chips=[chip]) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        monitor.watch(10.0)
        monitor.look_away(1000.0)  # its limit of 190 W, and a peak of twice that, could fill 262 kJ in 690 s
        monitor.watch(10.0)
        monitor.finish()
        (state,) = monitor.latest.devices
        assert state.energy_j == pytest.approx(90.0 * 19.0, rel=0.05)
        assert state.unobserved_s == pytest.approx(1001.0)


def test_a_long_interval_is_shortened_so_that_no_register_turns_over_unseen():
    chip = intel_gpu(0, Constant(90.0), labels=[""])
    with Simulator(chips=[chip]) as machine:
        with Monitor(machine, sensors=("hwmon",), interval_s=3600.0) as monitor:
            assert 200.0 < monitor.sampler.interval_s < 600.0


FAULTS = ["garbage", "empty", "negative", "binary", "words", "unit", "all ones", "missing", "directory"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_says_nonsense_is_a_failure_of_its_device_alone(fault: str):
    chips = [amd_gpu(0, Constant(100.0)), amd_gpu(1, Constant(150.0))]
    with Simulator(chips=chips) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        broken, sound = machine.channels["GPU-a0b1c2d3e4f50000"], "GPU-a0b1c2d3e4f50001"
        monitor.watch(5.0)
        broken.fault(file="empty")  # else who keeps the file open reads on where it is missing
        monitor.watch(1.0)
        broken.fault(file=fault)
        monitor.watch(19.0)
        broken.clear()
        monitor.watch(70.0)
        monitor.finish()
        first, second = monitor.latest.devices
        assert second.device.id == sound and second.unobserved_s == 0.0
        assert monitor.error_ratio(sound) == pytest.approx(0.0, abs=0.001)
        assert first.energy_j + 100.0 * first.unobserved_s == pytest.approx(100.0 * 95.0, rel=0.02)
        assert first.power_w == 100.0


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EPERM, "permission"), (errno.EIO, "io"), (errno.ENODATA, "io"), (errno.EBUSY, "io")],
)
def test_an_error_of_the_driver_is_told_by_its_kind(
    number: int, reason: str, monkeypatch: pytest.MonkeyPatch
):
    with Simulator(chips=[amd_gpu(0, Constant(100.0))]) as machine:
        sensor = sensor_of(machine)
        pread: Callable[..., bytes] = os.pread

        def fail(*arguments: int) -> bytes:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "pread", fail)
        (failure,) = sensor.read(100.0)
        assert (failure.reason, os.strerror(number) in failure.detail) == (reason, True)  # type: ignore[union-attr]
        monkeypatch.setattr(os, "pread", pread)
        (reading,) = sensor.read(101.0)
        assert reading.power_w == 100.0  # type: ignore[union-attr]
        sensor.close()


def test_a_driver_that_hangs_costs_its_own_devices_one_tick_and_nobody_else():
    packages = [Package(Constant(80.0), start_uj=10**9)]
    with Simulator(chips=[amd_gpu(0, Constant(100.0))], packages=packages) as machine:
        with Monitor(machine, sensors=("rapl", "hwmon")) as monitor:
            (gpu, _) = machine.channels.values()
            monitor.watch(5.0)
            gpu.fault(file="empty")
            monitor.watch(1.0)
            gpu.fault(file="missing")
            path = gpu.folder / gpu.zone.file
            os.mkfifo(path)  # opening it for reading waits for a writer
            monitor.watch(2.0)
            hwmon_state = monitor.sensors.sensors[1].state()
            assert hwmon_state.up is False and "did not answer" in hwmon_state.reason
            begin_s = time.monotonic()
            monitor.watch(20.0)
            assert time.monotonic() - begin_s < 10.0, "nobody waits for it any more"
            assert monitor.error_ratio("package-0") == pytest.approx(0.0, abs=0.002)
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # the driver answers, with nothing
            path.unlink()


def test_two_cards_of_one_name_are_told_apart_in_whatever_order_they_are_numbered():
    chips = [amd_gpu(0, Constant(100.0)), amd_gpu(1, Constant(150.0))]
    with Simulator(chips=chips) as machine:
        for numbers in ((0, 1), (7, 3)):
            machine.hwmon.renumber(numbers)
            sensor = sensor_of(machine)
            readings = {reading.device_id: reading.power_w for reading in sensor.read(1.0)}  # type: ignore[union-attr]
            assert readings == {"GPU-a0b1c2d3e4f50000": 100.0, "GPU-a0b1c2d3e4f50001": 150.0}
            sensor.close()


def lose_the_driver(machine: Simulator, monitor: Monitor) -> None:
    """After some seconds of work no chip answers any more."""
    monitor.watch(5.0)
    for channel in machine.channels.values():
        channel.fault(file="empty")  # a driver that has gone answers ENODEV; here the file would go on
    monitor.watch(1.0)


def test_a_driver_that_is_loaded_again_with_other_numbers_is_found_again():
    chips = [amd_gpu(0, Constant(100.0)), amd_gpu(1, Constant(150.0))]
    with Simulator(chips=chips) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        lose_the_driver(machine, monitor)
        machine.hwmon.renumber((5, 2))
        for channel in machine.channels.values():
            channel.clear()
        monitor.watch(10.0)
        monitor.finish()
        assert [state.power_w for state in monitor.latest.devices] == [100.0, 150.0]
        assert all(state.unobserved_s <= 3.0 for state in monitor.latest.devices)


def test_two_cards_that_change_their_numbers_are_not_taken_for_one_another():
    chips = [amd_gpu(0, Constant(100.0)), amd_gpu(1, Constant(150.0))]
    with Simulator(chips=chips) as machine, Monitor(machine, sensors=("hwmon",)) as monitor:
        lose_the_driver(machine, monitor)
        machine.hwmon.renumber((1, 0))
        machine.hwmon.write(1, "power/runtime_status", "suspended")
        for channel in machine.channels.values():
            channel.clear()
        monitor.watch(10.0)
        assert [state.power_w for state in monitor.latest.devices] == [100.0, None]
        machine.hwmon.write(1, "power/runtime_status", "active")
        monitor.watch(10.0)
        monitor.finish()
        assert [state.power_w for state in monitor.latest.devices] == [100.0, 150.0]


def test_a_card_is_called_what_the_table_of_gpus_calls_it():
    for (vendor, model), name in drm_gpus._MODELS.items():
        spec = gpu_spec(name)
        assert spec is not None and name.removeprefix("AMD ").removeprefix("Intel ") in spec.source
        chip = amd_gpu(0, WAVE, model=model) if vendor == AMD else intel_gpu(0, WAVE, WAVE, model=model)
        assert [device.name for device in devices_of(chip).values()] == [name]
    unknown = devices_of(intel_gpu(0, WAVE, WAVE, model="0x56b1"))
    assert [device.name for device in unknown.values()] == ["Intel GPU 0x56b1"]


def test_a_board_s_own_name_comes_before_that_of_its_number():
    chip = amd_gpu(0, WAVE)
    named = replace(chip, device_files={**chip.device_files, "product_name": "Instinct MI210 OEM"})
    assert [device.name for device in devices_of(named).values()] == ["Instinct MI210 OEM"]


def test_two_boards_that_claim_one_unique_id_are_two_devices():
    chips = [amd_gpu(place, WAVE, unique_id="00000000deadbeef") for place in (0, 1)]
    assert list(devices_of(*chips)) == ["GPU-0000:10:00.0", "GPU-0000:11:00.0"]


def still(chip: Chip, busy: str | None = None) -> list[str]:
    """What a sensor says in the 100th second of a power that never changes."""
    with Simulator(chips=[chip], board=ORIN) as machine:
        sensor = sensor_of(machine)
        if busy is not None:
            machine.hwmon.write(0, "gpu_busy_percent", busy)
        for second in range(100):
            said = list(sensor.read(float(second)))
        sensor.close()
        return [getattr(each, "reason", "read") for each in said]


@pytest.mark.parametrize(
    ("chip", "busy", "said"),
    [
        (amd_gpu(0, Constant(287.3)), "95", "still"),
        (amd_gpu(0, Constant(7.3)), "0", "read"),
        (amd_gpu(0, Constant(287.0)), "95", "read"),
        (boards.grace(0, grace=Constant(51.3))[0], None, "still"),
        (boards.thor(Constant(21.3)), None, "still"),
        (boards.orin_nano(Constant(5.3), WAVE, WAVE), None, "read"),
        (boards.tx2(Constant(5.3), WAVE, WAVE)[1], None, "read"),
        (intel_gpu(0, Constant(0.0), labels=[""]), None, "read"),
    ],
    ids=["busy", "idle", "in whole watts", "Grace", "Thor", "ina3221", "ina3221x", "a counter"],
)
def test_a_power_that_never_changes_is_suspect(chip: Chip, busy: str | None, said: str):
    assert still(chip, busy) == [said]


def test_the_names_of_the_job_s_variables_choose_gpus_in_hip_s_order():
    chips = [amd_gpu(place, Constant(100.0 + place)) for place in range(4)]
    ids = [f"GPU-a0b1c2d3e4f5000{place}" for place in range(4)]
    with Simulator(chips=chips) as machine:
        nodes = machine.sysfs / "class/kfd/kfd/topology/nodes"
        for node, place in enumerate((None, 2, 3, 0, 1)):  # node 0 is the CPU
            (nodes / str(node)).mkdir(parents=True)
            simd, location = (0, 0) if place is None else (304, (0x10 + place) << 8)
            cores = f"cpu_cores_count {64 * (place is None)}"
            text = f"{cores}\nsimd_count {simd}\nlocation_id {location}\ndomain 0\n"
            (nodes / str(node) / "properties").write_text(text)

        def metered(gpus: tuple[str, ...] | None = None, **environ: str) -> list[str]:
            try:
                sensor = sensor_of(machine, environ=environ, gpus=gpus)
            except SensorUnavailable:
                return []
            sensor.close()
            return [device.id for device in sensor.devices()]

        assert metered() == ids
        assert metered(ROCR_VISIBLE_DEVICES="0,1") == [ids[2], ids[3]]
        assert metered(ROCR_VISIBLE_DEVICES=f"{ids[1]},0") == [ids[1], ids[2]]
        assert metered(ROCR_VISIBLE_DEVICES="2,3", HIP_VISIBLE_DEVICES="1") == [ids[1]]
        assert metered(CUDA_VISIBLE_DEVICES="0") == [ids[2]]
        assert metered(HIP_VISIBLE_DEVICES="") == []
        assert metered(ROCR_VISIBLE_DEVICES="0", SLURM_JOB_GPUS="3") == ids, "0 may be the job's first"
        assert metered(ROCR_VISIBLE_DEVICES=ids[3], SLURM_JOB_GPUS="3") == [ids[3]]
        assert metered(HIP_VISIBLE_DEVICES="0,9,1") == [ids[2]]
        assert metered(gpus=("0", ids[3])) == [ids[0], ids[3]]


def test_a_gpu_that_is_not_there_is_a_mistake_where_no_nvidia_driver_could_have_it(
    monkeypatch: pytest.MonkeyPatch,
):
    with Simulator(chips=[amd_gpu(place, WAVE) for place in range(2)]) as machine:
        for has_driver in (False, True):
            monkeypatch.setattr(nvml_library, "is_here", lambda has_driver=has_driver: has_driver)
            if has_driver:
                sensor_of(machine, gpus=("1", "9")).close()
                continue
            with pytest.raises(ConfigError, match=r"--gpus 9: no such GPU here; there are 0 GPU-a0b1c2d3, "):
                sensor_of(machine, gpus=("1", "9"))


def test_a_daemon_of_amd_s_gpus_refuses_one_that_it_does_not_have():
    with (
        Simulator(gpus=[], chips=[amd_gpu(0, WAVE)]) as machine,
        Monitor(machine, sensors=("hwmon",)) as monitor,
        closing(NodeWorkload(Path("/proc"), machine.sysfs, monitor.sensors.devices)) as workload,
    ):
        (amd,) = monitor.sensors.devices
        assert workload.allocation((amd,), {}) == {amd: 1.0}
        with pytest.raises(ConfigError, match=rf"--gpus 5: no such GPU here; there are 0 {amd[:12]}"):
            workload.allocation(("5",), {})


def test_where_both_vendors_are_a_daemon_takes_the_id_of_either(mixed: Simulator):
    with (
        Monitor(mixed, sensors=("nvml", "hwmon")) as monitor,
        closing(NodeWorkload(Path("/proc"), mixed.sysfs, monitor.sensors.devices)) as workload,
    ):
        first, _, amd = monitor.sensors.devices
        assert workload.allocation((first, amd), {}) == {first: 1.0, amd: 1.0}
        with pytest.raises(ConfigError, match="--gpus GPU-ffff: no such GPU here; there are 0 "):
            workload.allocation(("GPU-ffff",), {})


@pytest.fixture
def mixed() -> Iterator[Simulator]:
    with Simulator(gpus=[Gpu(), Gpu()], chips=[amd_gpu(0, WAVE)]) as machine:
        yield machine


@pytest.mark.parametrize(
    ("environ", "gpus", "counted"),
    [
        ({}, None, ["0", "1", "amd"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, None, ["1"]),
        ({"ROCR_VISIBLE_DEVICES": "0"}, None, ["0", "1", "amd"]),
        ({}, ("0", "GPU-a0b1"), ["0", "amd"]),
    ],
)
def test_where_nvidia_s_gpus_are_too_their_lists_are_theirs(
    mixed: Simulator, environ: dict[str, str], gpus: tuple[str, ...] | None, counted: list[str]
):
    with Monitor(mixed, sensors=("nvml", "hwmon"), environ=environ, gpus=gpus) as monitor:
        names = {gpu.uuid: str(place) for place, gpu in enumerate(mixed.gpus)}
        assert [names.get(device, "amd") for device in monitor.sensors.devices] == counted
