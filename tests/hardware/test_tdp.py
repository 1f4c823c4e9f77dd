"""The fallback: TDP × utilisation of CPU packages, and GPUs that only /proc or the user names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading
from carbonmon.hardware import cpu_times
from carbonmon.hardware.sensors import tdp
from tests.simulator import Constant, Gpu, Package, Simulator, can_build
from tests.support.harness import Monitor
from tests.support.recorded import FIELDS, XEON, RecordedMachine, recorded_machine

A100, T4 = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1d2c3b4a-0000-1111-2222-333344445555"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[RecordedMachine]:
    with recorded_machine(tmp_path) as recorded:
        yield recorded


def opened(machine: RecordedMachine, known: Sequence[Device] = (), **more: Any) -> tdp.TdpSensor:
    return tdp.open_sensor(machine.settings(known, **more))


SECONDS = count(1.0)


def ratio(sensor: tdp.TdpSensor) -> float | None:
    """What the next read says, a second after the one before."""
    first = next(iter(sensor.read(next(SECONDS))))
    assert isinstance(first, Reading)
    return first.utilization_ratio


def gpus(sensor: tdp.TdpSensor) -> list[tuple[str, str]]:
    return [(device.id, device.name) for device in sensor.devices() if device.component == "gpu"]


# ---- utilisation ----


def test_utilisation_is_the_busy_share_of_the_time_since_the_read_before(machine: RecordedMachine):
    sensor = opened(machine)
    machine.pass_time(user=20, nice=5, system=10, irq=2, softirq=3, idle=50, iowait=10)
    assert ratio(sensor) == pytest.approx(0.40)
    machine.pass_time(user=100)
    assert ratio(sensor) == 1.0
    machine.pass_time(idle=100)
    assert ratio(sensor) == 0.0


def test_time_stolen_by_other_guests_is_not_busy_but_passes(machine: RecordedMachine):
    sensor = opened(machine)
    machine.pass_time(user=25, steal=50, idle=25)
    assert ratio(sensor) == pytest.approx(0.25)


def test_a_guest_s_time_is_part_of_user_and_counts_once(machine: RecordedMachine):
    sensor = opened(machine)
    machine.pass_time(user=50, guest=50, idle=50)
    assert ratio(sensor) == pytest.approx(0.5)


def test_without_time_passed_the_utilisation_is_unknown_and_nothing_is_lost(machine: RecordedMachine):
    sensor = opened(machine)
    assert ratio(sensor) is None
    machine.pass_time(user=1, idle=3)
    assert ratio(sensor) == pytest.approx(0.25)


def test_times_that_fell_back_are_a_new_beginning(machine: RecordedMachine):
    sensor = opened(machine)
    machine.pass_time(idle=-900)
    assert ratio(sensor) is None
    machine.pass_time(user=30, idle=70)
    assert ratio(sensor) == pytest.approx(0.3)


def test_iowait_that_falls_a_little_leaves_a_ratio_between_0_and_1(machine: RecordedMachine):
    """proc(5): iowait may decrease in certain conditions."""
    sensor = opened(machine)
    machine.pass_time(user=100, iowait=-1)
    assert ratio(sensor) == 1.0


@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * len(FIELDS)), min_size=1, max_size=5))
def test_utilisation_is_a_ratio_whatever_the_times(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, ...]]
):
    with recorded_machine(tmp_path_factory.mktemp("machine")) as recorded:
        sensor = opened(recorded)
        for step in steps:
            recorded.pass_time(**dict(zip(FIELDS, step, strict=True)))
            utilization_ratio = ratio(sensor)
            assert utilization_ratio is None or 0.0 <= utilization_ratio <= 1.0


@pytest.mark.parametrize(("text", "reason"), [(None, "io"), ("cpu  many\n", "garbage"), ("", "garbage")])
def test_times_that_cannot_be_read_are_a_failure_of_the_packages_alone(
    machine: RecordedMachine, text: str | None, reason: str
):
    sensor = opened(machine, gpu_model="A100 PCIe 80GB")
    stat = machine.procfs / "stat"
    stat.unlink() if text is None else stat.write_text(text)
    cpu_times.close_cpu_times(machine.procfs)
    package, gpu = sensor.read(0.0)
    assert isinstance(package, Failure)
    assert (package.device_id, package.reason) == ("package-0", reason)
    assert gpu == Reading("gpu-0")
    machine.pass_time(user=10, idle=10)
    assert ratio(sensor) == pytest.approx(0.5)


def test_a_procfs_without_times_is_no_source(machine: RecordedMachine):
    (machine.procfs / "stat").write_text("cpu  1 2 3\n")
    with pytest.raises(SensorUnavailable) as refused:
        opened(machine)
    assert str(machine.procfs / "stat") in refused.value.reason
    assert "--procfs" in refused.value.remedy


# ---- packages ----


def test_each_package_is_a_device_with_the_machine_s_utilisation(machine: RecordedMachine):
    machine.packages(40, 0, 1)
    sensor = opened(machine)
    assert [(d.id, d.index, d.methods, d.spec and d.spec.tdp_w) for d in sensor.devices()] == [
        ("package-0", 0, ("tdp",), 150.0),
        ("package-1", 1, ("tdp",), 150.0),
    ]
    machine.pass_time(user=30, idle=70)
    assert [reading.utilization_ratio for reading in sensor.read(0.0) if isinstance(reading, Reading)] == [
        pytest.approx(0.3),
        pytest.approx(0.3),
    ]


def test_a_virtual_machine_gets_its_share_of_the_package(machine: RecordedMachine):
    machine.cpuinfo(XEON, flags="fpu hypervisor sse2")
    machine.packages(4)
    (device,) = opened(machine).devices()
    assert device.spec is not None
    assert device.spec.tdp_w == pytest.approx(150.0 * 4 / 40)
    assert "sees 4 of its 40 hardware threads" in device.spec.source


def test_an_unknown_model_is_estimated_from_its_cores_and_says_so(machine: RecordedMachine):
    machine.cpuinfo("Mystery CPU 9000", cores=16)
    sensor = opened(machine)
    assert "unknown CPU model 'Mystery CPU 9000': 7.5 W × 16 physical cores" in sensor.sources()[0].reason


def test_the_user_s_model_or_watts_replace_what_the_machine_says(machine: RecordedMachine):
    (device,) = opened(machine, cpu_tdp_w=77.0).devices()
    assert device.spec is not None
    assert (device.spec.tdp_w, device.spec.source) == (77.0, "--cpu-tdp")
    machine.packages(128)
    (device,) = opened(machine, cpu_model="AMD EPYC 7742").devices()
    assert device.spec is not None
    assert (device.name, device.spec.tdp_w) == ("AMD EPYC 7742", 225.0)


@pytest.mark.parametrize(
    ("model", "hint"), [("Xeon Gold 6199Q", "nearest: Intel Xeon Gold 6"), ("@@@", "give --cpu-tdp WATTS")]
)
def test_a_model_that_the_user_misspelt_is_an_error_that_helps(
    machine: RecordedMachine, model: str, hint: str
):
    with pytest.raises(ConfigError) as mistake:
        opened(machine, cpu_model=model)
    assert f"--cpu-model {model}: no such CPU" in str(mistake.value)
    assert hint in str(mistake.value)
    opened(machine, cpu_model=model, cpu_tdp_w=100.0)


@pytest.mark.parametrize("text", ["", "no cpu here\n", None])
def test_a_machine_that_says_nothing_of_its_cpu_is_one_unknown_package(
    machine: RecordedMachine, text: str | None
):
    info = machine.procfs / "cpuinfo"
    info.unlink() if text is None else info.write_text(text)
    sensor = opened(machine)
    assert [device.id for device in sensor.devices()] == ["package-0"]
    assert "unknown CPU model" in sensor.sources()[0].reason


def test_a_platform_without_package_numbers_is_one_package(machine: RecordedMachine):
    machine.packages(2, -1)
    assert [device.id for device in opened(machine).devices()] == ["package-0"]


def test_dies_that_rapl_meters_share_the_package_s_tdp(machine: RecordedMachine):
    dies = [Device(f"package-0-die-{die}", "cpu", "package-0", 0, ("counter",)) for die in (0, 1)]
    sensor = opened(machine, dies)
    assert [(device.id, device.spec and device.spec.tdp_w) for device in sensor.devices()] == [
        ("package-0-die-0", 75.0),
        ("package-0-die-1", 75.0),
    ]
    assert "fallback for 2 metered" in sensor.sources()[0].reason


# ---- GPUs ----


def test_gpus_that_only_the_driver_s_proc_names_are_estimated_as_fully_used(machine: RecordedMachine):
    machine.gpu("0000:3b:00.0", "Tesla T4", T4)
    machine.gpu("0000:18:00.0", "NVIDIA A100-SXM4-80GB", A100)
    sensor = opened(machine)
    assert gpus(sensor) == [(A100, "NVIDIA A100-SXM4-80GB"), (T4, "Tesla T4")]
    for device in sensor.devices()[1:]:
        assert device.spec is not None
        assert (device.methods, device.spec.assumed_utilization_ratio) == (("tdp",), 1.0)
    assert "400 W × an assumed 100%" in sensor.sources()[0].reason


def test_a_gpu_whose_uuid_the_driver_hides_has_a_number(machine: RecordedMachine):
    machine.gpu("0000:18:00.0", "Tesla T4")
    assert gpus(opened(machine)) == [("gpu-0", "Tesla T4")]


@pytest.mark.parametrize(("visible", "expected"), [("1", [T4]), (A100[:12], [A100]), ("", []), ("-1", [])])
def test_the_job_s_choice_of_gpus_is_honoured(machine: RecordedMachine, visible: str, expected: list[str]):
    machine.gpu("0000:18:00.0", "NVIDIA A100-SXM4-80GB", A100)
    machine.gpu("0000:3b:00.0", "Tesla T4", T4)
    sensor = opened(machine, environ={"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert [device_id for device_id, _ in gpus(sensor)] == expected
    assert [device_id for device_id, _ in gpus(opened(machine, gpus=("0", "7")))] == [A100]


def test_a_gpu_that_the_driver_names_twice_is_one_gpu(machine: RecordedMachine):
    machine.gpu("0000:01:00.0", "Tesla T4", T4)
    machine.gpu("0000:02:00.0", "Tesla T4", T4)
    assert gpus(opened(machine)) == [(T4, "Tesla T4")]


def test_a_gpu_that_nobody_knows_is_left_out_and_says_that_its_energy_is_unknown(machine: RecordedMachine):
    machine.gpu("0000:18:00.0", "NVIDIA Secret 1", A100)
    sensor = opened(machine)
    assert gpus(sensor) == []
    (source,) = [source for source in sensor.sources() if source.name == "tdp GPU 0"]
    assert (source.use, source.reason.endswith("its energy is unknown")) == ("not used", True)
    assert "--gpu-tdp" in source.remedy
    assert gpus(opened(machine, gpu_tdp_w=300.0)) == [(A100, "NVIDIA Secret 1")]
    known = opened(machine, gpu_model="H100 PCIe 80GB:1").devices()[1]
    assert known.spec is not None and "H100 PCIe" in known.spec.source


@pytest.mark.parametrize(
    ("text", "count"), [("A100 PCIe 80GB", 1), ("A100 PCIe 80GB:4", 4), ("NVIDIA A100-SXM4-80GB:2", 2)]
)
def test_gpus_that_the_user_states_are_counted_as_stated(machine: RecordedMachine, text: str, count: int):
    sensor = opened(machine, gpu_model=text, environ={"CUDA_VISIBLE_DEVICES": "0"})
    assert [device_id for device_id, _ in gpus(sensor)] == [f"gpu-{index}" for index in range(count)]
    readings = list(sensor.read(0.0))[1:]
    assert readings == [Reading(f"gpu-{index}") for index in range(count)]


@pytest.mark.parametrize(
    "text", ["A100:0", "A100:", "A100:many", "A100:²", "A100:-1", "A100:1000000000", ":2"]
)
def test_a_count_of_gpus_that_is_none_is_the_user_s_mistake(machine: RecordedMachine, text: str):
    with pytest.raises(ConfigError, match=r"--gpu-model: .* is (not NAME or NAME:COUNT|no count)"):
        opened(machine, gpu_model=text)


def test_a_gpu_model_that_nobody_knows_is_an_error_with_the_nearest(machine: RecordedMachine):
    with pytest.raises(
        ConfigError, match=r"--gpu-model: the table has no GPU 'H1OO PCIe'; the nearest are .*H100 PCIe"
    ):
        opened(machine, gpu_model="H1OO PCIe:2")


# ---- beside other sensors ----


@pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
def test_nothing_counts_twice_where_other_sensors_meter(machine: RecordedMachine):
    machine.gpu("0000:10:00.0", "NVIDIA A100-SXM4-80GB")
    packages = [Package(profile=Constant(100.0), start_uj=10**6), Package(profile=Constant(50.0))]
    with Simulator(gpus=[Gpu(profile=Constant(300.0))], packages=packages) as simulated:
        sensors = ("nvml", "rapl", "tdp", "dram")
        machine.memory(64 << 20)
        with Monitor(simulated, sensors=sensors, procfs=machine.procfs) as monitor:
            gpu = simulated.gpus[0].uuid
            ids = [state.device.id for state in monitor.latest.devices]
            assert ids == [gpu, "package-0", "package-1", "dram-0"]
            for _ in range(20):
                machine.pass_time(user=50, idle=50)
                monitor.watch(1)
            for device_id in ids[:3]:
                assert abs(monitor.error_ratio(device_id)) < 0.005
                assert monitor.device(device_id).tdp_j == 0.0
            assert monitor.device("package-0").device.methods == ("counter", "tdp")
            assert monitor.device("package-0").utilization_ratio == pytest.approx(0.5)
            assert monitor.device("dram-0").tdp_j == pytest.approx(20.0 * 20)


@pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
def test_a_package_whose_counter_fails_is_estimated_until_it_is_back(machine: RecordedMachine):
    with Simulator(packages=[Package(profile=Constant(100.0))]) as simulated:
        with Monitor(simulated, sensors=("rapl", "tdp"), procfs=machine.procfs) as monitor:
            machine.pass_time(user=40, idle=60)
            monitor.watch(1)
            simulated.zones["package-0"].fault(file="garbage")
            for _ in range(20):
                machine.pass_time(user=40, idle=60)
                monitor.watch(1)
            state = monitor.device("package-0")
            assert state.tdp_j == pytest.approx(150.0 * 0.4 * 20)
            assert state.power_w == pytest.approx(60.0)
            simulated.zones["package-0"].clear()
            monitor.watch(20)
            assert abs(monitor.error_ratio("package-0")) < 0.005, (
                "the counter's truth, the estimate taken off"
            )
