"""A /sys that may not be entered, as in hardened containers, is a machine without sensors and no fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import NodeMeterSettings, SensorSettings
from carbonmon.hardware import unmetered
from carbonmon.hardware.node_meters import acpi, cray
from carbonmon.hardware.sensors import hwmon, rapl

NOBODY = 65534


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[Path]:
    """A tree whose folders nobody may enter; root, who may, is somebody else meanwhile."""
    for name in ("class/powercap", "class/hwmon", "class/kfd", "cray/pm_counters"):
        (tmp_path / name).mkdir(parents=True)
    closed = [tmp_path / "class", tmp_path / "cray"]
    is_root = os.geteuid() == 0
    for folder in closed:
        folder.chmod(0)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield tmp_path
    finally:
        if is_root:
            os.seteuid(0)
        for folder in closed:
            folder.chmod(0o700)


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
