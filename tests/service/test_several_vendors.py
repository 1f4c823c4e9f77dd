"""All sensors together: cards of several vendors in one machine, and sensors in other orders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from carbonmon.core.config import DEFAULT_SENSORS, Config
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.sensors.neuron import open_sensor as open_neuron
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.service.open_sensors import Sensors, open_sensors
from tests.simulator import Constant, Gpu, Package, Simulator, boards, can_build
from tests.simulator.cards import gaudi
from tests.simulator.neuron import NeuronTree
from tests.support.harness import Monitor

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

STEADY = Constant(200.0)
AMD, ARC, GAUDI = "GPU-a0b1c2d3e4f50000", "GPU-0000:13:00.0", "GPU-0000:20:00.0"


@pytest.fixture
def machine() -> Iterator[Simulator]:
    """An NVIDIA GPU, one of AMD and one of Intel, and two Gaudi accelerators."""
    chips = [boards.amd_gpu(0, STEADY), boards.intel_gpu(3, STEADY, STEADY)]
    with Simulator(gpus=[Gpu()], chips=chips, cards=[gaudi(0, STEADY), gaudi(1, STEADY)]) as simulated:
        simulated.preload()
        simulated.freeze()
        yield simulated


def opened(
    closing_: ExitStack, machine: Simulator, *gpus: str, sensors: tuple[str, ...] = DEFAULT_SENSORS
) -> Sensors:
    return open_sensors(Config(sysfs=machine.sysfs, gpus=gpus or None, sensors=sensors), {}, closing_)


def test_each_card_is_counted_once_by_the_sensor_of_its_vendor(machine: Simulator):
    with ExitStack() as stack:
        found = [name for name in opened(stack, machine).devices if name.startswith("GPU-")]
    assert sorted(found) == sorted([machine.gpus[0].uuid, AMD, ARC, GAUDI, "GPU-0000:21:00.0"])


@pytest.mark.parametrize("vendors", [("nvidia",), (AMD,), (GAUDI,), (ARC, GAUDI), ("nvidia", GAUDI, AMD)])
def test_cards_are_named_by_their_ids_whatever_their_vendors(machine: Simulator, vendors: tuple[str, ...]):
    named = [machine.gpus[0].uuid if each == "nvidia" else each for each in vendors]
    with ExitStack() as stack:
        sensors = opened(stack, machine, *named)
    assert {name for name in sensors.devices if name.startswith("GPU-")} == set(named)
    said = [f"{source.name}: {source.reason}" for source in sensors.sources]
    assert not [text for text in said if "no such GPU" in text], "they are here"
    assert not [text for text in said if text.startswith("unmetered")], "the others are not the job's"


def test_an_index_is_one_of_nvml_and_leaves_out_all_others(machine: Simulator):
    with ExitStack() as stack:
        sensors = opened(stack, machine, "0")
    assert [name for name in sensors.devices if name.startswith("GPU-")] == [machine.gpus[0].uuid]
    assert not [source for source in sensors.sources if source.name.startswith("unmetered")]


def test_devices_of_aws_that_gpus_does_not_name_are_not_the_jobs(machine: Simulator):
    NeuronTree(machine.sysfs, 2)
    config = Config(sysfs=machine.sysfs, gpus=("0",), sensors=("nvml", "neuron"), gpu_tdp_w=200.0)
    with ExitStack() as stack:
        sensors = open_sensors(config, {}, stack)
    assert list(sensors.devices) == [machine.gpus[0].uuid]
    alone = config._replace(sensors=("neuron",))
    with ExitStack() as stack:
        sensors = open_sensors(alone, {}, stack)
    assert list(sensors.devices) == ["neuron0"]
    lines = [source.reason for source in sensors.sources if source.name == "unmetered AWS Neuron device"]
    assert not lines, "the other one is not the job's"


def test_what_is_measured_keeps_its_range_and_its_uncertainty_behind_an_estimate():
    package = Package(Constant(250.0), range_uj=10**9)  # it wraps every 4 s
    with Simulator(packages=[package]) as machine:
        with Monitor(machine, sensors=("tdp", "rapl")) as monitor:
            device = monitor.sensors.devices["package-0"]
            assert device.measured_uncertainty is not None
            monitor.watch(60)
            assert abs(monitor.error_ratio("package-0")) < 1e-3


@pytest.mark.parametrize("given", ["", "0", "1", "0,1"])
def test_an_mi250_is_one_card_without_amds_library_too(given: str):
    environ = {"ROCR_VISIBLE_DEVICES": given} if given else {}
    chips = [
        boards.amd_gpu(place, STEADY if place % 2 == 0 else Constant(0.0), model="0x7408")
        for place in range(4)
    ]
    with Simulator(chips=chips, packages=[]) as machine:
        with Monitor(machine, sensors=("hwmon",), environ=environ) as monitor:
            monitor.watch(30)
            found = {name: device.share_ratio for name, device in monitor.sensors.devices.items()}
            assert (
                found
                == {
                    "": {AMD: 1.0, "GPU-a0b1c2d3e4f50002": 1.0},
                    "0": {AMD: 0.5},
                    "1": {AMD: 0.5},
                    "0,1": {AMD: 1.0},
                }[given]
            )
            assert monitor.sensors.devices[AMD].gpu_ids == (AMD, "GPU-a0b1c2d3e4f50001")
            (run,) = monitor.latest.runs
            energy_j = sum(total.energy_j for total in run.totals)
            assert energy_j == pytest.approx(200.0 * 30 * sum(found.values()), rel=1e-3)


@pytest.mark.parametrize("sensors", [("tdp", "gaudi"), ("gaudi", "tdp")])
def test_gpus_that_the_user_states_are_those_that_a_sensor_finds(sensors: tuple[str, ...]):
    with Simulator(cards=[gaudi(0, STEADY), gaudi(1, STEADY)], packages=[]) as machine, ExitStack() as stack:
        machine.preload()
        config = Config(sysfs=machine.sysfs, sensors=sensors, gpu_model="Gaudi 3:2")
        devices = open_sensors(config, {}, stack).devices
    found = {name for name, device in devices.items() if device.component == "gpu"}
    assert found == {GAUDI, "GPU-0000:21:00.0"}


def test_lists_of_cuda_say_nothing_of_devices_that_are_no_gpus(tmp_path: Path):
    tree = NeuronTree(tmp_path / "sys", 2)
    settings = SensorSettings(sysfs=tree.sysfs, gpu_tdp_w=200.0)
    with closing(open_neuron(settings)) as sensor:
        devices = {device.id: device for device in sensor.devices()}
    with closing(NodeWorkload(Path("/proc"), tree.sysfs, devices)) as workload:
        assert workload.allocation(None, {"CUDA_VISIBLE_DEVICES": ""}) is None
        assert workload.allocation(None, {"NVIDIA_VISIBLE_DEVICES": "none"}) is None
        assert workload.allocation(("1",), {}) == {"neuron1": 1.0}
