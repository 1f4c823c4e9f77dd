"""PCI devices as sysfs shows them: what a link leads to, and which GPUs are in a CPU's package."""

from __future__ import annotations

import re
from pathlib import Path

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple

NVIDIA, AMD, INTEL, HABANA = "0x10de", "0x1002", "0x8086", "0x1da3"
"""Vendors' numbers (PCI ID repository)."""

_CARD = pattern(r"card[0-9]{1,4}")
_INTEGRATED_SLOT = "0000:00:02."
"""Intel's integrated graphics is always device 2 of bus 0."""
_INTEL_DISCRETE = pattern(r"0x(?:4905|4906|4907|4908|4f8|56|0bd|0b6|e2[0-9a-f]{2}$)")
"""Device ids of DG1, Arc A, Flex, Max and Arc B (Linux, include/drm/intel/pciids.h)."""
_VEGA10 = pattern(r"0x68[67][0-9a-f]")


class PciDevice(NamedTuple):
    """A PCI device: its address, its vendor's and its own number as sysfs writes them, driver and folder."""

    address: str
    vendor: str
    model: str
    driver: str
    folder: Path = Path()


def device_at(folder: Path) -> PciDevice:
    """What a link to a PCI device leads to; its vendor is "" where it leads to none."""
    try:
        address = folder.resolve().name
        driver = (folder / "driver").resolve().name if (folder / "driver").exists() else ""
    except (OSError, RuntimeError):  # a loop of links
        return PciDevice(str(folder), "", "", "", folder)
    if address == "device":  # not a link: a tree that was copied
        address = f"{folder.parent.name}"
    return PciDevice(address, text_of(folder / "vendor"), text_of(folder / "device"), driver, folder)


def drm_cards(sysfs: Path) -> list[PciDevice]:
    """The devices of all graphics cards of the kernel's list, those of integrated graphics too."""
    return [
        device_at(folder / "device")
        for folder in folders(sysfs / "class" / "drm")
        if _CARD.fullmatch(folder.name)
    ]


def is_in_package(device: PciDevice) -> bool:
    """Whether a GPU of AMD or Intel is within a CPU's package, so that the package's energy holds it."""
    if device.vendor == INTEL:
        return device.address.startswith(_INTEGRATED_SLOT) and not _INTEL_DISCRETE.match(device.model)
    if device.vendor == AMD and not _VEGA10.fullmatch(device.model):
        # Linux, drivers/gpu/drm/amd/pm/amdgpu_pm.c: an APU has no mem_busy_percent, but for MI300A.
        return (device.folder / "gpu_busy_percent").exists() and not (
            device.folder / "mem_busy_percent"
        ).exists()
    return False


def is_asleep(folder: Path) -> bool:
    """Whether the kernel has put a device to sleep (Linux, Documentation/power/runtime_pm.rst): most reads of
    a GPU's files would wake it."""
    return text_of(folder / "power" / "runtime_status") in ("suspended", "suspending")


def package_near(sysfs: Path, address: str) -> int | None:
    """The CPU package that a PCI device is attached to; None where sysfs does not say.

    `local_cpulist` (Linux, Documentation/ABI/testing/sysfs-bus-pci) lists the CPUs near a PCI device.
    """
    try:
        near = (sysfs / "bus" / "pci" / "devices" / address / "local_cpulist").read_text("ascii")
        first = re.match(r"[0-9]{1,6}", near)
        topology = sysfs / "devices" / "system" / "cpu" / f"cpu{first[0] if first else ''}" / "topology"
        package = (topology / "physical_package_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    return int(package) if re.fullmatch(r"[0-9]{1,9}", package) else None


def folders(parent: Path) -> list[Path]:
    """What is in a folder, by name; nothing where it cannot be read."""
    try:
        return sorted(parent.iterdir())
    except OSError:
        return []


def is_there(path: Path) -> bool:
    """Whether a path can be seen; `Path.exists` raises where a folder above it may not be entered."""
    try:
        return path.exists()
    except OSError:
        return False


def text_of(path: Path, most: int = 64) -> str:
    """The text of a file, at most so many bytes of it; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most).decode(errors="replace").strip("\0 \n\t")
    except OSError:
        return ""
