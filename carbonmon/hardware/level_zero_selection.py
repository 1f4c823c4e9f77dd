"""Which Intel GPUs, and which of their tiles, a job was given by the user, Level Zero's or SYCL's list; pure.

ZE_AFFINITY_MASK leaves a part of what Level Zero shows: tiles with ZE_FLAT_DEVICE_HIERARCHY=FLAT, which is
the default, or COMBINED; cards, and tiles as CARD.TILE, with COMPOSITE (Level Zero specification, "Device
Hierarchy", "Affinity Mask"). ONEAPI_DEVICE_SELECTOR leaves a part of that (DPC++, "Environment Variables").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.found_gpus import Chosen, FoundGpu, each_gpu_once, whole
from carbonmon.hardware.gpu_lists import user_list
from carbonmon.hardware.gpu_selection import Selection

MASK, HIERARCHY, SELECTOR = "ZE_AFFINITY_MASK", "ZE_FLAT_DEVICE_HIERARCHY", "ONEAPI_DEVICE_SELECTOR"
SLURM = frozenset(("SLURM_JOB_GPUS", "SLURM_STEP_GPUS"))

_TERM = pattern(r"(!?)(\*|level_zero|opencl|cuda|hip|native_cpu|esimd_emulator):(\S+)", re.IGNORECASE)
_DEVICE = pattern(r"(\*|cpu|gpu|fpga|[0-9]{1,6})((?:\.(?:\*|[0-9]{1,6})){0,2})", re.IGNORECASE)


class Slot(NamedTuple):
    """What Level Zero shows as one device: tiles of a card."""

    card: int
    tiles: frozenset[int]


class _Unclear(Exception):
    """A list that decides nothing; the text says why."""


def select(
    found: Sequence[FoundGpu],
    tiles: Mapping[str, int],
    gpus: tuple[str, ...] | None,
    environ: Mapping[str, str],
    *,
    has_nvidia: bool,
    has_integrated: bool,
) -> Selection:
    """The cards of `found` (Intel's, in PCI order) that a job was given, with the share that their tiles are.

    `tiles` are numbers of tiles by id, 1 for one that is not in it. `has_nvidia`: NVML's GPUs are metered
    too; then `--gpus` has their indices. `has_integrated`: integrated graphics has a number as well.
    """
    everything = Selection(each_gpu_once({gpu.uuid: whole(gpu) for gpu in found}), "", [])
    if gpus is not None:
        entries = [entry for entry in gpus if not has_nvidia or entry.startswith("GPU-")]
        # What names none of them names a card of another vendor: `--gpus` as a whole was looked at before.
        return Selection(each_gpu_once(user_list(entries, found).parts or {}), "--gpus", [])
    counts = [max(1, tiles.get(gpu.uuid, 1)) for gpu in found]
    is_composite = environ.get(HIERARCHY, "").upper() == "COMPOSITE"
    slots = _shown(counts, is_composite)
    by = ""
    notes: list[str] = []
    for variable, read in ((MASK, _masked), (SELECTOR, _selected)):
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            if re.search("[0-9]", text):
                _check_order(environ, has_integrated)
            slots, more = read(text, slots, is_composite)
        except _Unclear as reason:
            notes.append(f"{variable}={text:.200}: {reason}; it is not used")
            continue
        notes += [f"{variable}={text:.200}: {note}" for note in more]
        by = variable
    if not by:
        return everything._replace(notes=notes)
    return Selection(_chosen(found, counts, slots), by, notes)


def _check_order(environ: Mapping[str, str], has_integrated: bool) -> None:
    """Raise `_Unclear` where it is not known in what order, or among which devices, indices count."""
    if not SLURM.isdisjoint(environ):
        raise _Unclear("in a Slurm job indices may count in the job's own GPUs")
    if has_integrated:
        raise _Unclear("the integrated graphics of this machine has a number too, and its place is not known")


def _shown(counts: Sequence[int], is_composite: bool) -> list[Slot]:
    """The devices that Level Zero shows without a mask."""
    if is_composite:
        return [Slot(card, frozenset(range(count))) for card, count in enumerate(counts)]
    return [Slot(card, frozenset((tile,))) for card, count in enumerate(counts) for tile in range(count)]


def _masked(text: str, slots: Sequence[Slot], is_composite: bool) -> tuple[list[Slot], list[str]]:
    """What a mask leaves; the order stays."""
    left: dict[int, set[int]] = {}
    notes = []
    for entry in map(str.strip, text.split(",")):
        match = re.fullmatch(r"([0-9]{1,6})(?:\.([0-9]{1,6}))?", entry)
        if match is None:
            raise _Unclear(f"{entry!r} is no number of a device")
        place, tile = int(match[1]), match[2]
        if tile is not None and not is_composite:
            raise _Unclear(f"{entry!r} is a tile of a card, and {HIERARCHY} is not COMPOSITE")
        if place >= len(slots) or (tile is not None and int(tile) not in slots[place].tiles):
            notes.append(f"no device {entry!r} is here")
            continue
        left.setdefault(place, set()).update(slots[place].tiles if tile is None else (int(tile),))
    return [Slot(slots[place].card, frozenset(left[place])) for place in sorted(left)], notes


def _selected(text: str, slots: Sequence[Slot], is_composite: bool) -> tuple[list[Slot], list[str]]:
    """What a selector leaves: what it accepts (all, where it only discards) without what it discards."""
    accepted: list[Slot] = []
    discarded: list[Slot] = []
    has_accepting = False
    for term in filter(None, map(str.strip, text.split(";"))):
        match = _TERM.fullmatch(term)
        if match is None:
            raise _Unclear(f"{term!r} is no selector")
        is_discard = bool(match[1])
        has_accepting |= not is_discard
        backend = match[2].lower()
        for entry in match[3].split(","):
            device = _DEVICE.fullmatch(entry)
            if device is None:
                raise _Unclear(f"{entry!r} is no device of a selector")
            picked = _picked(backend, device[1].lower(), device[2], slots, is_composite)
            (discarded if is_discard else accepted).extend(picked)
    left = accepted if has_accepting else list(slots)
    return [slot for slot in _each_once(left) if slot not in discarded], []


def _picked(backend: str, device: str, inner: str, slots: Sequence[Slot], is_composite: bool) -> list[Slot]:
    """The slots that one entry of a selector means."""
    if backend not in ("*", "level_zero", "opencl") or device in ("cpu", "fpga"):
        return []
    if device in ("*", "gpu"):
        return list(slots)
    if backend != "level_zero":
        raise _Unclear(f"in what order {backend} counts is not known")
    if int(device) >= len(slots):
        return []
    slot = slots[int(device)]
    tile = inner.split(".")[1] if inner and is_composite else "*"
    if tile == "*":
        return [slot]
    return (
        [Slot(slot.card, frozenset((sorted(slot.tiles)[int(tile)],)))] if int(tile) < len(slot.tiles) else []
    )


def _each_once(slots: Iterable[Slot]) -> list[Slot]:
    return list(dict.fromkeys(slots))


def _chosen(found: Sequence[FoundGpu], counts: Sequence[int], slots: Iterable[Slot]) -> list[Chosen]:
    """The cards of these slots; of a card whose tiles are not all there, the share that they are."""
    held: dict[int, set[int]] = {}
    for slot in slots:
        held.setdefault(slot.card, set()).update(slot.tiles)
    chosen = []
    for card, own in sorted(held.items()):
        if len(own) == counts[card]:
            chosen.append(Chosen(found[card]))
        else:
            which = ", ".join(map(str, sorted(own)))
            note = f"tile {which} of {counts[card]}: the same share of the card's energy"
            chosen.append(Chosen(found[card], len(own) / counts[card], note))
    return chosen
