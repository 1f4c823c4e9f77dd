"""Which GPUs of AMD and Intel a job was given, by the user, by ROCm's variables or by HIP's; pure.

ROCR_VISIBLE_DEVICES leaves a part of the machine's GPUs, and HIP_VISIBLE_DEVICES (or CUDA_VISIBLE_DEVICES,
which HIP reads too) a part of that, in HIP's order (ROCm's documentation, "GPU isolation techniques").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from carbonmon.hardware.found_gpus import Chosen, FoundGpu, Part, each_gpu_once, whole
from carbonmon.hardware.gpu_lists import user_list
from carbonmon.hardware.gpu_selection import CUDA, VARIABLES, Selection

ROCR, HIP = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
ROCM_VARIABLES = frozenset((ROCR, HIP))


def select(
    found: Sequence[FoundGpu],
    hip_order: Sequence[Part],
    gpus: tuple[str, ...] | None,
    environ: Mapping[str, str],
    *,
    has_nvidia: bool,
) -> Selection:
    """The GPUs of `found` that a job was given; `hip_order` are AMD's, or partitions, as HIP numbers them.

    `has_nvidia`: NVML's GPUs are here too. Then `--gpus` has NVML's indices, and CUDA's list is about those
    GPUs. Indices of a Slurm job may count in the job's own GPUs, of which sysfs tells nothing: they decide
    nothing.
    """
    everything = Selection(each_gpu_once({gpu.uuid: whole(gpu) for gpu in found}), "", [])
    if gpus is not None:
        entries = [entry for entry in gpus if not has_nvidia or _is_one_of(entry, found)]
        listed = user_list(entries, found)
        return Selection(each_gpu_once(listed.parts or {}), "--gpus", list(listed.notes))
    if has_nvidia and environ.keys().isdisjoint(ROCM_VARIABLES):
        given = sorted(VARIABLES & environ.keys())
        return Selection([], given[0], []) if given else everything
    slots, by = list(hip_order), ""
    notes: list[str] = []
    for variables in ((ROCR,), (HIP, CUDA)):
        variable = next((name for name in variables if name in environ), None)
        if variable is None or not hip_order or (variable == CUDA and has_nvidia):
            continue
        text = environ[variable]
        if not text.startswith("GPU-") and _is_slurm(environ):
            return everything
        slots, note = _visible(variable, text, slots)
        notes += note
        by = variable
    if not by:
        return everything
    return Selection(_chosen(slots, hip_order), by, notes)


def _chosen(slots: Sequence[Part], hip_order: Sequence[Part]) -> list[Chosen]:
    """Each GPU once; one of which the job has all partitions is a whole one."""
    keys = {slot.key for slot in slots}
    missing = {slot.gpu.uuid for slot in hip_order if slot.key not in keys}
    parts = {slot.key: slot if slot.gpu.uuid in missing else whole(slot.gpu) for slot in slots}
    return each_gpu_once(parts)


def _visible(variable: str, text: str, slots: list[Part]) -> tuple[list[Part], list[str]]:
    """What a list leaves of `slots`, in its order; it ends at the first entry that is not there."""
    left: list[Part] = []
    for entry in map(str.strip, text.split(",")):
        if re.fullmatch(r"[0-9]{1,9}", entry):
            found = slots[int(entry) : int(entry) + 1]
        else:  # the id of a GPU in partitions is that of all of them
            found = [slot for slot in slots if slot.gpu.uuid.lower() == entry.lower()]
        if not found:
            note = f"{variable}={text}: no GPU {entry!r} here; what follows is ignored"
            return left, [] if entry in ("", "-1") else [note]
        left += [slot for slot in found if slot not in left]
    return left, []


def _is_one_of(entry: str, found: Sequence[FoundGpu]) -> bool:
    return entry.startswith("GPU-") and any(gpu.uuid.startswith(entry) for gpu in found)


def _is_slurm(environ: Mapping[str, str]) -> bool:
    return not {"SLURM_JOB_GPUS", "SLURM_STEP_GPUS"}.isdisjoint(environ)
