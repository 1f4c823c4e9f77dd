"""Files of /sys and /proc with anything in them: a source that serves, or that says why it cannot."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import SensorReadError, SensorUnavailable
from carbonmon.core.model import Failure, Reading
from carbonmon.core.ports import NodeMeterSettings, Sensor, SensorSettings
from carbonmon.hardware.node_meters import acpi, cray
from carbonmon.hardware.node_meters.redfish import chassis
from carbonmon.hardware.sensors import dram, rapl, tdp
from carbonmon.hardware.sensors.rapl.readers import DirectReader
from carbonmon.hardware.sensors.rapl.zones import Zone, discover
from tests.fuzz.folders import scratch
from tests.fuzz.strategies import damaged_bytes
from tests.simulator.node import AcpiTree, CrayTree
from tests.simulator.profiles import Constant
from tests.support.effort import examples
from tests.support.recorded import RecordedMachine, recorded_machine

pytestmark = pytest.mark.timeout(240)

COUNTS = [
    *(b"", b"0", b"0\n", b"5000\n", b"18446744073709551615\n", b"18446744073709551616\n", b"1" * 20),
    *(b"-1\n", b"-0", b"+5", b"1_000\n", b"1e3", b"0x10", b"12 34", b"nan", b"1\n2\n", b" 7 \n", b"\n"),
    *(b"9" * 64, b"9" * 70, b"9" * 5000, b"0" * 5000 + b"1", b" " * 100 + b"5", b"5" + b" " * 100 + b"6"),
    *("٣".encode(), "²".encode(), b"\xff\xfe", b"\0", b"5\0", b"262143328850\n"),
]
COUNT_FILES = (
    st.sampled_from(COUNTS) | st.binary(max_size=30) | st.integers().map(lambda number: b"%d\n" % number)
)
NAMES = st.sampled_from(
    [
        *(b"package-0\n", b"package-1\n", b"package-0-die-1\n", b"dram\n", b"core\n", b"psys\n", b"", b"\n"),
        *(b"package-", b"package--1", b"package-0x", b"package-" + b"1" * 5000, b"Package-0", b"xpackage-0"),
        *("package-٣".encode(), b"package-0-die-", b"package-0" + b" " * 5000 + b"x", b"dram\0", b"\xff"),
    ]
) | st.binary(max_size=20)
FOLDERS = st.sampled_from(
    [
        "intel-rapl:0",
        "intel-rapl:1",
        "intel-rapl:0:0",
        "intel-rapl:1:0",
        "intel-rapl:٣",
        "intel-rapl:" + "1" * 200,
    ]
)
ZONES = st.dictionaries(FOLDERS, st.tuples(NAMES, COUNT_FILES, COUNT_FILES), max_size=5)


# ---- powercap ----


@given(COUNT_FILES)
@examples(300)
def test_a_counter_is_the_whole_number_that_is_there_or_an_error(data: bytes):
    with scratch() as folder:
        (folder / "energy_uj").write_bytes(data)
        with closing(DirectReader(Zone(folder, "package-0", "package-0", "cpu", 0, None))) as reader:
            try:
                energy_uj = reader.read_uj()
            except (OSError, ValueError) as error:
                assert "energy_uj" in str(error)
                assert re.fullmatch(rb"[0-9]{1,19}\n?", data) is None
            else:
                assert data.split() == [b"%d" % energy_uj] or int(data.split()[0]) == energy_uj
                assert 0 <= energy_uj < 10**20


@given(ZONES)
@examples(150)
def test_only_packages_and_their_memory_are_counted_whatever_the_files_say(
    tree: dict[str, tuple[bytes, bytes, bytes]],
):
    with scratch() as sysfs:
        for name, (zone_name, range_uj, energy_uj) in tree.items():
            folder = sysfs / "class" / "powercap" / name
            folder.mkdir(parents=True)
            (folder / "name").write_bytes(zone_name)
            (folder / "max_energy_range_uj").write_bytes(range_uj)
            (folder / "energy_uj").write_bytes(energy_uj)
        zones, _ = discover(sysfs)
        assert len({zone.device_id for zone in zones}) == len(zones)
        for zone in zones:
            said = tree[zone.path.name][0].strip()
            assert said == b"dram" or re.fullmatch(rb"package-[0-9]{1,9}(-die-[0-9]{1,9})?", said)
            assert zone.range_uj is None or 0 < zone.range_uj < 10**19
            assert 0 <= zone.package < 10**9
        try:
            sensor = rapl.open_sensor(SensorSettings(sysfs=sysfs))
        except SensorUnavailable as refused:
            assert str(sysfs) in refused.reason
        else:
            check(sensor)


@pytest.mark.parametrize("name", ["name", "max_energy_range_uj", "energy_uj"])
def test_a_folder_in_place_of_an_attribute_is_no_value(name: str):
    with scratch() as sysfs:
        folder = sysfs / "class" / "powercap" / "intel-rapl:0"
        folder.mkdir(parents=True)
        for file, text in (("name", "package-0"), ("max_energy_range_uj", "1000"), ("energy_uj", "5")):
            (folder / file).mkdir() if file == name else (folder / file).write_text(text)
        zones, _ = discover(sysfs)
        assert len(zones) == (name != "name")
        if zones:
            assert zones[0].range_uj == (None if name == "max_energy_range_uj" else 1000)
            if name == "energy_uj":
                with pytest.raises(OSError, match="energy_uj"):
                    DirectReader(zones[0]).read_uj()


# ---- /proc ----

LINES = st.sampled_from(
    [
        *(b"cpu  1 2 3 4 5 6 7 8 9 10\n", b"cpu  nan nan nan nan nan nan nan nan nan nan\n", b"cpu  1 2 3\n"),
        *(b"cpu  inf 0 0 0 0 0 0 0 0 0\n", b"cpu  -5 0 0 0 0 0 0 0 0 0\n", b"cpu  1e400 0 0 0 0 0 0 0 0 0\n"),
        *(b"cpu  " + b"9" * 400 + b" 0 0 0 0 0 0 0 0 0\n", b"\n", b"\xff\xfe\n"),
        *(b"model name\t: Mystery\n", b"model name\t: \n", b"model name : " + b"a" * 5000 + b"\n"),
        *(b"model name\t: match_key\n", b"model name\t: \xff\n", b"model name: core i7-920,core i7\n"),
        *(
            b"flags\t: fpu hypervisor\n",
            b"flags : \xff hypervisor\n",
            b"cpu cores\t: 16\n",
            b"cpu cores : -1\n",
        ),
        *(b"cpu cores\t: " + b"9" * 5000 + b"\n", b"cpu cores\t: 0\n", "cpu cores\t: ٣\n".encode()),
        *(b"MemTotal:       1024 kB\n", b"MemTotal: 0 kB\n", b"MemTotal: -1 kB\n", b"MemTotal: 1e9 kB\n"),
        *(
            b"MemTotal: " + b"9" * 5000 + b" kB\n",
            b"MemTotal: " + b"9" * 300 + b" kB\n",
            b"MemTotal:\n\n 5 kB\n",
        ),
        *(
            b"Model: \t\t Tesla T4\n",
            b"Model:\n",
            b"Model: match_key\n",
            b"Model: \xff\n",
            b"GPU UUID: GPU-\n",
        ),
        *(
            b"GPU UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6\n",
            b"GPU UUID: GPU---------\n",
            b"Model: model\n",
        ),
    ]
)
CONTENT = st.lists(LINES, max_size=4).map(b"".join) | st.binary(max_size=40)
PLACES = ["stat", "cpuinfo", "meminfo", *(f"driver/nvidia/gpus/{bus}/information" for bus in ("0:1", "0:2"))]


def check(sensor: Sensor) -> None:
    """Every device has a possible power, and every reading a possible value."""
    with closing(sensor):
        devices = sensor.devices()
        assert len({device.id for device in devices}) == len(devices)
        for device in devices:
            if device.spec is not None:
                assert 0.0 < device.spec.tdp_w < math.inf
                assert 0.0 <= device.spec.uncertainty.low_ratio <= 1.0
                assert 0.0 <= device.spec.uncertainty.high_ratio < math.inf
        for _ in range(2):
            for reading in sensor.read(0.0, True):
                if isinstance(reading, Failure):
                    assert reading.reason in ("io", "garbage", "missing", "permission")
                    continue
                assert isinstance(reading, Reading)
                assert reading.utilization_ratio is None or 0.0 <= reading.utilization_ratio <= 1.0
                assert reading.energy_uj is None or 0 <= reading.energy_uj < 10**20


def open_and_check(open_sensor: Callable[[SensorSettings], Sensor], machine: RecordedMachine) -> None:
    try:
        sensor = open_sensor(machine.settings())
    except SensorUnavailable as refused:
        assert str(machine.procfs) in refused.reason
    else:
        check(sensor)


@given(st.dictionaries(st.sampled_from(PLACES), CONTENT, max_size=3))
@examples(200)
def test_whatever_proc_holds_the_estimates_serve_or_say_why_not(files: dict[str, bytes]):
    with scratch() as folder, recorded_machine(folder) as machine:
        machine.memory(1 << 20)
        for place, data in files.items():
            path = machine.procfs / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        open_and_check(tdp.open_sensor, machine)
        open_and_check(dram.open_sensor, machine)


@given(st.sampled_from(["stat", "cpuinfo"]), st.data())
@examples(100)
def test_times_that_are_damaged_while_they_are_read_are_a_failure_or_a_ratio(name: str, data: st.DataObject):
    with scratch() as folder, recorded_machine(folder) as machine:
        sensor = tdp.open_sensor(machine.settings())
        machine.pass_time(user=20, idle=80)
        path: Path = machine.procfs / name
        whole = path.read_bytes()
        path.write_bytes(data.draw(damaged_bytes(whole) | CONTENT))
        check(sensor)
        machine.pass_time(user=10**7, idle=10**7)
        path.write_bytes(whole) if name == "cpuinfo" else None
        (reading,) = sensor.read(0.0, True)
        assert isinstance(reading, Reading), "it recovers with the next times that can be read"


@given(st.binary(max_size=8) | st.sampled_from(COUNTS))
@examples(80)
def test_a_package_number_that_is_none_is_left_out(number: bytes):
    with scratch() as folder, recorded_machine(folder) as machine:
        path = machine.sysfs / "devices/system/cpu/cpu0/topology/physical_package_id"
        path.write_bytes(number)
        ids = [device.id for device in tdp.open_sensor(machine.settings()).devices()]
        assert all(re.fullmatch(r"package-[0-9]{1,9}", device_id) for device_id in ids)


# ---- meters of the whole machine ----


@given(COUNT_FILES, COUNT_FILES)
@examples(200)
def test_files_of_a_node_meter_give_a_reading_or_say_what_is_wrong_with_which(power: bytes, more: bytes):
    with scratch() as sysfs:
        tree, counters = AcpiTree(sysfs, Constant(1.0)), CrayTree(sysfs, Constant(1.0))
        (tree.folder / "power1_model_number").write_bytes(more)
        meters = [open_meter(NodeMeterSettings(sysfs)) for open_meter in (acpi.open_meter, cray.open_meter)]
        (tree.folder / "power1_average").write_bytes(power)
        (counters.folder / "energy").write_bytes(power + more)
        (counters.folder / "startup").write_bytes(more)
        for meter in meters:
            try:
                said = meter.read()
            except SensorReadError as error:
                assert str(sysfs) in str(error)
            else:
                assert said.power_w is not None
                assert 0.0 <= said.power_w < math.inf
            assert meter.describe()


WORDS = st.sampled_from(
    [
        *("PowerWatts", "EnergykWh", "EnergyJoules", "Reading", "LifetimeReading", "SensorResetTime"),
        *("PowerControl", "PowerConsumedWatts", "Links", "ContainedBy", "@odata.id", "Members", "Power"),
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(WORDS, JSON, max_size=5))
@examples(300)
def test_whatever_a_redfish_service_says_is_a_possible_quantity_or_unknown(document: dict[str, Any]):
    said = chassis.reading_of(document)
    assert said.power_w is None or 0.0 < said.power_w < math.inf
    assert said.energy_uj is None or said.energy_uj >= 0
    for path in (*chassis.links_of(document), *chassis.references(document, "Members")):
        assert path == "" or path.startswith("/")
    chassis.is_part(document)
