"""An MI250 is two GPUs on one card: the first shows power and energy of both, the second none.

Linux, drivers/gpu/drm/amd/pm/swsmu/smu13/aldebaran_ppt.c: power is that of the primary die, else 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from carbonmon.hardware.found_gpus import Chosen

TWO_DIES = frozenset(("0x7408", "0x740c"))
"""MI250X and MI250 (PCI ID repository)."""


def second_dies(dies: Sequence[str], silent: Mapping[str, bool]) -> dict[str, str]:
    """The second die of each card by its first: the one after it on the bus, which shows nothing.

    `dies` are the ids of such GPUs in PCI order, `silent` says which show neither power nor energy.
    """
    return {first: second for first, second in pairwise(dies) if silent[second] and not silent[first]}


def share_of_card(chosen: Mapping[str, Chosen], gpu: str, second: str) -> dict[str, Any]:
    """The job's share of a card, as fields of its device: half of it for each of its GPUs."""
    if {gpu, second} <= chosen.keys():
        return {}
    return {"share_ratio": 0.5, "share_note": "one of the card's two GPUs: half of the card's energy"}
