"""How much of the machine is ours, and what its CPUs are called: what /proc and /sys show, held together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import Device
from carbonmon.hardware.arm_cpus import arm_cpu
from carbonmon.hardware.cpu_info import read_cpu_info
from carbonmon.hardware.cpu_quota import quota_cpus
from carbonmon.hardware.sensors import rapl, tdp
from tests.support.recorded import XEON, RecordedMachine, recorded_machine

EPYC = "AMD EPYC 9754 128-Core Processor"
"""360 W, 128 cores with two threads each."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[RecordedMachine]:
    with recorded_machine(tmp_path) as recorded:
        yield recorded


def packages(machine: RecordedMachine, **more: Any) -> list[Device]:
    """The CPU packages that are estimated, as the sensor describes them."""
    return [each for each in tdp.open_sensor(machine.settings(**more)).devices() if each.component == "cpu"]


def counters(machine: RecordedMachine) -> rapl.RaplSensor:
    """RAPL as it was opened; its files are closed again."""
    sensor = rapl.open_sensor(machine.settings())
    sensor.close()
    return sensor


def watts(machine: RecordedMachine, **more: Any) -> float:
    """The TDP of all packages together, in W."""
    return sum(device.spec.tdp_w for device in packages(machine, **more) if device.spec is not None)


# ---- virtual machines ----


@pytest.mark.parametrize(
    ("implementer", "part", "vendor", "product", "threads", "name", "tdp_w"),
    [
        (0x41, 0xD40, "Amazon EC2", "c7g.xlarge", 4, "AWS Graviton3", 100 * 4 / 64),
        (0x41, 0xD40, "Amazon EC2", "c7g.metal", 64, "AWS Graviton3", 100),
        (0x41, 0xD0C, "Amazon EC2", "m6g.large", 2, "AWS Graviton2", 110 * 2 / 64),
        (0x41, 0xD4F, "Amazon EC2", "r8g.xlarge", 4, "AWS Graviton4", 2.2 * 4),
        (0x41, 0xD4F, "Google", "Google Compute Engine", 8, "Google Axion", 2.2 * 8),
        (0x41, 0xD4F, "NVIDIA", "P4352", 72, "NVIDIA Grace", 250),
        (0x41, 0xD4F, "QEMU", "KVM Virtual Machine", 18, "NVIDIA Grace", 250 * 18 / 72),
        (0x41, 0xD0C, "Google", "Google Compute Engine", 4, "Ampere Altra Q80-30", 210 * 4 / 80),
        (0x41, 0xD0C, "Microsoft Corporation", "Virtual Machine", 16, "Ampere Altra Q80-30", 210 * 16 / 80),
        (0x41, 0xD0C, "GIGABYTE", "R152-P30", 80, "Ampere Altra Q80-30", 210),
        (0x41, 0xD0C, "Supermicro", "ARS-210M", 128, "Ampere Altra Max M128-30", 250),
        (0x6D, 0xD49, "Microsoft Corporation", "Virtual Machine", 4, "Microsoft Azure Cobalt 100", 2.2 * 4),
        (0x41, 0xD49, "Microsoft Corporation", "Virtual Machine", 4, "Microsoft Azure Cobalt 100", 2.2 * 4),
        (0x41, 0xD49, "Alibaba Cloud", "Alibaba Cloud ECS", 8, "Alibaba Yitian 710", 2.2 * 8),
        (0x48, 0xD01, "Huawei", "TaiShan 200", 64, "Huawei Kunpeng 920", 180),
        (0x48, 0xD01, "OpenStack Foundation", "OpenStack Nova", 8, "Huawei Kunpeng 920", 180 * 8 / 64),
        (0xC0, 0xAC3, "Oracle", "BM.Standard.A2", 192, "Ampere AmpereOne", 350),
        (0x46, 0x001, "FUJITSU", "FX700", 48, "Fujitsu A64FX", 170),
        (0x41, 0xD4F, "", "", 4, "Arm Neoverse V2", 2.2 * 4),
        (0x41, 0xD08, "", "", 4, "Arm Cortex-A72", 2.2 * 4),
        (0x41, 0xFFF, "", "", 4, "Arm CPU (implementer 0x41, part 0xfff)", 2.2 * 4),
    ],
)
def test_an_arm_machine_is_named_by_its_numbers_and_has_the_share_that_it_sees(
    machine: RecordedMachine,
    implementer: int,
    part: int,
    vendor: str,
    product: str,
    threads: int,
    name: str,
    tdp_w: float,
) -> None:
    machine.arm(implementer, part, threads)
    machine.packages(threads)
    machine.dmi(vendor, product)
    (device,) = packages(machine)
    assert device.name == name
    assert device.spec is not None
    assert device.spec.tdp_w == pytest.approx(tdp_w)
    assert "named by" in device.spec.source
    assert f"{implementer:#x}" in device.spec.source


def test_the_user_s_model_of_an_arm_virtual_machine_is_shared_as_well(machine: RecordedMachine) -> None:
    machine.arm(0x41, 0xD40, 4)
    machine.packages(4)
    (device,) = packages(machine, cpu_model="AWS Graviton3")
    assert device.spec is not None
    assert device.spec.tdp_w == pytest.approx(6.25)
    assert "sees 4 of its 64 hardware threads" in device.spec.source
    assert "4 of the package's 64 hardware threads" in device.share_note


def test_the_firmware_s_name_tells_the_models_of_one_core_apart(machine: RecordedMachine) -> None:
    machine.arm(0x41, 0xD0C)
    machine.packages(64)
    machine.dmi("GIGABYTE")
    folder = machine.sysfs / "firmware/dmi/tables"
    folder.mkdir(parents=True)
    bios = bytes([0, 24, 0, 0]) + bytes(20) + b"Vendor\0\0"
    cpu = bytearray([4, 48, 1, 0]) + bytes(44)
    cpu[0x07], cpu[0x10] = 1, 2
    (folder / "DMI").write_bytes(bios + bytes(cpu) + b"Ampere(R)\0Ampere(R) Altra(R) Processor Q64-30\0\0")
    assert watts(machine) == 180.0
    (folder / "DMI").write_bytes((bios + bytes(cpu) + b"Ampere(R)\0Ampere(R) Al")[:-3])
    assert watts(machine) == pytest.approx(210 * 64 / 80)


@given(st.binary(max_size=200))
def test_firmware_tables_of_any_bytes_are_read_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, table: bytes
) -> None:
    from carbonmon.hardware.smbios import memory_modules, processor_version

    sysfs = tmp_path_factory.mktemp("sys")
    (sysfs / "firmware/dmi/tables").mkdir(parents=True)
    (sysfs / "firmware/dmi/tables/DMI").write_bytes(table)
    assert isinstance(processor_version(sysfs), str)
    assert all(module.size_bytes > 0 for module in memory_modules(sysfs))


def test_many_sockets_of_one_virtual_cpu_are_together_the_same_share(machine: RecordedMachine) -> None:
    machine.arm(0x41, 0xD40, 4)
    machine.packages(1, 0, 1, 2, 3)
    machine.dmi("Amazon EC2", "c7g.xlarge")
    assert len(packages(machine)) == 4
    assert watts(machine) == pytest.approx(6.25)


def test_a_virtual_x86_machine_that_hides_its_hypervisor_has_the_share_that_it_sees(
    machine: RecordedMachine,
) -> None:
    machine.cpuinfo(EPYC, cores=4)
    machine.packages(8)
    (device,) = packages(machine)
    assert device.spec is not None
    assert device.spec.tdp_w == pytest.approx(360 * 8 / 256)
    assert device.max_power_w is None


def test_a_cloud_whose_guests_see_true_cores_sells_them_whole(machine: RecordedMachine) -> None:
    machine.cpuinfo("AMD EPYC 7B13", cores=8, flags="fpu hypervisor")
    machine.packages(8)
    machine.siblings("0")
    assert watts(machine) == pytest.approx(280 * 8 / 128)
    machine.dmi("Google", "Google Compute Engine")
    assert watts(machine) == pytest.approx(280 * 8 / 64)
    machine.siblings("0-1")
    assert watts(machine) == pytest.approx(280 * 8 / 128)


def test_epycs_that_are_sold_without_smt_have_one_thread_per_core(machine: RecordedMachine) -> None:
    machine.cpuinfo("AMD EPYC 9R14", cores=8, flags="fpu hypervisor")
    machine.packages(8)
    assert watts(machine) == pytest.approx(360 * 8 / 96)


def test_a_virtual_machine_of_unknown_cpu_says_that_its_share_is_unknown(machine: RecordedMachine) -> None:
    machine.cpuinfo("AMD EPYC", cores=2, flags="fpu hypervisor")
    (device,) = packages(machine)
    assert "its share of the package is unknown" in device.share_note


# ---- whole machines ----


@pytest.mark.parametrize("threads", [20, 40])
def test_a_machine_with_all_cores_has_the_whole_package_with_or_without_smt(
    machine: RecordedMachine, threads: int
) -> None:
    machine.packages(threads, 0, 1)
    for device in packages(machine):
        assert device.spec is not None
        assert (device.spec.tdp_w, device.max_power_w, device.share_note) == (150.0, 750.0, "")


def test_cpus_that_are_switched_off_stay_ours(machine: RecordedMachine) -> None:
    machine.packages(8)
    (machine.sysfs / "devices/system/cpu/present").write_text("0-39\n")
    assert watts(machine) == 150.0


def test_a_package_with_a_counter_falls_back_to_all_of_it(machine: RecordedMachine) -> None:
    machine.packages(8)
    known = [Device("package-0", "cpu", "package-0", 0, ("counter",))]
    (device,) = packages(machine, known=known)
    assert device.spec is not None
    assert (device.spec.tdp_w, device.max_power_w) == (150.0, 750.0)


def test_clusters_that_an_old_kernel_calls_packages_are_together_one_chip(machine: RecordedMachine) -> None:
    machine.arm(0x41, 0xD0C, 80)
    machine.packages(4, *range(20))
    machine.dmi("GIGABYTE")
    assert watts(machine) == pytest.approx(210.0)


def test_a_machine_without_topology_has_the_cpus_that_proc_stat_counts(machine: RecordedMachine) -> None:
    machine.counted = 6
    machine.pass_time()
    empty = machine.sysfs.parent / "nothing"
    assert read_cpu_info(empty, machine.procfs).threads == {0: 6}


# ---- containers ----


@pytest.mark.parametrize("counted", [1, 2, 64, 511])
def test_a_container_has_its_cpus_share_of_the_host_s_packages(
    machine: RecordedMachine, counted: int
) -> None:
    machine.cpuinfo(EPYC, cores=128)
    machine.packages(256, 0, 1)
    machine.counted = counted
    machine.pass_time()
    assert watts(machine) == pytest.approx(720 * counted / 512)
    for device in packages(machine):
        assert f"container: {counted} of the host's 512 CPUs" in device.share_note
        assert device.spec is not None and device.share_note in device.spec.source
        assert device.max_power_w is None


def test_a_container_of_an_unknown_cpu_has_its_share_too(machine: RecordedMachine) -> None:
    machine.cpuinfo("Mystery CPU 9000", cores=16)
    machine.packages(32)
    machine.counted = 8
    machine.pass_time()
    assert watts(machine) == pytest.approx(7.5 * 16 / 4)


def test_a_container_in_a_virtual_machine_has_a_share_of_its_share(machine: RecordedMachine) -> None:
    machine.cpuinfo(XEON, cores=10, flags="fpu hypervisor")
    machine.packages(20)
    machine.counted = 5
    machine.pass_time()
    assert watts(machine) == pytest.approx(150 * 20 / 40 * 5 / 20)


def test_a_quota_of_part_of_a_cpu_makes_a_container_s_share_smaller(machine: RecordedMachine) -> None:
    machine.packages(40)
    machine.counted = 2
    machine.pass_time()
    machine.cgroup("cpu.max", "150000 100000")
    assert watts(machine) == pytest.approx(150 * 1.5 / 40)


def test_a_quota_where_all_cpus_are_counted_changes_no_share_and_is_said(machine: RecordedMachine) -> None:
    machine.packages(40)
    machine.cgroup("cpu.max", "200000 100000")
    sensor = tdp.open_sensor(machine.settings())
    assert watts(machine) == 150.0
    assert "CPU quota 2 of 40 CPUs" in sensor.sources()[0].reason


def test_the_host_s_counter_is_a_container_s_only_by_its_share_of_the_cpus(machine: RecordedMachine) -> None:
    machine.packages(40)
    machine.rapl(0, 10**9)
    (whole,) = counters(machine).devices()
    assert (whole.share_ratio, whole.share_note) == (1.0, "")
    machine.counted = 4
    machine.pass_time()
    sensor = counters(machine)
    (device,) = sensor.devices()
    assert device.share_ratio == pytest.approx(0.1)
    assert "container: 4 of the host's 40 CPUs" in device.share_note
    assert any("its true one is unknown" in source.reason for source in sensor.sources())
    (fallback,) = packages(machine, known=[device])
    assert fallback.spec is not None
    assert (fallback.spec.tdp_w, fallback.max_power_w) == (150.0, 750.0)


def test_a_counter_in_a_virtual_machine_may_be_the_host_s_and_says_so(machine: RecordedMachine) -> None:
    machine.cpuinfo(XEON, flags="fpu hypervisor")
    machine.rapl(0, 10**9)
    sources = counters(machine).sources()
    assert any("the host's is unknown" in source.reason for source in sources)


def test_the_host_s_sysfs_beside_an_own_proc_is_not_compared(machine: RecordedMachine) -> None:
    """As in a container that has the host's /sys at another place: both may be right."""
    machine.packages(4096)
    info = read_cpu_info(machine.sysfs, Path("/proc"))
    assert info.container_ratio == 1.0


@given(
    st.integers(1, 64), st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True), st.integers(0, 300)
)
def test_no_machine_is_charged_more_than_its_packages(
    tmp_path_factory: pytest.TempPathFactory, threads: int, numbers: list[int], counted: int
) -> None:
    with recorded_machine(tmp_path_factory.mktemp("machine")) as recorded:
        recorded.packages(threads, *numbers)
        recorded.counted = counted
        recorded.pass_time()
        visible = len(list((recorded.sysfs / "devices/system/cpu").glob("cpu[0-9]*")))
        most_w = 150.0 * (max(numbers) + 1) * min(1.0, counted / visible if counted else 1.0)
        assert 0.0 < watts(recorded) <= most_w * (1 + 1e-9)


# ---- quotas ----


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/job/step\n", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "max 100000"}, 4.0),
        ("0::/job/step\n", {"job/cpu.max": "400000 100000", "job/step/cpu.max": "100000 100000"}, 1.0),
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "50000"}, None),
        (
            "4:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/\n", {"cpu.max": "many 100000\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        ("", {"cpu.max": "200000 100000\n"}, 2.0),
        ("", {}, None),
    ],
)
def test_a_quota_is_read_from_both_versions_of_cgroups(
    machine: RecordedMachine, membership: str, files: dict[str, str], cpus: float | None
) -> None:
    for name, text in files.items():
        machine.cgroup(name, text, membership)
    assert quota_cpus(machine.sysfs, machine.procfs) == cpus


# ---- names ----


def test_every_chip_that_is_named_is_in_the_table_or_says_that_its_watts_are_by_core() -> None:
    from carbonmon.hardware.arm_cpus import _CHIPS
    from carbonmon.hardware.cpu_specs import is_known_cpu

    names = {name for chips in _CHIPS.values() for _, name in chips}
    assert {name for name in names if not is_known_cpu(name)} == {"Google Axion N4A"}


@given(st.integers(0, 255), st.integers(0, 4095), st.text(max_size=20), st.text(max_size=20))
def test_any_numbers_have_a_name(implementer: int, part: int, vendor: str, firmware: str) -> None:
    name, how = arm_cpu(implementer, part, vendor, firmware, 4)
    assert name and how
    assert not re.search(r"\bNone\b", name + how.replace(vendor, "").replace(firmware, ""))


def test_a_32_bit_kernel_s_name_of_the_architecture_is_no_model(machine: RecordedMachine) -> None:
    machine.arm(0x41, 0xD08)
    path = machine.procfs / "cpuinfo"
    path.write_text("model name\t: ARMv7 Processor rev 3 (v7l)\n" + path.read_text())
    assert read_cpu_info(machine.sysfs, machine.procfs).model == "Arm Cortex-A72"
