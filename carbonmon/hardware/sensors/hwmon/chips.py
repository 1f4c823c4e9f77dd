"""The chips of hwmon that are here, told apart by their driver's name and their device.

The number in hwmonN changes at a boot, and when a driver is loaded again.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import folders, is_there, text_of

_FOLDER = pattern(r"hwmon([0-9]{1,6})")


class Key(NamedTuple):
    """What a chip is known by: its driver's name, its device, and its place among those of one device."""

    name: str
    device: str
    place: int


def find_chips(sysfs: Path, names: Collection[str]) -> dict[Key, Path]:
    """The chips with these names below a sysfs root, by key in the order of their numbers.

    Each is told by its place among the devices: hwmonN in the list may be another chip's tomorrow.
    """
    numbered = []
    for folder in folders(sysfs / "class" / "hwmon"):
        match = _FOLDER.fullmatch(folder.name)
        name = text_of(folder / "name") if match else ""
        if match and name in names:
            numbered.append((int(match[1]), name, folder))
    found: dict[Key, Path] = {}
    for _, name, folder in sorted(numbered):
        device = _device(folder)
        place = sum(key[:2] == (name, device) for key in found)
        found[Key(name, device, place)] = _resolved(folder)
    return found


def _device(folder: Path) -> str:
    """The path of a chip's device; of a chip without one the folder that it is in."""
    link = folder / "device"
    return str(_resolved(link if is_there(link) else folder.parent))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path
