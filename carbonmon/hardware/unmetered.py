"""Accelerators that are here and that no sensor reads: each vendor is one line, so that none is silent.

Looks only into short folders of sysfs, once, at opening. An accelerator inside of the CPU's package
(integrated graphics, a laptop's NPU) is in the package's energy and is no line. Vendors' numbers are those of
the PCI ID repository.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from carbonmon.core.model import Device, SensorState
from carbonmon.hardware.pci_devices import (
    AMD,
    HABANA,
    INTEL,
    NVIDIA,
    PciDevice,
    device_at,
    drm_cards,
    folders,
    is_in_package,
    is_there,
)

GOOGLE, AWS = "0x1ae0", "0x1d0f"

_KINDS = {
    NVIDIA: ("NVIDIA GPU", "H100 80GB HBM3"),
    AMD: ("AMD GPU", "Instinct MI300X"),
    INTEL: ("Intel GPU", "Data Center GPU Max 1550"),
    HABANA: ("Gaudi accelerator", "Gaudi 3"),
    GOOGLE: ("Google TPU", ""),
    AWS: ("AWS Neuron device", ""),
}
"""What a vendor's accelerators are called, and a model of the table as an example for --gpu-model."""

_IN_PACKAGE_DRIVERS = frozenset(("intel_vpu", "amdxdna", "rocket", "ethosu"))
"""Drivers of NPUs within a CPU's package or a system on a chip (Linux, drivers/accel)."""

_OPEN_NVIDIA_DRIVERS = frozenset(("nouveau", "nova_core", "nova-core", "vfio-pci", ""))
"""Where one of these, or no driver, has an NVIDIA GPU, NVML does not see it; else NVML's own line tells."""

_GOOGLE_NETWORK = "0x0042"
"""Google's virtual network card has the vendor's number too."""


def sources(
    sysfs: Path, devices: Iterable[Device], is_stated: bool = True, seen: Collection[str] = ()
) -> list[SensorState]:
    """A line for each vendor whose accelerators nobody counts.

    `devices` are counted: what they measure is taken off, and where the user states GPUs by --gpu-model
    (`is_stated`) those estimates too. `seen` are ids of others that a sensor knows: they are not the job's.
    """
    counted = list(devices)
    places = {*seen, *(gpu for device in counted for gpu in device.gpu_ids)}
    found = [each for each in find(sysfs) if f"GPU-{each.address}" not in places]
    if any(accelerator.vendor in (AMD, INTEL) for accelerator in found):
        from carbonmon.hardware.drm_gpus import list_drm_gpus  # most machines have none of them

        held = {each.device.address for each in list_drm_gpus(sysfs) if each.gpu.uuid in places}
        found = [accelerator for accelerator in found if accelerator.address not in held]
    ids = places | {device.id for device in counted}
    found = [
        each for each in found if ids.isdisjoint((f"TPU-{each.address.rpartition('.')[0]}", each.address))
    ]
    counts: dict[str, int] = {}
    for accelerator in found:
        counts[accelerator.vendor] = counts.get(accelerator.vendor, 0) + 1
    stated = sum(device.id.startswith("gpu-") and not device.is_measured for device in counted if is_stated)
    lines = []
    for vendor, number in counts.items():
        known = min(stated, number)
        stated -= known
        if number > known:
            lines.append(_line(vendor, number - known))
    return lines


def find(sysfs: Path) -> list[PciDevice]:
    """The accelerators that none of our sensors reads, each once."""
    found = {each.address: each for each in _all(sysfs) if _is_separate(each)}
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
    elif vendor in (GOOGLE, AWS):
        remedy = "carbonmon doctor   # the line of the sensor tpu or neuron says what is missing"
    elif example:
        remedy = f"carbonmon run --gpu-model {example!r}:{number} -- …   # its own model: an estimate by TDP"
    else:
        remedy = f"carbonmon run --gpu-model NAME:{number} --gpu-tdp WATTS -- …   # an estimate by TDP"
    return SensorState(f"unmetered {kind}", "not used", text, remedy)


def _all(sysfs: Path) -> Iterator[PciDevice]:
    """PCI devices with a driver for graphics or acceleration, and those handed to a user-space driver."""
    yield from (device for device in drm_cards(sysfs) if device.vendor in (NVIDIA, AMD, INTEL))
    for name in ("accel", "habanalabs", "neuron_device"):
        for folder in folders(sysfs / "class" / name):
            if "control" not in folder.name:  # habanalabs: hl0 and hl_controlD0 are one card
                device = device_at(folder / "device")
                if name == "neuron_device" and not device.vendor:
                    device = PciDevice(folder.name, AWS, "", "neuron")  # a virtual device of the driver
                elif name == "habanalabs" and not device.vendor:
                    device = PciDevice(folder.name, HABANA, "", "habanalabs")
                if device.vendor:
                    yield device
    if not is_there(sysfs / "class" / "neuron_device"):
        for folder in folders(sysfs / "devices" / "virtual" / "neuron_device"):
            yield PciDevice(folder.name, AWS, "", "neuron")
    for folder in folders(sysfs / "bus" / "pci" / "drivers" / "vfio-pci"):
        device = device_at(folder)
        if device.vendor == GOOGLE and device.model != _GOOGLE_NETWORK:
            yield device  # TPU v5e and later


def _is_separate(device: PciDevice) -> bool:
    """Whether it is an accelerator of its own, and one that none of our sensors reads."""
    if device.driver in _IN_PACKAGE_DRIVERS:
        return False
    if device.vendor == NVIDIA:
        return device.driver in _OPEN_NVIDIA_DRIVERS
    return not is_in_package(device)


def _of_kfd(sysfs: Path) -> Iterator[PciDevice]:
    """AMD's GPUs where only the compute driver's list is there, as in some containers."""
    if is_there(sysfs / "class" / "kfd") and not any(device.vendor for device in drm_cards(sysfs)):
        from carbonmon.hardware.drm_gpus import kfd_nodes

        for node in kfd_nodes(sysfs):
            if not node.has_cpu_cores:
                yield PciDevice(node.address, AMD, "", "amdgpu")
