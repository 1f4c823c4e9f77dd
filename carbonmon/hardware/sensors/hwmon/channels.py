"""Finds the channels of the chips that are here and that a row of the table knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import folders, text_of
from carbonmon.hardware.sensors.hwmon.chips import Key
from carbonmon.hardware.sensors.hwmon.table import ROWS, Row

AVERAGED_MS = 500
"""A mean over less than half a second is one of a moment, for readings a second apart."""

INNER = ("", "device")
"""A chip's files are in its folder, or on its device (acpi_power_meter, older drivers)."""


class Channel(NamedTuple):
    """A channel of a chip: the row that it is of, its file within the chip's folder, its label and socket.

    `times` is the file to multiply with, "" without one.
    """

    chip: Key
    row: Row
    file: str
    times: str
    label: str
    socket: int | None

    @property
    def quantity(self) -> str:
        return "energy" if Path(self.file).name.startswith("energy") else "power"

    @property
    def text(self) -> str:
        """The channel for people: `xe energy1_input (card)`."""
        return f"{self.chip.name} {Path(self.file).name}{f' ({self.label})' if self.label else ''}"


def find_channels(chips: Mapping[Key, Path]) -> tuple[list[Channel], list[str]]:
    """The channels that rows know, in the order of the rows, and (for people) the labels that none knows."""
    known: list[Channel] = []
    unknown: dict[str, None] = {}
    for row in ROWS:
        for key, folder in chips.items():
            if key.name == row.chip:
                for channel in _channels(row, key, folder):
                    if _is_of(channel.label, row):
                        known.append(_with_socket(channel))
                    elif channel.label and (not channel.times or (folder / channel.times).exists()):
                        unknown[channel.text] = None
    texts = {channel.text for channel in known}
    return known, [text for text in unknown if text not in texts and "NC" not in text]


def is_averaged(folder: Path, channel: Channel) -> bool:
    """Whether a power is the mean over a time that leaves no gap between two readings a second apart."""
    path = folder / channel.file
    if not path.name.endswith("_average"):
        return False
    interval = text_of(path.with_name(f"{path.name}_interval"))
    return not interval.isdecimal() or int(interval) >= AVERAGED_MS


def limits_w(folder: Path, row: Row) -> list[float]:
    """The power limits (W) that a chip states."""
    texts = [text_of(folder / name) for name in row.limits]
    return [int(text) / 1e6 for text in texts if re.fullmatch(r"[0-9]{1,15}", text)]


def _channels(row: Row, key: Key, folder: Path) -> list[Channel]:
    """Every channel of a chip that has one of the row's files, whatever its label."""
    found: dict[str, Channel] = {}
    for inner in INNER:
        names = {path.name for path in folders(folder / inner)}
        for pattern in row.files:
            for number in _numbers(pattern, names):
                file = pattern.replace("#", number)
                is_battery = text_of(folder / inner / f"power{number}_is_battery") == "1"
                if number in found or file not in names or is_battery:
                    continue
                label = text_of(folder / inner / row.label_file.replace("#", number))
                times = str(Path(inner, row.times.replace("#", number))) if row.times else ""
                found[number] = Channel(key, row, str(Path(inner, file)), times, label, None)
    return list(found.values())


def _numbers(pattern: str, names: set[str]) -> list[str]:
    """The numbers of the channels that have a file of this pattern."""
    if "#" not in pattern:
        return re.findall(r"[0-9]+", pattern)
    matches = [re.fullmatch(pattern.replace("#", "([0-9]{1,3})"), name) for name in names]
    return sorted((match[1] for match in matches if match), key=int)


def _is_of(label: str, row: Row) -> bool:
    return row.label is None or re.fullmatch(row.label, label) is not None


def _with_socket(channel: Channel) -> Channel:
    match = re.fullmatch(channel.row.label or "", channel.label)
    return channel._replace(socket=int(match[1])) if match and match.groups() else channel
