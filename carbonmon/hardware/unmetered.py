"""Accelerators that are here and that no sensor reads: each vendor is one line, so that none is silent.

Looks only into short folders of sysfs, once, at opening. An accelerator inside of the CPU's package
(integrated graphics, a laptop's NPU) is in the package's energy and is no line. Vendors' numbers are those of
the PCI ID repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from carbonmon.core.model import Device, SensorState

NVIDIA, AMD, INTEL, HABANA, GOOGLE, AWS = "0x10de", "0x1002", "0x8086", "0x1da3", "0x1ae0", "0x1d0f"

_KINDS = {
    NVIDIA: ("NVIDIA GPU", "H100 80GB HBM3"),
    AMD: ("AMD GPU", "Instinct MI300X"),
    INTEL: ("Intel GPU", "Data Center GPU Max 1550"),
    HABANA: ("Gaudi accelerator", "Gaudi 3"),
    GOOGLE: ("Google TPU", "TPU v4"),
    AWS: ("AWS Neuron device", ""),
}
"""What a vendor's accelerators are called, and a model of the table as an example for --gpu-model."""

_CARD = re.compile(r"card[0-9]{1,4}")
_IN_PACKAGE_DRIVERS = frozenset(("intel_vpu", "amdxdna", "rocket", "ethosu"))
"""Drivers of NPUs within a CPU's package or a system on a chip (Linux, drivers/accel)."""

_OPEN_NVIDIA_DRIVERS = frozenset(("nouveau", "nova_core", "nova-core", "vfio-pci", ""))
"""Where one of these, or no driver, has an NVIDIA GPU, NVML does not see it; else NVML's own line tells."""

_INTEGRATED_SLOT = "0000:00:02."
"""Intel's integrated graphics is always device 2 of bus 0."""
_INTEL_DISCRETE = re.compile(r"0x(?:4905|4906|4907|4908|4f8|56|0bd|0b6|e2[0-9a-f]{2}$)")
"""Device ids of DG1, Arc A, Flex, Max and Arc B (Linux, include/drm/intel/pciids.h)."""

_VEGA10 = re.compile(r"0x68[67][0-9a-f]")
_GOOGLE_NETWORK = "0x0042"
"""Google's virtual network card has the vendor's number too."""


class Accelerator(NamedTuple):
    """A PCI device: its address, its vendor's and its own number as sysfs writes them, its driver."""

    address: str
    vendor: str
    model: str
    driver: str


def sources(sysfs: Path, devices: Iterable[Device]) -> list[SensorState]:
    """A line for each vendor whose accelerators nobody counts.

    `devices` are counted where the user states GPUs by --gpu-model: those estimates are taken off.
    """
    counts: dict[str, int] = {}
    for accelerator in find(sysfs):
        counts[accelerator.vendor] = counts.get(accelerator.vendor, 0) + 1
    stated = sum(device.id.startswith("gpu-") and not device.is_measured for device in devices)
    found = []
    for vendor, number in counts.items():
        known = min(stated, number)
        stated -= known
        if number > known:
            found.append(_line(vendor, number - known))
    return found


def find(sysfs: Path) -> list[Accelerator]:
    """The accelerators that none of our sensors reads, each once."""
    found = {each.address: each for each in _all(sysfs) if _is_separate(sysfs, each)}
    if not any(each.vendor == AMD for each in found.values()):
        found |= {each.address: each for each in _of_kfd(sysfs)}
    return list(found.values())


def _line(vendor: str, number: int) -> SensorState:
    kind, example = _KINDS.get(vendor, (f"accelerator of the PCI vendor {vendor}", ""))
    name = kind if number == 1 else re.sub(r"(GPU|TPU|device|accelerator)", r"\1s", kind, count=1)
    text = f"{number} {name} {'is' if number == 1 else 'are'} here and not counted: no sensor reads them"
    if number == 1:
        text = text.replace("reads them", "reads it")
    if vendor == NVIDIA:
        remedy = "install NVIDIA's driver"
    elif example:
        remedy = f"carbonmon run --gpu-model {example!r}:{number} -- …   # its own model: an estimate by TDP"
    else:
        remedy = f"carbonmon run --gpu-model NAME:{number} --gpu-tdp WATTS -- …   # an estimate by TDP"
    return SensorState(f"unmetered {kind}", "not used", text, remedy)


def _all(sysfs: Path) -> Iterator[Accelerator]:
    """PCI devices with a driver for graphics or acceleration, and those handed to a user-space driver."""
    for folder in _folders(sysfs / "class" / "drm"):
        if _CARD.fullmatch(folder.name):
            device = _device(folder / "device")
            if device.vendor in (NVIDIA, AMD, INTEL):
                yield device
    for name in ("accel", "habanalabs", "neuron_device"):
        for folder in _folders(sysfs / "class" / name):
            if "control" not in folder.name:  # habanalabs: hl0 and hl_controlD0 are one card
                device = _device(folder / "device")
                if name == "neuron_device" and not device.vendor:
                    device = Accelerator(folder.name, AWS, "", "neuron")  # a virtual device of the driver
                elif name == "habanalabs" and not device.vendor:
                    device = Accelerator(folder.name, HABANA, "", "habanalabs")
                if device.vendor:
                    yield device
    if not (sysfs / "class" / "neuron_device").exists():
        for folder in _folders(sysfs / "devices" / "virtual" / "neuron_device"):
            yield Accelerator(folder.name, AWS, "", "neuron")
    for folder in _folders(sysfs / "bus" / "pci" / "drivers" / "vfio-pci"):
        device = _device(folder)
        if device.vendor == GOOGLE and device.model != _GOOGLE_NETWORK:
            yield device  # TPU v5e and later


def _is_separate(sysfs: Path, device: Accelerator) -> bool:
    """Whether it is an accelerator of its own, and one that none of our sensors reads."""
    if device.driver in _IN_PACKAGE_DRIVERS:
        return False
    if device.vendor == NVIDIA:
        return device.driver in _OPEN_NVIDIA_DRIVERS
    if device.vendor == INTEL:
        return not device.address.startswith(_INTEGRATED_SLOT) or bool(_INTEL_DISCRETE.match(device.model))
    if device.vendor == AMD and not _VEGA10.fullmatch(device.model):
        # Linux, drivers/gpu/drm/amd/pm/amdgpu_pm.c: an APU has no mem_busy_percent, but for MI300A.
        folder = sysfs / "bus" / "pci" / "devices" / device.address
        is_integrated = (folder / "gpu_busy_percent").exists() and not (folder / "mem_busy_percent").exists()
        return not is_integrated
    return True


def _of_kfd(sysfs: Path) -> Iterator[Accelerator]:
    """AMD's GPUs where only the compute driver's list is there, as in some containers.

    Linux, drivers/gpu/drm/amd/amdkfd/kfd_topology.c: a node with SIMDs is a GPU; an APU has CPU cores too.
    """
    if any(_CARD.fullmatch(folder.name) for folder in _folders(sysfs / "class" / "drm")):
        return
    for folder in _folders(sysfs / "class" / "kfd" / "kfd" / "topology" / "nodes"):
        found = dict(re.findall(r"^(\w+) ([0-9]{1,12})$", _text(folder / "properties", 4096), re.MULTILINE))
        if int(found.get("simd_count", "0")) and not int(found.get("cpu_cores_count", "0")):
            address = f"{found.get('domain', '0')}:{found.get('location_id', folder.name)}"
            yield Accelerator(address, AMD, "", "amdgpu")


def _device(folder: Path) -> Accelerator:
    """What a link to a PCI device leads to; its vendor is "" where it leads to none."""
    try:
        address = folder.resolve().name
        driver = (folder / "driver").resolve().name if (folder / "driver").exists() else ""
    except (OSError, RuntimeError):  # a loop of links
        return Accelerator(str(folder), "", "", "")
    if address == "device":  # not a link: a tree that was copied
        address = f"{folder.parent.name}"
    return Accelerator(address, _text(folder / "vendor"), _text(folder / "device"), driver)


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(parent.iterdir())
    except OSError:
        return []


def _text(path: Path, most: int = 64) -> str:
    try:
        with path.open("rb") as file:
            return file.read(most).decode(errors="replace").strip()
    except OSError:
        return ""
