"""Trainium and Inferentia: the driver's percentage of power, and neuron-monitor where there is none."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Reading
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.neuron_devices import find_neuron_devices
from carbonmon.hardware.sensors import neuron
from carbonmon.hardware.sensors.neuron.busy_cores import utilizations
from carbonmon.hardware.sensors.neuron.power_file import PowerFile
from tests.simulator.neuron import INVALID, NO_DATA, NeuronTree, install_monitor, monitor_line
from tests.support.open_files import open_files

TDP_W = 400.0
NOWHERE = {"PATH": "/nonexistent"}


def sensor_of(tree: NeuronTree, **settings: Any) -> Sensor:
    own = {"gpu_tdp_w": TDP_W, "environ": NOWHERE} | settings
    return neuron.open_sensor(SensorSettings(sysfs=tree.sysfs, **own))


def said(sensor: Sensor, now_s: float = 0.0) -> list[float | str | None]:
    """The utilisation of each device, or the reason why it failed."""
    return [
        reading.utilization_ratio if isinstance(reading, Reading) else reading.reason
        for reading in sensor.read(now_s)
    ]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30.0
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.fixture
def tree(tmp_path: Path) -> NeuronTree:
    return NeuronTree(tmp_path / "sys", 4)


def test_a_trn1_machine_is_sixteen_devices_in_the_order_of_their_numbers(tmp_path: Path):
    found = find_neuron_devices(NeuronTree(tmp_path / "sys", 16).sysfs)
    assert [device.id for device in found] == [f"neuron{number}" for number in range(16)]
    assert {(device.model, device.cores) for device in found} == {("Trainium1", 2)}


def test_where_there_is_none_nothing_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "carbonmon.hardware.sensors.neuron.sensor", raising=False)
    with pytest.raises(SensorUnavailable, match="no Trainium and no Inferentia is here"):
        neuron.open_sensor(SensorSettings(sysfs=tmp_path))
    assert "carbonmon.hardware.sensors.neuron.sensor" not in sys.modules


def test_the_mean_of_the_minute_is_the_part_of_the_power(tree: NeuronTree):
    with closing(sensor_of(tree)) as sensor:
        assert said(sensor) == [None] * 4, "the driver has no data yet"
        tree.minute([0.0, 18.86, 50.0, 100.0])
        assert said(sensor, 60.0) == [0.0, pytest.approx(0.1886), 0.5, 1.0]
        assert {device.methods for device in sensor.devices()} == {("tdp",)}, "estimated, never measured"
        assert all(device.spec and device.spec.tdp_w == TDP_W for device in sensor.devices())


def test_the_minute_before_the_run_is_not_the_runs(tree: NeuronTree):
    tree.minute([99.0] * 4)
    with closing(sensor_of(tree)) as sensor:
        assert said(sensor) == [None] * 4
        assert said(sensor, 30.0) == [None] * 4
        tree.minute([10.0] * 4)
        assert said(sensor, 60.0) == [0.1] * 4


def test_a_line_that_nobody_renews_is_not_believed(tree: NeuronTree):
    with closing(sensor_of(tree)) as sensor:
        said(sensor)
        tree.minute([10.0] * 4)
        assert said(sensor, 60.0) == [0.1] * 4
        assert said(sensor, 239.0) == [0.1] * 4
        assert said(sensor, 241.0) == ["garbage"] * 4
        tree.minute([20.0] * 4)
        assert said(sensor, 242.0) == [0.2] * 4


@pytest.mark.parametrize("place", ["stats/hardware/power/utilization", "metrics/power/utilization"])
def test_a_file_that_the_driver_has_moved_is_found(tmp_path: Path, place: str):
    tree = NeuronTree(tmp_path / "sys", 1, power=place)
    (device,) = find_neuron_devices(tree.sysfs)
    assert device.power == tree.file(0)


def test_a_device_without_power_and_without_a_program_is_said(tmp_path: Path):
    tree = NeuronTree(tmp_path / "sys", 1, power=None)
    with pytest.raises(SensorUnavailable, match="tells no power") as refused:
        sensor_of(tree)
    assert "aws-neuronx-tools" in refused.value.remedy


def test_a_maximum_that_nobody_stated_is_asked_of_the_user(tree: NeuronTree):
    with pytest.raises(SensorUnavailable, match="Trainium1: AWS does not publish") as refused:
        sensor_of(tree, gpu_tdp_w=None)
    assert "--gpu-tdp WATTS" in refused.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "POWER_STATUS_VALID",
        "POWER_STATUS_VALID,1780000080,0.00,1.00,100.01",
        "POWER_STATUS_VALID,1780000080,0.00,1.00,-1.00",
        "POWER_STATUS_VALID,1780000080,0.00,1.00,N/A",
        "POWER_STATUS_VALID,1780000080,0.00,1.00,65535",
        "POWER_STATUS_VALID,1780000080,0.00,1.00,4294967295",
        "POWER_STATUS_VALID,now,0.00,1.00,1.00",
        "POWER_STATUS_VALID,1780000080,0.00,1.00,1.00 W",
        f"{INVALID},1780000080,0.00,0.00,0.00",
        "\N{SNOWMAN}",
    ],
)
def test_a_line_that_tells_nothing_is_rejected_and_the_other_devices_are_read(tree: NeuronTree, text: str):
    with closing(sensor_of(tree)) as sensor:
        said(sensor)
        tree.minute([10.0] * 4)
        tree.write(1, text)
        assert said(sensor, 60.0) == [0.1, "garbage", 0.1, 0.1]


def test_no_data_is_unknown_and_not_0(tree: NeuronTree):
    with closing(sensor_of(tree)) as sensor:
        said(sensor)
        tree.minute([10.0] * 4)
        tree.say(2, 0.0, status=NO_DATA)
        assert said(sensor, 60.0) == [0.1, 0.1, None, 0.1]


def test_a_driver_that_goes_and_comes_again_is_read_again(tree: NeuronTree):
    with closing(sensor_of(tree)) as sensor:
        said(sensor)
        tree.minute([10.0] * 4)
        assert said(sensor, 60.0) == [0.1] * 4
        tree.root.rename(tree.root.with_name("away"))
        for file in sensor._files:  # type: ignore[attr-defined]
            file.close()  # a file of sysfs that is removed fails at once; one of a disk stays open
        assert said(sensor, 61.0) == ["missing"] * 4
        tree.root.with_name("away").rename(tree.root)
        said(sensor, 63.0)
        tree.minute([30.0] * 4)
        assert said(sensor, 65.0) == [0.3] * 4


@pytest.mark.parametrize(("number", "reason"), [(1, "permission"), (5, "io"), (19, "io"), (13, "permission")])
def test_errors_of_the_kernel_are_told_by_their_kind(
    tree: NeuronTree, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
):
    def broken(*_: Any) -> bytes:
        raise OSError(number, "broken")

    with closing(sensor_of(tree)) as sensor:
        monkeypatch.setattr("carbonmon.hardware.sensors.neuron.power_file.os.pread", broken)
        assert said(sensor) == [reason] * 4


def test_cores_that_a_job_was_given_are_its_devices(tree: NeuronTree):
    for text, expected in (("0-3", [0, 1]), ("6", [3]), ("2,5", [1, 2])):
        with closing(sensor_of(tree, environ=NOWHERE | {"NEURON_RT_VISIBLE_CORES": text})) as sensor:
            assert [device.index for device in sensor.devices()] == expected
            assert getattr(sensor, "gpus_are_given", False)
    with closing(sensor_of(tree, gpus=("2",))) as sensor:
        assert [device.id for device in sensor.devices()] == ["neuron2"]
    with pytest.raises(ConfigError, match="--gpus 4: no such Neuron device here; there are 0, 1, 2, 3"):
        sensor_of(tree, gpus=("4",))


def test_logical_cores_of_trainium2_name_no_device(tmp_path: Path):
    tree = NeuronTree(tmp_path / "sys", 16, model="Trainium2", cores=8)
    with closing(sensor_of(tree, environ=NOWHERE | {"NEURON_RT_VISIBLE_CORES": "0-3"})) as sensor:
        assert len(sensor.devices()) == 16


# ---- neuron-monitor ----


def programs() -> list[psutil.Process]:
    """The stand-ins for neuron-monitor that this process has started: tests before may have left others."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if any("neuron-monitor" in word for word in child.cmdline()):
                found.append(child)
    return found


def test_the_program_tells_how_busy_the_cores_are_while_the_driver_has_no_power(tmp_path: Path):
    tree = NeuronTree(tmp_path / "sys", 4)
    environ = install_monitor(tmp_path / "bin", [monitor_line({0: 100.0, 1: 50.0, 4: 20.0}, devices=4)])
    with closing(sensor_of(tree, environ=environ)) as sensor:
        wait_until(lambda: said(sensor)[0] is not None)
        assert said(sensor) == [0.75, 0.0, 0.1, 0.0]
        assert len(programs()) == 1
        tree.minute([10.0] * 4)
        assert said(sensor, 60.0) == [0.1] * 4, "the driver's power is the better figure"
        assert programs() == [], "and the program is not needed any more"


def test_closing_ends_the_program(tmp_path: Path):
    environ = install_monitor(tmp_path / "bin", [monitor_line({})], then="while True: signal.pause()")
    sensor = sensor_of(NeuronTree(tmp_path / "sys", 1, power=None), environ=environ)
    said(sensor)
    (child,) = programs()
    sensor.close()
    sensor.close()
    assert not child.is_running()


def test_a_program_that_ends_is_started_again_ever_more_seldom(tmp_path: Path):
    environ = install_monitor(tmp_path / "bin", ["nonsense"], then="raise SystemExit(1)")
    of_others = set(psutil.Process().children())
    with closing(sensor_of(NeuronTree(tmp_path / "sys", 1, power=None), environ=environ)) as sensor:
        started = set()
        for second in range(100):
            assert said(sensor, float(second)) == [None]
            new = set(psutil.Process().children()) - of_others
            started |= {child.pid for child in new}
            for child in new:
                child.wait(30)
        assert 4 <= len(started) <= 9


def test_a_line_that_is_old_tells_nothing_of_now(tmp_path: Path):
    environ = install_monitor(tmp_path / "bin", [monitor_line({0: 100.0}, devices=1)])
    with closing(sensor_of(NeuronTree(tmp_path / "sys", 1, power=None), environ=environ)) as sensor:
        wait_until(lambda: said(sensor) == [0.5])
        assert said(sensor, 29.0) == [0.5]
        assert said(sensor, 31.0) == [None]


def test_logical_cores_are_joined_ones():
    line = monitor_line({0: 100.0, 3: 60.0, 4: 100.0}, devices=2, per_device=8, logical=2)
    assert utilizations(json.loads(line)) == {0: pytest.approx(0.4), 1: 0.25}


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "null",
        "{}",
        monitor_line({0: 101.0}),
        monitor_line({0: float("nan")}),
        monitor_line({99: 1.0}),
        monitor_line({0: 1.0}, neuron_hardware_info={"error": "no devices"}),
        monitor_line({0: 1.0}, devices=0),
        monitor_line({0: 1.0}, neuron_runtime_data=[{"error": "cannot be read", "report": {}}]),
        monitor_line({0: 1.0}, neuron_runtime_data=7),
    ],
)
def test_a_line_that_tells_nothing_raises_one_of_the_errors_that_are_caught(line: str):
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        utilizations(json.loads(line))


def test_groups_that_are_absent_mean_that_no_core_is_in_use():
    line = monitor_line({0: 1.0}, devices=1, neuron_runtime_data=[{"pid": 1, "error": "", "report": {}}])
    assert utilizations(json.loads(line)) == {0: 0.0}


def test_a_file_is_read_through_one_descriptor(tree: NeuronTree):
    file = PowerFile(tree.file(0))
    for second in range(50):
        file.read(float(second))
    assert open_files().count(tree.file(0).resolve()) == 1
    file.close()
