"""Google's TPU chips as sysfs shows them: the generation of each, and the file of its users.

PCI numbers, cores a chip and files: the package tpu-info 0.14.2 (Google, `device.py`).
"""

from __future__ import annotations

import re
from pathlib import Path

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import PciDevice, device_at, folders, text_of

GOOGLE = "0x1ae0"
"""Google's number as a vendor on the PCI bus."""


class Generation(NamedTuple):
    """A generation of TPU by its name in the table of models, and how many cores a chip of it has."""

    name: str
    cores: int


GENERATIONS = {
    "0x005e": Generation("TPU v4", 1),
    "0x0063": Generation("TPU v5e", 1),
    "0x0062": Generation("TPU v5p", 1),
    "0x006f": Generation("TPU v6e", 1),
    "0x0076": Generation("TPU7x", 2),
}
"""By the PCI device's number. v4 and v5p have two TensorCores that programs see as one."""

_V2_OR_V3 = "0x0027"
_BY_SUBSYSTEM = {"0x004e": Generation("TPU v2", 2), "0x004f": Generation("TPU v3", 2)}


class TpuChip(NamedTuple):
    """A chip: its number in the order of the files, its PCI address, and its file in /dev, "" if unknown."""

    number: int
    address: str
    generation: Generation
    file: str

    @property
    def id(self) -> str:
        return f"TPU-{self.address}"


def find_tpu_chips(sysfs: Path) -> list[TpuChip]:
    """The chips below a sysfs root, in the order of their files. Reads short folders only."""
    found: dict[str, TpuChip] = {}
    for device in _candidates(sysfs):
        generation = generation_of(device)
        address = (
            device.address.rpartition(".")[0] or device.address
        )  # a core of v7 is a function of its chip
        if generation is not None and address not in found:
            found[address] = TpuChip(0, address, generation, _file(sysfs, device))
    ordered = sorted(found.values(), key=lambda chip: (_file_number(chip.file), chip.address))
    return [chip._replace(number=number) for number, chip in enumerate(ordered)]


def generation_of(device: PciDevice) -> Generation | None:
    """The generation of a PCI device; None for one that is no TPU known here."""
    if device.vendor != GOOGLE:
        return None
    if device.model == _V2_OR_V3:
        return _BY_SUBSYSTEM.get(text_of(device.folder / "subsystem_device"))
    return GENERATIONS.get(device.model)


def _candidates(sysfs: Path) -> list[PciDevice]:
    """Where a TPU may be: with a driver for accelerators or of user space; in Google's cloud anywhere."""
    links = [folder / "device" for folder in folders(sysfs / "class" / "accel")]
    links += folders(sysfs / "bus" / "pci" / "drivers" / "vfio-pci")
    if text_of(sysfs / "class" / "dmi" / "id" / "sys_vendor") == "Google":
        links += folders(sysfs / "bus" / "pci" / "devices")
    return [device_at(link) for link in links]


def _file(sysfs: Path, device: PciDevice) -> str:
    """/dev/vfio/N by the device's IOMMU group (v5e and later), else /dev/accelN."""
    for folder in folders(sysfs / "class" / "accel"):
        if (
            re.fullmatch(r"accel[0-9]{1,4}", folder.name)
            and device_at(folder / "device").address == device.address
        ):
            return f"/dev/{folder.name}"
    try:
        group = (device.folder / "iommu_group").readlink().name
    except OSError:
        return ""
    return f"/dev/vfio/{group}" if group.isdecimal() else ""


def _file_number(file: str) -> int:
    number = re.search(r"[0-9]+$", file)
    return int(number[0]) if number else 10**6
