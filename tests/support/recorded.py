"""A recorded machine: the files of /proc and /sys that the estimates look at, in a folder of a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from carbonmon.core.model import Device
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware import cpu_times

XEON = "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz"
"""150 W, 20 cores with two threads each."""
FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")


class RecordedMachine:
    """A recorded /proc and the CPU topology of /sys, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.sysfs, self.procfs = folder / "sys", folder / "proc"
        self.procfs.mkdir()
        self.times = dict.fromkeys(FIELDS, 1000)
        self.counted: int | None = None
        """CPUs that /proc/stat counts, None for those of the topology."""
        self.cpuinfo(XEON)
        self.packages(2)
        self.pass_time()

    def pass_time(self, **jiffies: int) -> None:
        """Add to the CPU's times, in units of 1/100 s."""
        for field, more in jiffies.items():
            self.times[field] += more
        line = " ".join(str(value) for value in self.times.values())
        visible = len(list((self.sysfs / "devices/system/cpu").glob("cpu[0-9]*/topology")))
        cpus = range(visible if self.counted is None else self.counted)
        own = "".join(f"cpu{number} {line}\n" for number in cpus)
        (self.procfs / "stat").write_text(f"cpu  {line}\n{own}intr 1\nctxt 1\nbtime 1700000000\n")

    def cpuinfo(self, model: str, *, cores: int = 20, flags: str = "fpu sse2") -> None:
        text = f"processor\t: 0\nmodel name\t: {model}\ncpu cores\t: {cores}\nflags\t\t: {flags}\n\n"
        (self.procfs / "cpuinfo").write_text(text * 2)

    def packages(self, threads_per_package: int, *numbers: int) -> None:
        cpus = self.sysfs / "devices/system/cpu"
        for place, package in enumerate(
            number for number in numbers or (0,) for _ in range(threads_per_package)
        ):
            topology = cpus / f"cpu{place}/topology"
            topology.mkdir(parents=True, exist_ok=True)
            (topology / "physical_package_id").write_text(f"{package}\n")
        self.pass_time()

    def arm(self, implementer: int, part: int, cpus: int = 2) -> None:
        """/proc/cpuinfo of an aarch64 kernel, which names no model."""
        text = "".join(
            f"processor\t: {cpu}\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd evtstrm aes\n"
            f"CPU implementer\t: {implementer:#x}\nCPU architecture: 8\nCPU variant\t: 0x1\n"
            f"CPU part\t: {part:#x}\nCPU revision\t: 1\n\n"
            for cpu in range(cpus)
        )
        (self.procfs / "cpuinfo").write_text(text)

    def dmi(self, vendor: str, product: str = "") -> None:
        folder = self.sysfs / "class/dmi/id"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sys_vendor").write_text(f"{vendor}\n")
        (folder / "product_name").write_text(f"{product}\n")

    def siblings(self, cpus: str) -> None:
        """The threads of the first core, as the kernel lists them."""
        (self.sysfs / "devices/system/cpu/cpu0/topology/thread_siblings_list").write_text(f"{cpus}\n")

    def cgroup(self, name: str, text: str, membership: str = "0::/\n") -> None:
        """A file below /sys/fs/cgroup, and the cgroup that this process is in."""
        path = self.sysfs / "fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (self.procfs / "self").mkdir(exist_ok=True)
        (self.procfs / "self" / "cgroup").write_text(membership)

    def rapl(self, package: int, energy_uj: int) -> None:
        zone = self.sysfs / f"class/powercap/intel-rapl:{package}"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "name").write_text(f"package-{package}\n")
        (zone / "energy_uj").write_text(f"{energy_uj}\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")

    def gpu(self, bus: str, model: str, uuid: str = "GPU-????????-????-????-????-????????????") -> None:
        folder = self.procfs / f"driver/nvidia/gpus/{bus}"
        folder.mkdir(parents=True)
        text = f"Model: \t\t {model}\nIRQ:   \t\t 64\nGPU UUID: \t {uuid}\nVideo BIOS: \t ??.??.??\n"
        (folder / "information").write_text(text)

    def memory_modules(self, *modules: tuple[int, str]) -> None:
        """The firmware's memory slots: (GiB, type); 0 GiB is an empty one."""
        folder = self.sysfs / "firmware/dmi/tables"
        folder.mkdir(parents=True, exist_ok=True)
        kinds = {"RAM": 0x07, "DDR3": 0x18, "DDR4": 0x1A, "DDR5": 0x22, "LPDDR5": 0x23}
        table = b""
        for gib, kind in modules:
            slot = bytearray([17, 40, 0, 0]) + bytes(36)
            is_large = gib * 1024 >= 0x7FFF
            slot[0x0C:0x0E] = (0x7FFF if is_large else gib * 1024).to_bytes(2, "little")
            slot[0x1C:0x20] = (gib * 1024 if is_large else 0).to_bytes(4, "little")
            slot[0x12] = kinds[kind]
            table += bytes(slot) + b"DIMM\0\0"
        (folder / "DMI").write_bytes(table)

    def memory(self, kib: int) -> None:
        (self.procfs / "meminfo").write_text(f"MemTotal:       {kib} kB\nMemFree:        1024 kB\n")

    def settings(self, known: Sequence[Device] = (), **more: Any) -> SensorSettings:
        devices = {device.id: device for device in known}
        return SensorSettings(sysfs=self.sysfs, procfs=self.procfs, known=devices, **more)


@contextmanager
def recorded_machine(folder: Path) -> Iterator[RecordedMachine]:
    """A recorded machine; afterwards its times are closed, and psutil reads our own /proc again."""
    procfs_path = psutil.PROCFS_PATH
    machine = RecordedMachine(folder)
    try:
        yield machine
    finally:
        psutil.PROCFS_PATH = procfs_path
        cpu_times.close_cpu_times(machine.procfs)
