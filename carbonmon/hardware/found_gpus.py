"""The records of the GPUs that were found, and of the parts of them that a list names; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple

NO_GPU = pattern(r"TPU-|neuron[0-9]")
"""How the ids of TPUs and of AWS's devices begin."""


class MigInstance(NamedTuple):
    """A MIG instance and its share of the GPU's slices.

    `number` is NVML's index among the instances of its GPU. `gpu_instance` and `compute_instance` are the
    numbers in its older name, None where the driver does not say.
    """

    uuid: str
    share_ratio: float
    note: str
    number: int = 0
    gpu_instance: int | None = None
    compute_instance: int | None = None


class FoundGpu(NamedTuple):
    """A GPU as a sensor found it; `pci_bus_id` sorts as PCI order does, `number` is NVML's index.

    `minor` is the N of /dev/nvidiaN, None where it is unknown. A GPU in MIG mode may have no instance.
    """

    uuid: str
    number: int
    name: str
    pci_bus_id: str
    mig: tuple[MigInstance, ...] = ()
    minor: int | None = None
    is_mig: bool = False

    @property
    def has_mig_mode(self) -> bool:
        return self.is_mig or bool(self.mig)


class Chosen(NamedTuple):
    """A GPU, or the share of it that its instances are."""

    gpu: FoundGpu
    share_ratio: float = 1.0
    share_note: str = ""


class Part(NamedTuple):
    """A whole GPU or one MIG instance, with the share that it is; `key` is its UUID, by which it is one."""

    key: str
    chosen: Chosen

    @property
    def gpu(self) -> FoundGpu:
        return self.chosen.gpu


def whole(gpu: FoundGpu) -> Part:
    return Part(gpu.uuid, Chosen(gpu))


def instances(gpu: FoundGpu) -> list[Part]:
    return [Part(mig.uuid, Chosen(gpu, mig.share_ratio, mig.note)) for mig in gpu.mig]


def in_pci_order(found: Iterable[FoundGpu]) -> list[FoundGpu]:
    return sorted(found, key=lambda gpu: gpu.pci_bus_id)


def in_nvml_order(found: Iterable[FoundGpu]) -> list[FoundGpu]:
    return sorted(found, key=lambda gpu: gpu.number)


def by_uuid(entry: str, found: Sequence[FoundGpu]) -> Part | None:
    """The GPU that a UUID or a unique beginning of one names, or the MIG instance; None if there is none."""
    if entry.startswith("MIG-"):
        return _instance(entry, found)
    if not entry.startswith("GPU-"):
        return None
    hits = [gpu for gpu in found if gpu.uuid.startswith(entry)]
    return whole(hits[0]) if len(hits) == 1 else None


def _instance(entry: str, found: Sequence[FoundGpu]) -> Part | None:
    parts = [part for gpu in found for part in instances(gpu)]
    named = next((part for part in parts if part.key == entry), None)
    if named is not None:
        return named
    # The older form, MIG-GPU-<UUID>/<GPU instance>/<compute instance>; drivers before 470 report it, and
    # CUDA takes it from newer ones too.
    parent, _, numbers = entry.removeprefix("MIG-").partition("/")
    gpu = next((gpu for gpu in found if gpu.uuid == parent), None)
    if gpu is None:
        return None
    if all(mig.gpu_instance is not None and mig.compute_instance is not None for mig in gpu.mig) and gpu.mig:
        old_names = (f"{mig.gpu_instance}/{mig.compute_instance}" for mig in gpu.mig)
        return dict(zip(old_names, instances(gpu), strict=True)).get(numbers)
    note = "a MIG instance by its old name: its share of the GPU is unknown"
    return Part(entry, Chosen(gpu, 1.0, note))


def each_gpu_once(parts: Mapping[str, Part]) -> list[Chosen]:
    """Each GPU once: the shares of MIG instances of one GPU are added; a whole GPU includes its instances."""
    chosen: dict[str, Chosen] = {}
    for part in parts.values():
        pick = part.chosen
        before = chosen.get(pick.gpu.uuid)
        if before is None:
            chosen[pick.gpu.uuid] = pick
        elif before.share_note and pick.share_note:
            share_ratio = min(1.0, before.share_ratio + pick.share_ratio)
            chosen[pick.gpu.uuid] = Chosen(pick.gpu, share_ratio, f"{before.share_note}; {pick.share_note}")
        else:
            chosen[pick.gpu.uuid] = Chosen(pick.gpu)
    return list(chosen.values())
