"""Selects the GPUs of a run: by the user's `--gpus`, else by the job's environment; pure.

CUDA's rules (CUDA C Programming Guide, "CUDA Environment Variables"): the list is read up to its first
invalid entry; entries are indices, GPU UUIDs or unique beginnings of one, or MIG UUIDs; indices follow
CUDA_DEVICE_ORDER, whose default FASTEST_FIRST equals the PCI order only where all GPUs are alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from carbonmon.core.errors import ConfigError

NO_LIST = frozenset(("", "all", "void", "none"))
"""Values of NVIDIA_VISIBLE_DEVICES that name no GPU (NVIDIA container toolkit, "GPU enumeration")."""


class MigInstance(NamedTuple):
    """A MIG instance and its share of the GPU's compute slices."""

    uuid: str
    share_ratio: float
    note: str


class FoundGpu(NamedTuple):
    """A GPU as a sensor found it; `pci_bus_id` sorts as PCI order does, `number` is NVML's index."""

    uuid: str
    number: int
    name: str
    pci_bus_id: str
    mig: tuple[MigInstance, ...] = ()


class Chosen(NamedTuple):
    gpu: FoundGpu
    share_ratio: float = 1.0
    share_note: str = ""


def choose(
    found: Sequence[FoundGpu], gpus: tuple[str, ...] | None, environ: Mapping[str, str]
) -> tuple[list[Chosen], list[str]]:
    """The GPUs to meter, each once, and notes on entries that could not be applied."""
    notes: list[str] = []
    if gpus is not None:
        ordered = sorted(found, key=lambda gpu: gpu.number)
        picks = {}
        for entry in gpus:
            pick = _find(entry, ordered)
            if pick is None:
                notes.append(f"--gpus {entry}: no such GPU here ({_listing(ordered)})")
            else:
                picks[pick.key] = pick.chosen
        return _once(picks), notes
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [Chosen(gpu) for gpu in sorted(found, key=lambda gpu: gpu.number)], notes
    ordered = sorted(found, key=lambda gpu: gpu.pci_bus_id)
    entries = [entry.strip() for entry in visible.split(",")]
    picks = {}
    for entry in entries:
        pick = _find(entry, ordered)
        if pick is None:
            if entry not in ("", "-1", "NoDevFiles"):
                notes.append(
                    f"CUDA_VISIBLE_DEVICES={visible}: no GPU {entry!r} here; CUDA ignores it and what follows"
                )
            break
        picks[pick.key] = pick.chosen
    by_index = any(_index(entry) is not None for entry in entries)
    mixed = len({gpu.name for gpu in found}) > 1
    if by_index and mixed and environ.get("CUDA_DEVICE_ORDER", "FASTEST_FIRST") != "PCI_BUS_ID":
        notes.append(
            "CUDA numbers GPUs of different models by speed, which NVML does not know: set "
            "CUDA_DEVICE_ORDER=PCI_BUS_ID or give --gpus with UUIDs to be sure of the right ones"
        )
    return _once(picks), notes


def allocate(
    found: Sequence[FoundGpu], gpus: tuple[str, ...] | None, environ: Mapping[str, str]
) -> tuple[dict[str, float] | None, list[str]]:
    """The GPUs allocated to a job with the fraction of each by UUID, None if unknown; and notes.

    The user's choice takes precedence, then Slurm's lists (sbatch(1), srun(1): global numbers), the NVIDIA
    container toolkit's, and CUDA's, whose empty list means no GPU. A list of Slurm or of a container that
    names a GPU that is not here uses other numbers than this view of the node: it is ignored.
    """
    if gpus is not None:
        chosen, notes = choose(found, gpus, {})
        return _fractions(chosen), notes
    notes = []
    ordered = sorted(found, key=lambda gpu: gpu.number)
    for variable in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "NVIDIA_VISIBLE_DEVICES"):
        text = environ.get(variable, "")
        if text.strip() in NO_LIST:
            continue
        picks = {entry: _find(entry, ordered) for entry in map(str.strip, text.split(","))}
        known = {pick.key: pick.chosen for pick in picks.values() if pick is not None}
        missing = [entry for entry, pick in picks.items() if pick is None]
        if not missing:
            return _fractions(_once(known)), notes
        notes.append(f"{variable}={text}: no GPU {missing[0]!r} here; it is not used")
    if "CUDA_VISIBLE_DEVICES" not in environ:
        return None, notes
    chosen, cuda_notes = choose(found, None, environ)
    return _fractions(chosen), notes + cuda_notes


def check_entries(gpus: tuple[str, ...]) -> None:
    """Raise `ConfigError` if an entry of `--gpus` is neither an index nor a UUID."""
    for entry in gpus:
        if _index(entry) is None and not entry.startswith(("GPU-", "MIG-")):
            raise ConfigError(
                f"--gpus: {entry!r} is neither an index nor a UUID; "
                "give indices as nvidia-smi shows them, or UUIDs: --gpus 0,1 or --gpus GPU-8932f937"
            )


def parse_gpu_model(text: str) -> tuple[str, int]:
    """(name, count) of `--gpu-model NAME[:COUNT]`; raises `ConfigError` for a count that is none."""
    name, colon, count = text.partition(":")
    name = name.strip()
    if not name or (colon and re.fullmatch(r"[1-9][0-9]{0,2}", count) is None):
        raise ConfigError(
            f"--gpu-model: {text!r} is not NAME or NAME:COUNT; give for example 'A100 PCIe 80GB:4'"
        )
    return name, int(count or 1)


class _Found(NamedTuple):
    """The GPU or MIG instance of an entry: `key` is unique to it."""

    key: str
    chosen: Chosen


def _fractions(chosen: Sequence[Chosen]) -> dict[str, float]:
    return {pick.gpu.uuid: pick.share_ratio for pick in chosen}


def _index(entry: str) -> int | None:
    return int(entry) if re.fullmatch(r"[0-9]{1,9}", entry) else None


def _find(entry: str, ordered: Sequence[FoundGpu]) -> _Found | None:
    position = _index(entry)
    if position is not None:
        return _Found(ordered[position].uuid, Chosen(ordered[position])) if position < len(ordered) else None
    if entry.startswith("MIG-"):
        for gpu in ordered:
            for instance in gpu.mig:
                if instance.uuid == entry:
                    return _Found(entry, Chosen(gpu, instance.share_ratio, instance.note))
        # The older form, MIG-GPU-<UUID>/<gpu instance>/<compute instance>; drivers before 470 report it.
        parent = entry.removeprefix("MIG-").partition("/")[0]
        for gpu in ordered:
            if gpu.uuid == parent:
                note = "a MIG instance by its old name: its share of the GPU is unknown"
                return _Found(entry, Chosen(gpu, 1.0, note))
        return None
    if not entry.startswith("GPU-"):
        return None
    matches = [gpu for gpu in ordered if gpu.uuid.startswith(entry)]
    return _Found(matches[0].uuid, Chosen(matches[0])) if len(matches) == 1 else None


def _once(picks: Mapping[str, Chosen]) -> list[Chosen]:
    """Each GPU once: the shares of MIG instances of one GPU are added; a whole GPU includes its instances."""
    chosen: dict[str, Chosen] = {}
    for pick in picks.values():
        before = chosen.get(pick.gpu.uuid)
        if before is None:
            chosen[pick.gpu.uuid] = pick
        elif before.share_note and pick.share_note:
            share_ratio = min(1.0, before.share_ratio + pick.share_ratio)
            chosen[pick.gpu.uuid] = Chosen(pick.gpu, share_ratio, f"{before.share_note}; {pick.share_note}")
        else:
            chosen[pick.gpu.uuid] = Chosen(pick.gpu)
    return list(chosen.values())


def _listing(ordered: Sequence[FoundGpu]) -> str:
    if not ordered:
        return "there are none"
    return "there are " + ", ".join(f"{gpu.number} {gpu.uuid}" for gpu in ordered)
