"""RAPL through pyRAPL, each time in a process of its own for which the simulated tree is /sys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.sensors import rapl
from carbonmon.hardware.sensors.rapl.zones import discover
from tests.simulator import Constant, Package, Simulator, can_build, can_wrap

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
needs_namespace = pytest.mark.skipif(
    not can_wrap(), reason="no mount namespace: pyRAPL sees only the real /sys"
)

PACKAGE = Package(profile=Constant(120), dram=Constant(15), start_uj=5_000_000_000, dram_start_uj=70_000_000)
OTHER = Package(profile=Constant(90), dram=Constant(12), start_uj=60_000_000, dram_start_uj=9_000_000)

OPEN_AND_READ = """
import json, logging, sys
from pathlib import Path
from carbonmon.ports import SensorSettings
from carbonmon.hardware.sensors import rapl
sensor = rapl.open_sensor(SensorSettings())
direct = rapl.open_sensor(SensorSettings(sysfs=Path("/sys/../sys")))
readings = [[reading.energy_uj for reading in one.read(0.0)] for one in (direct, sensor, direct)]
assert not logging.getLogger().handlers and logging.root.manager.disable == 0
assert None not in sys.modules.values()
print(json.dumps({
    "how": sensor.sources()[0].reason,
    "devices": [device.id for device in sensor.devices()],
    "readings": readings,
    "pandas": "pandas" in sys.modules,
}))
"""


@pytest.fixture
def machine() -> Iterator[Simulator]:
    with Simulator(packages=[PACKAGE, OTHER]) as simulated:
        simulated.freeze()
        yield simulated


def pyrapl_says(machine: Simulator, **environ: str) -> dict[str, Any]:
    command = machine.wrap([sys.executable, "-c", OPEN_AND_READ])
    env = {**os.environ, **machine.environ, **environ}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@needs_namespace
def test_pyrapl_and_the_files_agree_on_every_zone(machine: Simulator):
    said = pyrapl_says(machine)
    assert said["devices"] == ["package-0", "dram-0", "package-1", "dram-1"]
    assert said["how"].endswith("4 through pyRAPL, 0 directly")
    before, by_pyrapl, after = said["readings"]
    assert before == by_pyrapl == after, "time stands still"


@needs_namespace
def test_importing_pyrapl_makes_no_noise_and_imports_no_pandas(machine: Simulator, tmp_path: Path):
    for name in ("pandas", "pymongo"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    said = pyrapl_says(
        machine,
        PYTHONPATH=str(tmp_path),
        PYTHONPYCACHEPREFIX=str(tmp_path / "compiled-anew"),
        PYTHONWARNINGS="default::DeprecationWarning,default::SyntaxWarning",
    )
    assert said["pandas"] is False
    assert "4 through pyRAPL" in said["how"]


@needs_namespace
def test_a_broken_pyrapl_is_a_reason_and_the_files_are_read(machine: Simulator, tmp_path: Path):
    (tmp_path / "pyRAPL.py").write_text("raise RuntimeError('too new a Python')")
    said = pyrapl_says(machine, PYTHONPATH=str(tmp_path))
    assert said["how"].endswith("0 through pyRAPL, 4 directly (pyRAPL cannot be imported: too new a Python)")
    assert said["readings"][0] == said["readings"][1]


@needs_namespace
def test_where_pyrapl_stumbles_over_an_offline_cpu_the_files_are_read(machine: Simulator):
    machine.cpus.set_offline(1)
    said = pyrapl_says(machine)
    assert "0 through pyRAPL, 4 directly (pyRAPL refuses dram-1: FileNotFoundError" in said["how"]
    assert said["readings"][0] == said["readings"][1]


@needs_namespace
def test_a_package_that_pyrapl_does_not_see_is_read_from_its_file(machine: Simulator):
    for cpu in (2, 3):
        topology = machine.sysfs / f"devices/system/cpu/cpu{cpu}/topology/physical_package_id"
        topology.write_text("0\n")
    said = pyrapl_says(machine)
    assert "2 through pyRAPL, 2 directly (pyRAPL refuses dram-1: PyRAPLBadSocketIdException" in said["how"]
    assert said["readings"][0] == said["readings"][1]


@needs_namespace
def test_dies_that_pyrapl_would_confuse_are_read_from_their_files():
    packages = [
        Package(profile=Constant(100), socket=0, die=0, start_uj=10**6),
        Package(profile=Constant(50), socket=0, die=1, start_uj=10**9),
    ]
    with Simulator(packages=packages) as machine:
        machine.freeze()
        said = pyrapl_says(machine)
        assert said["how"].endswith("0 through pyRAPL, 2 directly")
        assert said["readings"][0] == said["readings"][1]


def test_another_root_is_read_directly_and_says_so(machine: Simulator):
    with closing(rapl.open_sensor(SensorSettings(sysfs=machine.sysfs))) as sensor:
        assert f"pyRAPL reads /sys only, not {machine.sysfs}" in sensor.sources()[0].reason


def test_a_reader_of_pyrapl_that_fails_once_is_replaced_by_the_file():
    class Dead:
        def read_uj(self) -> int:
            raise ValueError("I/O operation on closed file")

        def close(self) -> None:
            pass

    with Simulator(packages=[PACKAGE]) as machine:
        zones, _ = discover(machine.sysfs)
        with closing(rapl.RaplSensor([(zones[0], Dead())], [])) as sensor:
            assert list(sensor.read(0.0)) == [Failure("package-0", "garbage", "I/O operation on closed file")]
            (again,) = sensor.read(1.0)
            assert isinstance(again, Reading)
            assert again.energy_uj is not None
