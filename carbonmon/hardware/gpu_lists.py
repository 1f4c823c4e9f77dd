"""Reads lists of GPUs, each by the rules of who wrote it: the user, a container runtime, Slurm, CUDA; pure.

A reader gives the named parts by UUID, None where the list decides nothing, and notes for people.
Sources are in docs/use/attribution.md, "Which variable counts".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.found_gpus import (
    FoundGpu,
    Part,
    by_uuid,
    in_nvml_order,
    in_pci_order,
    instances,
    whole,
)

CDI_NAME = pattern(r"[A-Za-z0-9._-]+/gpu=")
"""What precedes a device in the Container Device Interface's names: nvidia.com/gpu=0."""

Parts = dict[str, Part]


class Listed(NamedTuple):
    """What a list names; `parts` is None where it decides nothing.

    `is_cut`: it ends at a GPU that is not here.
    """

    parts: Parts | None
    notes: tuple[str, ...] = ()
    is_cut: bool = False


def user_list(entries: Sequence[str], found: Sequence[FoundGpu]) -> Listed:
    """`--gpus`: indices of NVML and UUIDs, in any mixture; an entry that is not here is left out."""
    ordered = in_nvml_order(found)
    here = ", ".join(f"{gpu.number} {gpu.uuid}" for gpu in ordered)
    listing = f"there are {here}" if here else "there are none"
    parts: Parts = {}
    notes = []
    for entry in entries:
        part = _by_number(entry, ordered) or by_uuid(entry, ordered)
        if part is None:
            notes.append(f"--gpus {entry}: no such GPU here ({listing})")
        else:
            parts[part.key] = part
    return Listed(parts, tuple(notes))


def container_list(variable: str, text: str, found: Sequence[FoundGpu]) -> Listed:
    """NVIDIA_VISIBLE_DEVICES: indices of NVML on the host, `GPU:INSTANCE` indices, UUIDs, all, none, void."""
    entries = [CDI_NAME.sub("", entry) for entry in _entries(text)]
    if entries == ["none"]:
        return Listed({})
    if "all" in entries or not set(entries) - {"void", "none"}:
        return Listed(None)
    if text.strip().startswith("/"):
        return Listed(None, (f"{variable}={text}: the devices are in files there, which are not read",))
    ordered = in_nvml_order(found)

    def find(entry: str) -> Part | None:
        return _by_number(entry, ordered) or _by_mig_index(entry, ordered) or by_uuid(entry, ordered)

    return _listed(variable, text, entries, found, find)


def slurm_list(variable: str, text: str, found: Sequence[FoundGpu]) -> Listed:
    """SLURM_STEP_GPUS and SLURM_JOB_GPUS: minor numbers of the devices (/dev/nvidiaN), also UUIDs.

    NVML's indices stand in where a driver gives no minor numbers. Under MIG Slurm numbers instances in an
    order of its own, so that its list decides nothing.
    """
    entries = _entries(text)
    if not entries:
        return Listed(None)
    with_mig = [str(gpu.number) for gpu in in_nvml_order(found) if gpu.has_mig_mode]
    if with_mig and any(_number(entry) is not None for entry in entries):
        return Listed(
            None,
            (
                f"{variable}={text}: Slurm's numbers cannot be mapped where a GPU is in MIG mode "
                f"(GPU {', '.join(with_mig)}); it is not used",
            ),
        )
    has_minors = all(gpu.minor is not None for gpu in found)
    numbered = {gpu.minor if has_minors else gpu.number: gpu for gpu in found}

    def find(entry: str) -> Part | None:
        number = _number(entry)
        if number is None:
            return by_uuid(entry, found)
        return whole(numbered[number]) if number in numbered else None

    return _listed(variable, text, entries, found, find)


def cuda_list(text: str, slots: Sequence[Part], found: Sequence[FoundGpu]) -> Listed:
    """CUDA_VISIBLE_DEVICES, of which an index counts in `slots`: what a process sees, in CUDA's order.

    The first entry says whether all are indices or UUIDs. The list ends at its first invalid entry; a device
    that is named twice makes it name none. A GPU in MIG mode stands for its first instance. Of an index the
    leading digits count. (CUDA programming guide, "CUDA environment variables"; PyTorch's torch.cuda, which
    repeats the driver's rules, for repeated and odd entries.)
    """
    entries = [entry.strip() for entry in text.split(",")]
    is_uuids = entries[0].startswith(("GPU-", "MIG-"))
    prefix = entries[0][:4]
    parts: Parts = {}
    seen: set[str | int] = set()
    notes = []
    is_cut = False
    for entry in entries:
        place = None if is_uuids else _leading_number(entry)
        slot: Part | None
        if place is not None:
            slot = slots[place] if place < len(slots) else None
            if slot is not None and _number(entry) is None:
                notes.append(f"CUDA_VISIBLE_DEVICES={text}: CUDA reads {entry!r} as {place}")
        else:
            slot = by_uuid(entry, found) if is_uuids and entry.startswith(prefix) else None
        if slot is None:
            is_cut = entry not in ("", "-1", "NoDevFiles")
            if is_cut:
                notes.append(
                    f"CUDA_VISIBLE_DEVICES={text}: no GPU {entry!r} here; CUDA ignores it and what follows"
                )
            break
        same = place if place is not None else slot.key
        if same in seen:
            return Listed({}, (f"CUDA_VISIBLE_DEVICES={text}: a GPU is named twice: CUDA then shows none",))
        seen.add(same)
        part = first_instance(slot)
        if part is None:
            notes.append(f"CUDA_VISIBLE_DEVICES={text}: GPU {entry} is in MIG mode and has no instance")
        else:
            parts[part.key] = part
    return Listed(parts, tuple(notes), is_cut)


def has_entries(text: str) -> bool:
    """Whether a list of CUDA's asks for any GPU."""
    return has_indices(text) or text.strip().startswith(("GPU-", "MIG-"))


def has_indices(text: str) -> bool:
    """Whether a list of CUDA's is one of indices."""
    return _leading_number(text.partition(",")[0].strip()) is not None


def first_instance(part: Part) -> Part | None:
    """What CUDA shows of a GPU: in MIG mode its first instance, None if it has none, else the GPU itself.

    (MIG user guide, "CUDA device enumeration": never the whole GPU, and one instance for each process.)
    """
    if part.key != part.gpu.uuid or not part.gpu.has_mig_mode:
        return part
    return next(iter(instances(part.gpu)), None)


def _listed(
    variable: str,
    text: str,
    entries: Sequence[str],
    found: Sequence[FoundGpu],
    find: Callable[[str], Part | None],
) -> Listed:
    """A list of who allocates: what of it is here, or None if it speaks of another view of the node.

    UUIDs are the same in every view, so one that is missing (its GPU may be lost) is left out. A number that
    is missing shows that the numbers are those of the host: then what is visible is what was given, if it is
    no more than the list names.
    """
    picks = {entry: find(entry) for entry in entries}
    parts = {part.key: part for part in picks.values() if part is not None}
    missing = [entry for entry, part in picks.items() if part is None]
    if not missing:
        return Listed(parts)
    note = f"{variable}={text}: no GPU {missing[0]!r} here"
    if any(_number(entry.partition(":")[0]) is not None for entry in missing):
        is_of_instances = any(":" in entry for entry in missing)
        visible = [
            part
            for gpu in in_pci_order(found)
            for part in (instances(gpu) if is_of_instances else [whole(gpu)])
        ]
        if visible and len(visible) <= len(picks) and all(map(_is_number, picks)):
            return Listed({part.key: part for part in visible})
    elif parts:
        return Listed(parts, (note,))
    return Listed(None, (f"{note}; it is not used",))


def _entries(text: str) -> list[str]:
    return [entry for entry in map(str.strip, text.split(",")) if entry]


def _number(entry: str) -> int | None:
    return int(entry) if re.fullmatch(r"[0-9]{1,9}", entry) else None


def _is_number(entry: str) -> bool:
    return all(_number(part) is not None for part in entry.split(":"))


def _leading_number(entry: str) -> int | None:
    digits = re.match(r"\+?([0-9]{1,9})(?![0-9])", entry)
    return int(digits[1]) if digits else None


def _by_number(entry: str, ordered: Sequence[FoundGpu]) -> Part | None:
    """The GPU with this index of NVML; `ordered` has gaps where a GPU cannot be read."""
    number = _number(entry)
    return next((whole(gpu) for gpu in ordered if gpu.number == number), None)


def _by_mig_index(entry: str, ordered: Sequence[FoundGpu]) -> Part | None:
    """The instance of `GPU:INSTANCE`, both numbers as nvidia-smi lists them."""
    numbers = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", entry)
    if numbers is None:
        return None
    for gpu in ordered:
        for mig, part in zip(gpu.mig, instances(gpu), strict=True):
            if (gpu.number, mig.number) == (int(numbers[1]), int(numbers[2])):
                return part
    return None
