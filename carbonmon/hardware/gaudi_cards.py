"""Gaudi accelerators as the kernel shows them: their PCI addresses, their device files, their module ids.

Linux, Documentation/ABI/testing/sysfs-driver-habanalabs: the class is `accel`, of older drivers `habanalabs`.
"""

from __future__ import annotations

import re
from pathlib import Path

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import HABANA, device_at, folders, text_of

_NODES = {
    "accel": (pattern(r"accel[0-9]{1,4}"), "/dev/accel/"),
    "habanalabs": (pattern(r"hl[0-9]{1,4}"), "/dev/"),
}
"""By class: what a card's main entry is called, which a job opens, and where its device file is. The other
entry (`accel_controlD0`, `hl_controlD0`) is for those that only look."""

_ADDRESS = pattern(r"(?:([0-9a-fA-F]{1,8}):)?([0-9a-fA-F]{1,2}):([0-9a-fA-F]{1,2})\.([0-7])")


class GaudiCard(NamedTuple):
    """One accelerator: its PCI address, its device file with its numbers (`261:0`, "" if they are unknown),
    its module id (None where the driver tells none)."""

    address: str
    node: str
    numbers: str
    module: int | None


def list_gaudi_cards(sysfs: Path) -> list[GaudiCard]:
    """The accelerators below a sysfs root, by PCI address; none where the driver is not loaded."""
    found: dict[str, GaudiCard] = {}
    for kind, (name, place) in _NODES.items():
        for folder in folders(sysfs / "class" / kind):
            if name.fullmatch(folder.name):
                device = device_at(folder / "device")
                if device.vendor == HABANA:
                    address = pci_address(device.address) or device.address
                    module = text_of(device.folder / "module_id")
                    number = int(module) if re.fullmatch(r"[0-9]{1,4}", module) else None
                    found.setdefault(
                        address, GaudiCard(address, place + folder.name, text_of(folder / "dev"), number)
                    )
    return [found[address] for address in sorted(found)]


def pci_address(text: str) -> str | None:
    """A PCI address, with or without its domain, as sysfs writes it: `0000:b3:00.0`; None if it is none."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        return None
    domain, bus, device, function = match.groups()
    return f"{int(domain or '0', 16):04x}:{int(bus, 16):02x}:{int(device, 16):02x}.{function}"


def device_id(address: str) -> str:
    """What a device is called here: by its place, as a GPU without a number of its own is."""
    return f"GPU-{address}"
