"""The chips of hwmon that are here, told apart by their driver's name and their device.

The number in hwmonN changes at a boot, and when a driver is loaded again. Older Jetson boards show their
meter as a device of iio below NVIDIA's driver ina3221x (Jetson Linux before 34): it is one more chip.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import folders, is_there, text_of

_FOLDER = pattern(r"hwmon([0-9]{1,6})")
_IIO_FOLDER = pattern(r"iio(?::device([0-9]{1,6})|_device)")
_IIO_DEVICE = pattern(r"[0-9]{1,3}-[0-9a-f]{4}")
IIO_CHIP = "ina3221x"


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
    if IIO_CHIP in names:
        numbered += [(number, IIO_CHIP, folder) for number, folder in _iio_folders(sysfs)]
    for _, name, folder in sorted(numbered):
        device = _device(folder)
        place = sum(key[:2] == (name, device) for key in found)
        found[Key(name, device, place)] = _resolved(folder)
    return found


def _iio_folders(sysfs: Path) -> list[tuple[int, Path]]:
    """The number and the folder of each meter of an older Jetson board; `iio_device` is a link to one."""
    found: dict[Path, int] = {}
    for device in folders(sysfs / "bus" / "i2c" / "drivers" / IIO_CHIP):
        if not _IIO_DEVICE.fullmatch(device.name):
            continue
        for folder in folders(device):
            match = _IIO_FOLDER.fullmatch(folder.name)
            if match:
                found.setdefault(_resolved(folder), int(match[1] or 0))
    return sorted((number, folder) for folder, number in found.items())


def _device(folder: Path) -> str:
    """The path of a chip's device; of a chip without one the folder that it is in."""
    link = folder / "device"
    return str(_resolved(link if is_there(link) else folder.parent))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path
