"""CPU packages and memory through powercap: zones, readers, and what is done where a file cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.sensors import rapl
from carbonmon.hardware.sensors.rapl.readers import DirectReader
from carbonmon.hardware.sensors.rapl.zones import Zone, discover, mirrors
from tests.simulator import Constant, Package, Simulator, can_build, can_wrap
from tests.support.harness import Monitor
from tests.support.open_files import open_files

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")
needs_namespace = pytest.mark.skipif(
    not can_wrap(), reason="no mount namespace: pyRAPL sees only the real /sys"
)

CARBONMON = str(Path(sys.executable).with_name("carbonmon"))
NOBODY = 65534

PACKAGE = Package(profile=Constant(120), dram=Constant(15), start_uj=5_000_000_000, dram_start_uj=70_000_000)
OTHER = Package(profile=Constant(90), dram=Constant(12), start_uj=60_000_000, dram_start_uj=9_000_000)


@pytest.fixture
def machine() -> Iterator[Simulator]:
    with Simulator(packages=[PACKAGE, OTHER]) as simulated:
        simulated.freeze()
        yield simulated


def opened(machine: Simulator) -> rapl.RaplSensor:
    return rapl.open_sensor(SensorSettings(sysfs=machine.sysfs))


# ---- zones ----


def test_zones_are_found_by_number_from_links_and_from_folders_alike(tmp_path: Path):
    for place in (10, 2, 0):
        folder = tmp_path / f"class/powercap/intel-rapl/intel-rapl:{place}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"package-{place}\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
    zones, left_out = discover(tmp_path)
    assert [zone.device_id for zone in zones] == ["package-0", "package-2", "package-10"]
    assert left_out == []


def test_memory_is_found_beside_core_and_uncore_or_alone():
    packages = [Package(core=Constant(5), uncore=Constant(5), dram=Constant(9)), Package(dram=Constant(9))]
    with Simulator(packages=packages) as machine:
        zones, _ = discover(machine.sysfs)
        assert [zone.device_id for zone in zones] == ["package-0", "dram-0", "package-1", "dram-1"]
        assert [zone.component for zone in zones] == ["cpu", "dram", "cpu", "dram"]
        assert zones[1].path.name == "intel-rapl:0:2"


def test_dies_have_their_own_devices_and_memory():
    packages = [
        Package(dram=Constant(9), socket=0, die=0, start_uj=1_000),
        Package(dram=Constant(8), socket=0, die=1, start_uj=10**9, dram_start_uj=10**8),
    ]
    with Simulator(packages=packages) as machine, closing(opened(machine)) as sensor:
        ids = [device.id for device in sensor.devices()]
        assert ids == ["package-0-die-0", "dram-0-die-0", "package-0-die-1", "dram-0-die-1"]
        assert {device.index for device in sensor.devices()} == {0}


def test_domains_that_overlap_are_named_and_left_out():
    package = Package(profile=Constant(80), core=Constant(60), mmio=True)
    with Simulator(packages=[package], psys=Constant(200)) as machine, closing(opened(machine)) as sensor:
        assert [device.id for device in sensor.devices()] == ["package-0"]
        left_out = {source.name: source.reason for source in sensor.sources() if source.use == "not used"}
        assert left_out.keys() == {"rapl psys", "rapl mmio"}
        assert "twice" in left_out["rapl psys"]


def test_two_zones_of_one_name_stay_two_devices(tmp_path: Path):
    for place in (0, 1):
        folder = tmp_path / f"class/powercap/intel-rapl:{place}"
        folder.mkdir(parents=True)
        (folder / "name").write_text("package-0\n")
    zones, _ = discover(tmp_path)
    assert [zone.device_id for zone in zones] == ["package-0", "package-0-zone-2"]


def test_a_mirrored_die_is_left_out_and_its_file_is_closed():
    packages = [
        Package(profile=Constant(100), start_uj=1_000_000, socket=0, die=0),
        Package(mirrors=0, socket=0, die=1),
    ]
    with Simulator(packages=packages) as machine:
        machine.freeze()
        sensor = opened(machine)
        assert [device.id for device in sensor.devices()] == ["package-0-die-0"]
        assert len(open_counters()) == 1, "the mirror's is closed"
        sensor.close()
        assert open_counters() == []


def open_counters() -> list[str]:
    """The counters that this process holds open; other tests' files may be closed at any moment."""
    return [path.name for path in open_files() if path.name == "energy_uj"]


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        ([9, *[10] * 9], [8, *[10] * 9], True),  # refreshed a moment apart, then seen as one
        (list(range(10, 30)), list(range(50, 70)), False),
        ([0] * 20, [0] * 20, False),  # counters that never counted tell nothing
    ],
)
def test_a_mirror_is_a_counter_that_lies_between_two_readings_of_the_other(
    first: list[int], second: list[int], are_one: bool
):
    class Recorded:
        def __init__(self, values: list[int]) -> None:
            self._values = iter(values)

        def read_uj(self) -> int:
            return next(self._values)

    zones = [Zone(Path(), f"package-{n}", f"package-{n}", "cpu", n, None) for n in (0, 1)]
    found = mirrors([(zones[0], Recorded(first)), (zones[1], Recorded(second))])
    assert found == ([(zones[1], zones[0])] if are_one else [])


def test_without_the_range_of_a_counter_a_decrease_is_a_reset(machine: Simulator):
    for key in ("package-0", "package-1"):
        (machine.zones[key].folder / "max_energy_range_uj").unlink()
    with Monitor(machine, sensors=("rapl",)) as monitor:
        assert monitor.device("package-0").device.counter_range_uj is None
        monitor.watch(10)
        machine.zones["package-0"].fault(reset_at=machine.now_s())
        monitor.watch(10)
        state = monitor.device("package-0")
        assert (state.resets, state.unobserved_s) == (1, 1.0)
        assert state.energy_j == pytest.approx(120.0 * 19, rel=0.005)


@pytest.mark.parametrize("text", ["", "0", "-5", "many", "1e9", "²"])
def test_a_range_that_is_no_range_is_none(tmp_path: Path, text: str):
    folder = tmp_path / "class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("package-0\n")
    (folder / "max_energy_range_uj").write_text(text)
    (zone,), _ = discover(tmp_path)
    assert zone.range_uj is None


# ---- files that cannot be read ----


@pytest.mark.parametrize("content", ["garbage", "empty", "negative", "binary"])
def test_a_file_without_a_number_fails_alone_and_is_read_again_when_it_has_one(
    machine: Simulator, content: str
):
    with Monitor(machine, sensors=("rapl",)) as monitor:
        monitor.watch(5)
        machine.zones["package-0"].fault(file=content)
        monitor.watch(3)
        assert dict(monitor.latest.sensors[0].errors) == {"garbage": 3}
        machine.zones["package-0"].clear()
        monitor.watch(5)
        assert dict(monitor.latest.sensors[0].errors) == {"garbage": 3}
        for device_id in ("package-0", "dram-0", "package-1", "dram-1"):
            assert abs(monitor.error_ratio(device_id)) < 0.005
            assert monitor.device(device_id).unobserved_s == 0.0


@pytest.mark.parametrize(
    ("content", "reason"), [("missing", "missing"), ("directory", "io"), ("empty", "garbage")]
)
def test_a_file_that_is_not_there_yet_is_waited_for(machine: Simulator, content: str, reason: str):
    machine.zones["dram-1"].fault(file=content)
    with Monitor(machine, sensors=("rapl",)) as monitor:
        (late,) = [source for source in monitor.sensors.sources if source.name == "rapl dram-1"]
        assert (late.use, late.reason.startswith("not readable yet")) == ("used", True)
        monitor.watch(3)
        assert dict(monitor.latest.sensors[0].errors) == {reason: 4}
        machine.zones["dram-1"].clear()
        monitor.watch(10)
        state = monitor.device("dram-1")
        assert state.counter_j == pytest.approx(12.0 * (13 - state.unobserved_s), rel=0.01)
        assert state.unobserved_s <= 4.0
        assert abs(monitor.error_ratio("package-1")) < 0.005


def test_a_file_that_goes_away_is_opened_anew_when_it_is_back(tmp_path: Path):
    zone = Zone(tmp_path, "package-0", "package-0", "cpu", 0, None)
    file = tmp_path / "energy_uj"
    with closing(DirectReader(zone)) as reader:
        for text in (None, "12\n", "x\n", "13\n"):
            if text is None:
                with pytest.raises(FileNotFoundError):
                    reader.read_uj()
                continue
            file.write_text(text)
            if text == "x\n":
                file.replace(tmp_path / "old")  # what is open now has no successor under its name
                (tmp_path / "old").write_text(text)
                with pytest.raises(ValueError, match="energy_uj: b'x"):
                    reader.read_uj()
                continue
            assert reader.read_uj() == int(text)


@pytest.mark.parametrize(
    ("flags", "says", "does_not_say"),
    [
        ("fpu", ("modprobe intel_rapl_msr", "--sysfs", "--cpu-tdp"), "host can"),
        ("fpu hypervisor", ("host can hand counters on", "--cpu-tdp W", "--cpu-model"), "modprobe"),
    ],
)
def test_without_powercap_it_says_what_helps_on_this_machine(
    tmp_path: Path, flags: str, says: tuple[str, ...], does_not_say: str
):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : Some CPU\nflags : {flags}\n")
    with pytest.raises(SensorUnavailable) as refused:
        rapl.open_sensor(SensorSettings(sysfs=tmp_path, procfs=tmp_path))
    assert str(tmp_path / "class/powercap/intel-rapl") in refused.value.reason
    for text in says:
        assert text in refused.value.remedy
    assert does_not_say not in refused.value.remedy


@needs_namespace
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_without_rights_doctor_names_the_path_and_the_cure_and_the_estimate_steps_in(machine: Simulator):
    counters = [zone.folder / "energy_uj" for zone in machine.zones.values()]
    for counter in counters:
        os.chown(counter, NOBODY, NOBODY)
    # Root without the right to overrule permissions: as another user, Python itself may be out of reach.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
    try:
        done = subprocess.run(
            machine.wrap([*drop, CARBONMON, "doctor", "--json"]),
            env={**os.environ, **machine.environ, "HOME": "/"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        for counter in counters:
            os.chown(counter, 0, 0)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    document = json.loads(done.stdout)
    source = next(source for source in document["sources"] if source["source"] == "rapl")
    assert source["state"] == "not used"
    assert "Permission denied: '/sys/" in source["reason"] and "energy_uj" in source["reason"]
    assert "chgrp" in source["remedy"] and "/sys/devices/virtual/powercap/intel-rapl" in source["remedy"]
    methods = {device["id"]: device["methods"] for device in document["devices"]}
    assert methods == {"package-0": ["tdp"], "package-1": ["tdp"], "dram-0": ["tdp"]}


def test_one_zone_without_rights_is_named_and_the_others_are_read(
    machine: Simulator, monkeypatch: pytest.MonkeyPatch
):
    read_uj = DirectReader.read_uj

    def denied(self: DirectReader) -> int:
        if "intel-rapl:1:0" in self._path:
            raise PermissionError(13, "Permission denied", self._path)
        return read_uj(self)

    monkeypatch.setattr(DirectReader, "read_uj", denied)  # root is denied nothing
    with closing(opened(machine)) as sensor:
        assert [device.id for device in sensor.devices()] == ["package-0", "dram-0", "package-1"]
        (source,) = [source for source in sensor.sources() if source.name == "rapl dram-1"]
        assert (source.use, "chgrp" in source.remedy) == ("not used", True)
