"""The node meters that are files: which of them is the node's, and what bad files give."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.core.errors import SensorReadError, SensorUnavailable
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.ports import NodeMeter, NodeMeterSettings
from carbonmon.hardware.node_meters import acpi, cray
from tests.simulator.node import AcpiTree, CrayTree
from tests.simulator.profiles import Constant
from tests.support.harness import FakeClock


def acpi_meter(sysfs: Path, argument: str = "") -> NodeMeter:
    return acpi.open_meter(NodeMeterSettings(sysfs, argument))


def cray_meter(sysfs: Path) -> NodeMeter:
    return cray.open_meter(NodeMeterSettings(sysfs))


def test_the_mean_power_of_the_firmware_is_read_from_the_acpi_device(tmp_path: Path):
    AcpiTree(tmp_path, Constant(432.5), power1_model_number="R760")
    meter = acpi_meter(tmp_path)
    assert meter.read() == NodeReading(power_w=432.5)
    assert meter.describe() == "ACPI power meter ACPI000D:00, R760: mean power"


def test_the_files_may_also_lie_in_hwmon_itself(tmp_path: Path):
    folder = tmp_path / "class/hwmon/hwmon3"
    folder.mkdir(parents=True)
    (folder / "name").write_text("power_meter\n")
    (folder / "power1_average").write_text("250000000\n")
    assert acpi_meter(tmp_path).read().power_w == 250.0


@pytest.mark.parametrize(
    "files",
    [
        {"power1_oem_info": "Module Power Socket 0"},
        {"power1_oem_info": "Grace Power Socket 1"},
        {"power1_is_battery": "1"},
        {"name": "acpitz"},
    ],
)
def test_a_battery_a_socket_of_grace_and_another_chip_are_no_meter_of_the_node(
    files: dict[str, str], tmp_path: Path
):
    AcpiTree(tmp_path, Constant(100.0), **files)
    with pytest.raises(SensorUnavailable, match="the firmware offers no power meter of the node"):
        acpi_meter(tmp_path)


def test_of_two_meters_none_is_guessed_and_the_mend_names_them(tmp_path: Path):
    AcpiTree(tmp_path, Constant(100.0), device="ACPI000D:00", number=0)
    AcpiTree(tmp_path, Constant(200.0), device="ACPI000D:01", number=1)
    with pytest.raises(SensorUnavailable) as error:
        acpi_meter(tmp_path)
    assert error.value.remedy == "--node-meter acpi:ACPI000D:00, or another of ACPI000D:00, ACPI000D:01"
    assert acpi_meter(tmp_path, "ACPI000D:01").read().power_w == 200.0
    with pytest.raises(SensorUnavailable, match="no power meter ACPI000D:02") as error:
        acpi_meter(tmp_path, "ACPI000D:02")
    assert error.value.remedy == "--node-meter acpi:ACPI000D:00"


@pytest.mark.parametrize("text", ["unknown", "", "-1", "12 W", "1e6", "9" * 30])
def test_a_power_that_is_no_number_is_an_error_that_names_the_file(text: str, tmp_path: Path):
    tree = AcpiTree(tmp_path, Constant(100.0))
    meter = acpi_meter(tmp_path)
    tree.say(text)
    with pytest.raises(SensorReadError, match=r"power1_average.* is no number"):
        meter.read()


def test_a_file_that_vanishes_is_an_error_and_not_0(tmp_path: Path):
    tree = AcpiTree(tmp_path, Constant(100.0))
    meter = acpi_meter(tmp_path)
    (tree.folder / "power1_average").unlink()
    with pytest.raises(SensorReadError, match="No such file"):
        meter.read()


@pytest.mark.parametrize("are_on_the_device", [True, False])
def test_a_meter_whose_driver_is_loaded_again_is_found_under_its_new_number(
    are_on_the_device: bool, tmp_path: Path
):
    tree = AcpiTree(tmp_path, Constant(100.0), number=0)
    power, hwmon = tree.folder / "power1_average", tree.folder / "hwmon"
    if not are_on_the_device:
        power = power.rename(hwmon / "hwmon0/power1_average")
    meter = acpi_meter(tmp_path)
    assert meter.read().power_w == 100.0
    (hwmon / "hwmon0").rename(hwmon / "hwmon5")
    links = tmp_path / "class/hwmon"
    (links / "hwmon0").unlink()
    (links / "hwmon5").symlink_to(hwmon / "hwmon5")
    AcpiTree(tmp_path, Constant(999.0), device="ACPI000D:01", number=0)  # which has its old number
    assert meter.read().power_w == 100.0


def test_cray_tells_the_energy_and_the_power_of_the_node(tmp_path: Path):
    CrayTree(tmp_path, Constant(1500.0), start_j=77)
    assert cray_meter(tmp_path).read() == NodeReading(1500.0, 77_000_000, "1 1")


def test_a_machine_that_is_no_cray_says_so(tmp_path: Path):
    with pytest.raises(SensorUnavailable, match="this is no node of a Cray"):
        cray_meter(tmp_path)


def test_counters_of_a_cray_that_begin_anew_have_another_line(tmp_path: Path):
    tree = CrayTree(tmp_path, Constant(1500.0))
    meter = cray_meter(tmp_path)
    before = meter.read()
    tree.restart(1.0, start_j=10**9)
    after = meter.read()
    assert (before.line, after.line) == ("1 1", "2 1")


def test_counters_of_a_cray_that_nobody_refreshes_are_an_error(tmp_path: Path):
    tree = CrayTree(tmp_path, Constant(1500.0))
    clock = FakeClock()
    meter = cray.CrayMeter(NodeMeterSettings(tmp_path), clock.now_s)
    meter.read()
    clock.time_s += cray.STALE_S
    with pytest.raises(SensorReadError, match="not refreshed any more"):
        meter.read()
    tree.write(0.1)
    assert meter.read().power_w == 1500.0


def test_many_reads_within_one_sample_of_a_cray_are_no_error(tmp_path: Path):
    """Each run that begins or ends has a sample of its own, however many there are at once."""
    CrayTree(tmp_path, Constant(1500.0))
    meter = cray.CrayMeter(NodeMeterSettings(tmp_path), FakeClock().now_s)
    assert {meter.read().power_w for _ in range(50)} == {1500.0}


@pytest.mark.parametrize("text", ["", "12 W 17 us", "x J 17 us"])
def test_a_counter_of_a_cray_with_another_unit_is_an_error(text: str, tmp_path: Path):
    tree = CrayTree(tmp_path, Constant(1500.0))
    meter = cray_meter(tmp_path)
    (tree.folder / "energy").write_text(text)
    with pytest.raises(SensorReadError, match=r"energy: .* is no number of J"):
        meter.read()
