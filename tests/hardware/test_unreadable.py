"""A /sys that may not be entered, as in hardened containers, is a machine without sensors and no fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import NodeMeterSettings, SensorSettings
from carbonmon.hardware import unmetered
from carbonmon.hardware.node_meters import acpi, cray
from carbonmon.hardware.sensors import hwmon, rapl
from tests.simulator import Constant, Simulator, boards, can_build

NOBODY = 65534


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root, who may read everything, is another user meanwhile."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[Path]:
    """A tree whose folders nobody may enter."""
    for name in ("class/powercap", "class/hwmon", "class/kfd", "cray/pm_counters"):
        (tmp_path / name).mkdir(parents=True)
    closed = [tmp_path / "class", tmp_path / "cray"]
    for folder in closed:
        folder.chmod(0)
    with somebody_else():
        yield tmp_path
    for folder in closed:
        folder.chmod(0o700)


@pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
def test_a_meter_that_may_not_be_read_takes_no_other_s_place(tmp_path: Path):
    chips = boards.grace(0, module=Constant(650.0), grace=Constant(150.0))
    with Simulator(chips=chips, gpus=[], packages=[]) as machine:
        for folder in machine.hwmon.folders:
            label = (folder.parents[1] / "power1_oem_info").read_text()
            if label.startswith("Module"):
                (folder.parents[1] / "power1_average").chmod(0)
        with somebody_else():
            sensor = hwmon.open_sensor(SensorSettings(sysfs=machine.sysfs))
        sensor.close()
    assert [device.id for device in sensor.devices()] == ["grace-0"]
    reasons = [source.reason for source in sensor.sources() if source.use == "not used"]
    assert "power1_average may not be read by this user" in "; ".join(reasons)


def test_no_accelerator_is_found(sysfs: Path):
    assert unmetered.sources(sysfs, []) == []


@pytest.mark.parametrize(
    "opening",
    [
        lambda sysfs: rapl.open_sensor(SensorSettings(sysfs=sysfs)),
        lambda sysfs: hwmon.open_sensor(SensorSettings(sysfs=sysfs)),
        lambda sysfs: acpi.open_meter(NodeMeterSettings(sysfs)),
        lambda sysfs: cray.open_meter(NodeMeterSettings(sysfs)),
    ],
    ids=["rapl", "hwmon", "acpi", "cray"],
)
def test_a_source_is_unavailable(opening: Callable[[Path], object], sysfs: Path):
    with pytest.raises(SensorUnavailable):
        opening(sysfs)
