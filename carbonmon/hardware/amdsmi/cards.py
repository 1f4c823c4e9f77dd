"""AMD's cards as the library lists them: the handles of each, found by the PCI address.

The library's order is neither HIP's nor the same after a boot. The partitions of a card (DPX, CPX …) are
handles of their own, whose PCI function is the partition's number; power and energy are those of the whole
card (ROCm's documentation, "GPU partitioning"), and partition 0 stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.amdsmi.library import AmdsmiLibrary, CallError
from carbonmon.hardware.drm_gpus import DrmGpu
from carbonmon.hardware.pci_devices import AMD

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")


class Card(NamedTuple):
    """A card: what names it, the handle that stands for it, and those of all its partitions."""

    found: DrmGpu
    handle: Any
    partitions: tuple[Any, ...]

    @property
    def gpu_id(self) -> str:
        return self.found.gpu.uuid


class Listed(NamedTuple):
    """The cards in PCI order, and why other handles are none, for people."""

    cards: list[Card]
    notes: list[str]


def list_cards(library: AmdsmiLibrary, gpus: Sequence[DrmGpu]) -> Listed:
    """The cards of the library's list; raises `CallError` where it gives none."""
    by_address = {each.device.address: each for each in gpus if each.device.vendor == AMD}
    handles: dict[str, dict[str, Any]] = {}
    notes = []
    for place, handle in enumerate(library.handles()):
        try:
            address = str(library.call("amdsmi_get_gpu_device_bdf", handle)).lower()
        except CallError as error:
            notes.append(f"GPU {place} of the library cannot be read: {error}")
            continue
        card = f"{address[:-1]}0" if _ADDRESS.fullmatch(address) else address
        card = address if address in by_address else card
        if card in by_address:
            handles.setdefault(card, {}).setdefault(address, handle)
        else:
            notes.append(f"{address} is no card of its own in /sys/class/drm")
    cards = [
        Card(by_address[card], _primary(card, parts), tuple(parts.values()))
        for card, parts in sorted(handles.items())
    ]
    return Listed(cards, notes)


def _primary(card: str, parts: dict[str, Any]) -> Any:
    return parts[card] if card in parts else parts[min(parts)]
