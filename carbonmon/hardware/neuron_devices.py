"""AWS's Trainium and Inferentia devices as their driver shows them below sysfs.

Folders and files: the Neuron documentation, "Neuron Sysfs User Guide". Driver 2.31 moved some of them, so a
file is looked for by its name where it is not at its first place.
"""

from __future__ import annotations

import re
from pathlib import Path

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.pci_devices import folders, is_there, text_of

_FOLDER = re.compile(r"neuron([0-9]{1,4})")
_DEPTH = 4
"""A file that was moved is looked for in so many folders below one another."""


class NeuronDevice(NamedTuple):
    """A device: its number as the driver counts, its model, its folder, and its file of power, None without.

    `cores` is how many cores programs see in it, None where they may see fewer than there are.
    """

    number: int
    model: str
    folder: Path
    power: Path | None
    cores: int | None

    @property
    def id(self) -> str:
        return f"neuron{self.number}"

    @property
    def file(self) -> str:
        """The file that a program opens to use it."""
        return f"/dev/neuron{self.number}"


def find_neuron_devices(sysfs: Path) -> list[NeuronDevice]:
    """The devices below a sysfs root, in the order of their numbers."""
    root = sysfs / "devices" / "virtual" / "neuron_device"
    if not is_there(root):
        root = sysfs / "class" / "neuron_device"
    found = {}
    for folder in folders(root):
        match = _FOLDER.fullmatch(folder.name)
        if match:
            found[int(match[1])] = folder
    return [_device(number, found[number]) for number in sorted(found)]


def find_power(folder: Path) -> Path | None:
    """The file with a device's power in percent, at its known place or wherever the driver has moved it."""
    usual = folder / "stats" / "power" / "utilization"
    if is_there(usual):
        return usual
    return _below(folder, _DEPTH)


def _device(number: int, folder: Path) -> NeuronDevice:
    model = _model(folder)
    cores = text_of(folder / "core_count")
    is_plain = model in ("Trainium1", "Inferentia", "Inferentia2") and re.fullmatch(r"[1-9][0-9]?", cores)
    return NeuronDevice(number, model, folder, find_power(folder), int(cores) if is_plain else None)


def _below(folder: Path, depth: int) -> Path | None:
    """`power/utilization` in a folder or below it, but not in those of the cores."""
    for inner in folders(folder):
        if inner.is_symlink() or inner.name.startswith("neuron_core"):
            continue
        if inner.name == "power" and is_there(inner / "utilization"):
            return inner / "utilization"
        if depth > 1 and (found := _below(inner, depth - 1)) is not None:
            return found
    return None


def _model(folder: Path) -> str:
    """The model as the driver names it: Trainium1, Inferentia2 …"""
    for name in ("device_name", "device_type", "instance_type"):
        text = text_of(folder / "info" / "architecture" / name)
        if text and text.isprintable():
            return text
    return "Neuron device"
