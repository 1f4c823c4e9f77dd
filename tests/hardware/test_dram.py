"""Memory where nothing meters it: watts by its modules, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Reading
from carbonmon.hardware.sensors import dram
from tests.simulator import Package, Simulator, can_build
from tests.support.harness import Monitor
from tests.support.recorded import RecordedMachine, recorded_machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[RecordedMachine]:
    with recorded_machine(tmp_path) as recorded:
        yield recorded


def test_the_estimate_is_that_of_a_usual_number_of_modules_where_the_firmware_is_not_readable(
    machine: RecordedMachine,
):
    machine.memory(512 << 20)
    sensor = dram.open_sensor(machine.settings())
    (device,) = sensor.devices()
    assert (device.id, device.component, device.methods) == ("dram-0", "dram", ("tdp",))
    assert device.spec is not None
    assert device.spec.tdp_w == pytest.approx(40 + 40 / 3)
    assert device.spec.assumed_utilization_ratio == 1.0
    assert device.measured_uncertainty is None
    assert sensor.sources()[0].reason.startswith("53.3 W = 512.0 GiB in a usual number of modules")
    assert list(sensor.read(0.0)) == [Reading("dram-0")]


def test_the_modules_of_the_firmware_are_counted(machine: RecordedMachine):
    machine.memory(int(503.4 * (1 << 20)))
    machine.memory_modules(*[(64, "DDR5")] * 8, *[(0, "DDR5")] * 8)
    sensor = dram.open_sensor(machine.settings())
    assert sensor.sources()[0].reason.startswith("40 W = 8 modules, 512 GiB of DDR5, 40 W")


def test_a_container_with_a_proc_of_its_own_has_its_part_of_the_host_s_modules(machine: RecordedMachine):
    machine.memory(64 << 20)
    machine.memory_modules(*[(128, "DDR5")] * 16)
    sensor = dram.open_sensor(machine.settings())
    (device,) = sensor.devices()
    assert device.spec is not None
    assert device.spec.tdp_w == pytest.approx(160 / 32)
    assert "64.0 GiB of it here" in sensor.sources()[0].reason


def test_it_reads_the_host_s_memory_and_changes_nobody_s_settings(machine: RecordedMachine):
    machine.memory(1 << 20)
    before = psutil.PROCFS_PATH
    assert "1.0 GiB" in dram.open_sensor(machine.settings()).devices()[0].name
    assert before == psutil.PROCFS_PATH


def test_the_user_may_leave_it_out(machine: RecordedMachine):
    machine.memory(1 << 20)
    with pytest.raises(SensorUnavailable, match="--no-dram-estimate"):
        dram.open_sensor(machine.settings(dram_estimate=False))


def test_memory_that_rapl_meters_is_not_estimated_as_well(machine: RecordedMachine):
    machine.memory(1 << 20)
    metered = Device("dram-1", "dram", "dram", 1, ("counter",))
    with pytest.raises(SensorUnavailable, match="RAPL meters the memory"):
        dram.open_sensor(machine.settings([metered]))


@pytest.mark.parametrize("content", [None, b"", b"MemFree: 5 kB\n", b"MemTotal: many kB\n", b"\xff\xfe"])
def test_a_procfs_that_does_not_tell_is_no_source(machine: RecordedMachine, content: bytes | None):
    if content is not None:
        (machine.procfs / "meminfo").write_bytes(content)
    with pytest.raises(SensorUnavailable) as refused:
        dram.open_sensor(machine.settings())
    assert str(machine.procfs / "meminfo") in refused.value.reason
    assert "--procfs" in refused.value.remedy


@pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
def test_it_draws_the_same_at_every_second(machine: RecordedMachine):
    machine.memory(64 << 20)
    with Simulator(packages=[Package()]) as simulated:
        with Monitor(simulated, sensors=("rapl", "dram"), procfs=machine.procfs) as monitor:
            monitor.watch(30)
            state = monitor.device("dram-0")
            assert state.tdp_j == state.energy_j == pytest.approx(20.0 * 30)
            assert state.power_w == pytest.approx(20.0)
