"""The node meter `ipmi` in a process whose ioctls a device answers that is built with the kernel's header."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.errors import SensorReadError, SensorUnavailable
from carbonmon.core.ports import NodeMeterSettings
from carbonmon.hardware.node_meters import ipmi
from tests.simulator import build, can_build

IS_MEASURING = 1 << 6
READ = """
import json, sys
from carbonmon.core.errors import SensorError
from carbonmon.core.ports import NodeMeterSettings
from carbonmon.hardware.node_meters import ipmi
meter = ipmi.open_meter(NodeMeterSettings(argument=sys.argv[1]))
found = []
for _ in range(2):
    try:
        found.append(meter.read().power_w)
    except SensorError as error:
        found.append(f"{type(error).__name__}: {error}")
meter.close()
print(json.dumps(found))
"""


def read_twice(folder: Path, state: str) -> list[Any]:
    """What two reads of the meter give, with this state of the controller."""
    device, control = folder / "ipmi0", folder / "control"
    device.touch()
    control.write_text(state)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(device)],
        env={"LD_PRELOAD": str(build.built() / build.IPMI_DEVICE), "SIM_IPMI": str(control)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (f"0 1190 {IS_MEASURING} 0", 1190.0),
        (f"0 65535 {IS_MEASURING} 0", 65535.0),
        ("0 1190 0 0", "SensorReadError: the power meter is off: sudo ipmitool dcmi power activate"),
        (f"0 0 {IS_MEASURING} 0", "SensorReadError: the management controller says 0 W"),
        ("193 0 0 0", "SensorUnavailable: the management controller has no DCMI power reading"),
        ("192 0 0 0", "SensorReadError: the management controller refuses: it is busy (0xC0)"),
        ("212 0 0 0", "SensorReadError: the management controller refuses: it lacks the privilege (0xD4)"),
        ("damaged", "Input/output error"),
    ],
)
def test_what_the_controller_answers(state: str, expected: float | str, tmp_path: Path):
    for found in read_twice(tmp_path, state):
        if isinstance(expected, str):
            assert expected in found
        else:
            assert found == expected


@pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
def test_a_controller_that_takes_its_time_is_waited_for(tmp_path: Path):
    assert read_twice(tmp_path, f"0 500 {IS_MEASURING} 300") == [500.0, 500.0]


def test_a_machine_without_a_controller_says_what_to_load(tmp_path: Path):
    with pytest.raises(SensorUnavailable) as error:
        ipmi.open_meter(NodeMeterSettings(argument=str(tmp_path / "ipmi0")))
    assert error.value.remedy.startswith("sudo modprobe ipmi_devintf ipmi_si")


def test_a_device_that_is_root_s_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(SensorUnavailable) as error:
        ipmi.open_meter(NodeMeterSettings(argument=str(tmp_path / "ipmi0")))
    assert "as root" in error.value.remedy


def test_a_kernel_that_does_not_know_the_device_is_an_error_of_one_read(tmp_path: Path):
    path = tmp_path / "ipmi0"
    path.touch()
    meter = ipmi.open_meter(NodeMeterSettings(argument=str(path)))
    with pytest.raises(SensorReadError, match="Inappropriate ioctl"):
        meter.read()
    meter.close()


def test_a_device_that_was_taken_away_is_opened_again_when_it_is_back(tmp_path: Path):
    path = tmp_path / "ipmi0"
    path.touch()
    meter = ipmi.open_meter(NodeMeterSettings(argument=str(path)))
    for is_there, expected in ((True, "Inappropriate"), (False, "No such file"), (True, "Inappropriate")):
        path.touch() if is_there else path.unlink()
        with pytest.raises(SensorReadError, match=expected):
            meter.read()
    meter.close()
