"""What the machine says of its CPUs: their model, how many are visible and counted, whether it is virtual.

Three places may differ: sysfs shows the topology, /proc/cpuinfo names the model, /proc/stat counts CPU time.
In a container whose /proc is its own (LXC with lxcfs) sysfs still shows the host's CPUs. Read at opening.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.cpu_quota import quota_cpus
from carbonmon.hardware.smbios import processor_version

CPUINFO_BYTES = 16 << 10
"""The first CPUs are enough, and the kernel writes no more than what is read."""

_OWN = (Path("/sys"), Path("/proc"))

_GUEST = pattern(
    r"amazon ec2(?!.*metal)|google compute|qemu|\bkvm\b|vmware|virtual|\bxen\b|bochs|parallels|bhyve"
    r"|openstack|kubevirt|alibaba cloud|tencent cloud|cloud hypervisor|digitalocean|hetzner vserver",
    re.IGNORECASE,
)
"""Vendor and product in the DMI tables of virtual machines, as in systemd's detect-virt; "Virtual Machine" is
Hyper-V's and Azure's product."""

_TRUE_TOPOLOGY = pattern(r"^(?:amazon ec2|google|microsoft corporation)\b", re.IGNORECASE)
"""Clouds whose guests see which CPUs are threads of one core (documentation of EC2's CPU options, of Compute
Engine's threads per core, of Azure's sizes). Elsewhere each thread may look like a core of its own."""


class CpuInfo(NamedTuple):
    """The CPUs as this machine shows them.

    `model` is "" where nothing names it, `named_by` says how it was named where the kernel does not.
    `threads` are the hardware threads of each package, those that are switched off included.
    `threads_per_core` is 0 where it is unknown or not to be believed, `cores_per_package` 0 where unknown.
    `visible` CPUs are switched on in sysfs, `counted` are in /proc/stat, 0 if that cannot be read;
    `quota` CPUs are what the cgroup may use at most, None without a limit.
    """

    model: str
    named_by: str
    threads: Mapping[int, int]
    threads_per_core: int
    cores_per_package: int
    visible: int
    counted: int
    quota: float | None
    is_virtual: bool

    @property
    def container_ratio(self) -> float:
        """The part of the host's CPUs that this container has; 1.0 where /proc/stat counts all of sysfs."""
        if not 0 < self.counted < self.visible:
            return 1.0
        return min(self.counted, self.quota or self.counted) / self.visible

    @property
    def container_note(self) -> str:
        """`container_ratio` in words, "" where it is 1."""
        if self.container_ratio == 1.0:
            return ""
        own = min(self.counted, self.quota or self.counted)
        return f"container: {own:g} of the host's {self.visible} CPUs"


def read_cpu_info(sysfs: Path, procfs: Path) -> CpuInfo:
    """Read what these roots show. What cannot be read is unknown; raises nothing.

    /proc/stat is held against sysfs where both are the machine's own, or both are given: the host's /sys in a
    container is no topology of that container's /proc.
    """
    packages = _package_threads(sysfs)
    visible = sum(packages.values())
    is_one_machine = (sysfs == _OWN[0]) == (procfs == _OWN[1])
    counted = _counted(procfs) if is_one_machine or not visible else visible
    present = _count(_text(sysfs / "devices/system/cpu/present"))
    info = _text(procfs / "cpuinfo", CPUINFO_BYTES)
    vendor, product = (_text(sysfs / "class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
    is_virtual = "hypervisor" in _field(info, "flags").split() or bool(_GUEST.search(f"{vendor} {product}"))
    cores, siblings = (_number(_field(info, name)) for name in ("cpu cores", "siblings"))
    per_core = _count(_first_siblings(sysfs)) or (siblings // cores if cores else 0)
    is_believed = per_core > 1 or not is_virtual or (visible > 1 and _TRUE_TOPOLOGY.match(vendor))
    model, named_by = _field(info, "model name"), ""
    if not model or re.match(r"ARMv\d", model):
        implementer, part = (_number(_field(info, f"CPU {name}")) for name in ("implementer", "part"))
        if implementer:
            firmware = processor_version(sysfs)
            from carbonmon.hardware.arm_cpus import arm_cpu

            model, named_by = arm_cpu(implementer, part, vendor, firmware, max(packages.values(), default=0))
    if visible and present > visible:
        packages = {number: round(threads * present / visible) for number, threads in packages.items()}
    return CpuInfo(
        model=model,
        named_by=named_by,
        threads=packages or {0: counted or os.cpu_count() or 1},
        threads_per_core=per_core if is_believed else 0,
        cores_per_package=cores,
        visible=visible,
        counted=counted,
        quota=quota_cpus(sysfs, procfs),
        is_virtual=is_virtual,
    )


def _package_threads(sysfs: Path) -> dict[int, int]:
    """Hardware threads of each package that are switched on; none where sysfs has no topology."""
    threads: dict[int, int] = {}
    folder = str(sysfs / "devices/system/cpu")
    try:
        names = os.listdir(folder)  # noqa: PTH208 (of a machine with 512 CPUs: no path objects)
    except OSError:
        return {}
    for name in names:
        if name[:3] != "cpu" or not name[3:].isdecimal():
            continue
        try:
            file = os.open(f"{folder}/{name}/topology/physical_package_id", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            text = os.read(file, 32).strip()
        except OSError:
            continue
        finally:
            os.close(file)
        if re.fullmatch(rb"-?[0-9]{1,9}", text) is not None:
            package = max(int(text), 0)  # -1 where the platform does not say
            threads[package] = threads.get(package, 0) + 1
    return threads


def _first_siblings(sysfs: Path) -> str:
    return _text(sysfs / "devices/system/cpu/cpu0/topology/thread_siblings_list")


def _counted(procfs: Path) -> int:
    """CPUs of which /proc/stat has a line of its own (proc(5)); 0 if it cannot be read."""
    try:
        with (procfs / "stat").open("rb") as file:
            return sum(1 for line in file if re.match(rb"cpu[0-9]", line))
    except OSError:
        return 0


def _count(cpu_list: str) -> int:
    """How many CPUs a list of the kernel names, `0-3,8`; 0 for what is no list."""
    if re.fullmatch(r"[0-9]{1,7}(-[0-9]{1,7})?(,[0-9]{1,7}(-[0-9]{1,7})?)*", cpu_list) is None:
        return 0
    spans = (span.partition("-") for span in cpu_list.split(","))
    return sum(max(0, int(last or first) - int(first) + 1) for first, _, last in spans)


def _field(cpuinfo: str, name: str) -> str:
    for line in cpuinfo.split("\n"):
        if line.startswith(name):
            field, colon, value = line.partition(":")
            if colon and field.rstrip(" \t") == name:
                return value.strip()
    return ""


def _number(text: str) -> int:
    """A decimal or hexadecimal number, 0 for what is none."""
    if text.isascii() and text.isdigit() and len(text) <= 6:
        return int(text)
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else 0


def _text(path: Path, most_bytes: int = 4096) -> str:
    try:
        with path.open("rb") as file:
            return file.read(most_bytes).decode(errors="replace").strip()
    except OSError:
        return ""
