"""Figures that hold more than the device itself: Jetson modules, APUs, the Grace CPU Superchip, mirrors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from carbonmon.core.config import Config
from carbonmon.core.model import Device, Part, Spec
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.hardware import modules
from carbonmon.hardware.modules import with_cpu_contents
from carbonmon.service.open_sensors import Sensors, open_sensors
from tests.simulator import Gpu, Package, Simulator, can_build
from tests.support.recorded import RecordedMachine, recorded_machine

needs_simulator = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
DEVICE_TREE = "firmware/devicetree/base/model"


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[RecordedMachine]:
    with recorded_machine(tmp_path) as machine:
        machine.memory(8 << 20)
        yield machine


def board(recorded: RecordedMachine, model: str) -> None:
    path = recorded.sysfs / DEVICE_TREE
    path.parent.mkdir(parents=True)
    path.write_bytes(model.encode() + b"\0")


def jetson(recorded: RecordedMachine, **choice: object) -> Sensors:
    """A Jetson: NVML starts, and answers nothing but the name."""
    with Simulator(gpus=[Gpu(name="Orin (nvgpu)")]) as machine, ExitStack() as closing:
        machine.preload()
        machine.gpus[0].fault(no_counter=1, no_power=1, no_power_limit=1, no_utilization=1, no_processes=1)
        config = Config(sysfs=recorded.sysfs, procfs=recorded.procfs, **choice)  # type: ignore[arg-type]
        return open_sensors(config, {}, closing)


@needs_simulator
@pytest.mark.parametrize(
    ("model", "name", "low_w", "high_w"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", "Orin Nano", 7.0, 25.0),
        ("NVIDIA Orin Nano Developer Kit", "Orin Nano", 7.0, 25.0),
        ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "Orin NX", 10.0, 40.0),
        ("NVIDIA Jetson AGX Orin Developer Kit", "AGX Orin", 15.0, 60.0),
    ],
)
def test_the_device_tree_tells_the_orin_modules_apart(
    recorded: RecordedMachine, model: str, name: str, low_w: float, high_w: float
):
    board(recorded, model)
    (device,) = jetson(recorded).devices.values()
    assert (device.component, device.methods) == ("module", ("tdp",))
    assert device.spec is not None and name in device.spec.source
    assert device.spec.tdp_w == (low_w + high_w) / 2
    assert device.spec.tdp_w * (1 - device.spec.uncertainty.low_ratio) == pytest.approx(low_w)
    assert device.spec.tdp_w * (1 + device.spec.uncertainty.high_ratio) == pytest.approx(high_w)


@needs_simulator
def test_the_module_s_figure_holds_cpu_and_memory(recorded: RecordedMachine):
    board(recorded, "NVIDIA Jetson Orin Nano Developer Kit")
    sensors = jetson(recorded)
    assert len(sensors.devices) == 1
    assert {source.name for source in sensors.unused()} >= {"tdp", "dram"}


@needs_simulator
@pytest.mark.parametrize("model", ["", "Some Carrier Board", "\N{REPLACEMENT CHARACTER}" * 400])
def test_an_orin_whose_module_nobody_tells_is_unknown_and_its_cpu_is_estimated(
    recorded: RecordedMachine, model: str
):
    if model:
        board(recorded, model)
    gpu, *others = jetson(recorded).devices.values()
    assert (gpu.component, gpu.methods, gpu.spec) == ("gpu", (), None)
    assert [device.component for device in others] == ["cpu", "dram"]


@needs_simulator
def test_the_device_tree_is_read_below_proc_as_well(recorded: RecordedMachine):
    (recorded.procfs / "device-tree").mkdir()
    (recorded.procfs / "device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin\0")
    (device,) = jetson(recorded).devices.values()
    assert device.spec is not None and device.spec.tdp_w == 37.5


@needs_simulator
def test_the_user_s_own_watts_are_the_gpu_s(recorded: RecordedMachine):
    board(recorded, "NVIDIA Jetson Orin Nano Developer Kit")
    gpu, *others = jetson(recorded, gpu_tdp_w=12.0).devices.values()
    assert gpu.component == "gpu" and gpu.spec is not None and gpu.spec.tdp_w == 12.0
    assert [device.component for device in others] == ["cpu", "dram"]


def stated(recorded: RecordedMachine, **choice: object) -> dict[str, Device]:
    with ExitStack() as closing:
        config = Config(
            sysfs=recorded.sysfs,
            procfs=recorded.procfs,
            sensors=("rapl", "tdp", "dram"),
            **choice,  # type: ignore[arg-type]
        )
        return open_sensors(config, {}, closing).devices


@pytest.mark.parametrize("model", ["Instinct MI300A", "GH200 96GB", "Jetson AGX Orin"])
def test_a_stated_module_is_estimated_without_the_cpu_in_it(recorded: RecordedMachine, model: str):
    (device,) = stated(recorded, gpu_model=model).values()
    assert (device.id, device.component, device.gpu_ids) == ("gpu-0", "module", ("gpu-0",))


def test_four_stated_apus_are_four_modules(recorded: RecordedMachine):
    recorded.packages(2, 0, 1, 2, 3)
    devices = stated(recorded, gpu_model="Instinct MI300A:4")
    assert [device.component for device in devices.values()] == ["module"] * 4


@pytest.mark.parametrize("model", ["GB200", "Instinct MI300X"])
def test_a_stated_gpu_alone_is_beside_the_cpu(recorded: RecordedMachine, model: str):
    components = [device.component for device in stated(recorded, gpu_model=model).values()]
    assert components == ["cpu", "gpu", "dram"]


def test_the_figure_of_two_grace_packages_and_their_memory_is_halved_and_holds_the_memory(
    recorded: RecordedMachine,
):
    recorded.packages(72, 0, 1)
    devices = stated(recorded, cpu_model="NVIDIA Grace CPU Superchip")
    watts = [device.spec.tdp_w for device in devices.values() if device.spec is not None]
    assert list(devices) == ["package-0", "package-1"]
    assert watts == [250.0, 250.0]
    assert devices["package-1"].contains == (Part("dram", 1),)


def test_a_virtual_machine_s_share_of_a_grace_superchip_is_not_halved_again():
    spec = Spec(125.0, TDP_UNCERTAINTY, "this virtual machine sees 36 of its 144 hardware threads")
    device = Device("package-0", "cpu", "NVIDIA Grace CPU Superchip", 0, ("tdp",), spec=spec)
    (found,) = with_cpu_contents([device])
    assert found.spec == spec and found.contains == (Part("dram", 0),)


@needs_simulator
def test_packages_that_mirror_one_another_are_one_and_nothing_is_estimated_on_top(
    recorded: RecordedMachine,
):
    recorded.packages(1, 0, 1, 2, 3)
    packages = [Package(mirrors=None if number == 0 else 0) for number in range(4)]
    with Simulator(packages=packages) as machine, ExitStack() as closing:
        machine.fault(init_error=9)
        machine.freeze()
        machine.advance(10.0)
        machine.preload()
        config = Config(sysfs=machine.sysfs, procfs=recorded.procfs)
        sensors = open_sensors(config, {}, closing)
    assert list(sensors.devices) == ["package-0", "dram-0"]
    assert sensors.devices["package-0"].contains == (Part("cpu", 1), Part("cpu", 2), Part("cpu", 3))
    tdp = next(source for source in sensors.sources if source.name == "tdp")
    assert tdp.reason == "fallback for 1 metered"


def test_names_of_jetson_modules_are_known_and_no_other_s():
    assert all(map(modules.is_embedded, ("Orin (nvgpu)", "Xavier", "NVIDIA Thor", "Jetson Nano", "Tegra X1")))
    assert not any(map(modules.is_embedded, ("NVIDIA A100-SXM4-80GB", "NVIDIA GH200 480GB", "Tesla T4")))
