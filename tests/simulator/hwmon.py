"""Simulated chips of hwmon: their devices, files and labels as the kernel's drivers lay them out.

What moves (power, energy, current) follows a profile and is written by powercapd; all else stands still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulator.powercap import Level, LiveZone, Zone
from tests.simulator.profiles import Profile

NEVER_WRAPS_UJ = 2**62


@dataclass(frozen=True)
class Channel:
    """A file that moves. `key` names it in `Simulator.channels`; without a level it is an energy in µJ.

    `on_device`: it is in the device's own folder, as acpi_power_meter's are.
    """

    key: str
    file: str
    profile: Profile
    level: Level | None = None
    start_uj: int = 0
    on_device: bool = False


@dataclass(frozen=True)
class Chip:
    """One chip: its driver's name, its device below `devices/`, and what is in their folders.

    `card`: it is a graphics card, listed in class/drm and on the PCI bus. `iio`: it is a device of iio below
    its driver on the I2C bus, as older Jetson boards have it.
    """

    name: str
    device: str
    channels: Sequence[Channel]
    files: Mapping[str, str] = field(default_factory=dict)
    device_files: Mapping[str, str] = field(default_factory=dict)
    card: bool = False
    iio: bool = False


class Hwmon:
    """The chips of a machine below its /sys; `numbers` are the N of hwmonN in the order of the chips."""

    def __init__(self, root: Path, chips: Sequence[Chip], numbers: Sequence[int] | None = None) -> None:
        self._root = root
        self.chips = chips
        self.folders: list[Path] = []
        for place, (chip, number) in enumerate(zip(chips, numbers or range(len(chips)), strict=True)):
            device = root / "devices" / chip.device
            folder = device / (f"iio:device{number}" if chip.iio else f"hwmon/hwmon{number}")
            folder.mkdir(parents=True)
            self.folders.append(folder)
            if not chip.iio:
                (folder / "device").symlink_to("../..")
            for parent, files in ((device, chip.device_files), (folder, {"name": chip.name, **chip.files})):
                for name, text in files.items():
                    (parent / name).parent.mkdir(parents=True, exist_ok=True)
                    (parent / name).write_text(text + "\n")
            if chip.iio:
                driver = root / "bus/i2c/drivers" / chip.name
                driver.mkdir(parents=True, exist_ok=True)
                (driver / device.name).symlink_to(device)
            else:
                self._link(place)
            if chip.card:
                self._link_card(device)

    def zones(self) -> list[Zone]:
        """What powercapd is to write."""
        return [
            Zone(
                channel.key,
                str((folder.parents[1] if channel.on_device else folder).relative_to(self._root)),
                "",
                channel.profile,
                channel.start_uj,
                NEVER_WRAPS_UJ,
                file=channel.file,
                level=channel.level,
            )
            for chip, folder in zip(self.chips, self.folders, strict=True)
            for channel in chip.channels
        ]

    def device(self, place: int) -> Path:
        """The folder of a chip's device."""
        return self.folders[place].parents[1]

    def renumber(self, numbers: Sequence[int]) -> None:
        """Give the chips these numbers, as a boot or the loading of a driver does."""
        for place in range(len(self.chips)):
            self.unload(place)
        for place, number in enumerate(numbers):
            self.load(place, number)

    def unload(self, place: int) -> None:
        """The driver goes: its folder and its link are no more."""
        self._place(place).unlink()
        away = self.device(place) / f".hwmon-{place}"
        self.folders[place].rename(away)
        self.folders[place] = away

    def load(self, place: int, number: int) -> None:
        """The driver comes back, with another number perhaps."""
        device = self.folders[place].parent
        folder = device / "hwmon" / f"hwmon{number}"
        self.folders[place].rename(folder)
        self.folders[place] = folder
        self._link(place)

    def write(self, place: int, name: str, text: str) -> None:
        """Write a file of a chip's device: power/runtime_status, power_state, gpu_busy_percent …"""
        path = self.device(place) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def _place(self, place: int) -> Path:
        return self._root / "class" / "hwmon" / self.folders[place].name

    def _link(self, place: int) -> None:
        link = self._place(place)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path("../..") / self.folders[place].relative_to(self._root))

    def _link_card(self, device: Path) -> None:
        for kind in ("class/drm", "bus/pci/devices"):
            (self._root / kind).mkdir(parents=True, exist_ok=True)
        number = len(list((self._root / "class/drm").iterdir()))
        card = device / "drm" / f"card{number}"
        card.mkdir(parents=True)
        (card / "device").symlink_to("../..")
        (self._root / "class/drm" / card.name).symlink_to(Path("../..") / card.relative_to(self._root))
        bus = self._root / "bus/pci/devices" / device.name
        if not bus.exists():
            bus.symlink_to(Path("../../..") / device.relative_to(self._root))


def open_to_all(channels: Mapping[str, LiveZone]) -> None:
    """Files of hwmon are readable by everybody; powercapd makes its files for root."""
    for channel in channels.values():
        (channel.folder / channel.zone.file).chmod(0o444)
