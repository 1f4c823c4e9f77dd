"""Which Gaudi accelerators a job was given, by the user or by Habana's variables; pure.

HABANA_VISIBLE_MODULES holds module ids, which are the same in every view of the machine and after every boot;
HABANA_VISIBLE_DEVICES holds indices, which are not (docs.habana.ai, "Multiple Dockers Each with a Single
Workload", "Multiple Workloads on a Single Docker"). So module ids count first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from carbonmon.hardware.found_gpus import FoundGpu, each_gpu_once, whole
from carbonmon.hardware.gpu_lists import user_list
from carbonmon.hardware.gpu_selection import Selection

MODULES, DEVICES = "HABANA_VISIBLE_MODULES", "HABANA_VISIBLE_DEVICES"
HABANA_VARIABLES = frozenset((MODULES, DEVICES))


def select(
    found: Sequence[FoundGpu],
    modules: Mapping[str, int],
    gpus: tuple[str, ...] | None,
    environ: Mapping[str, str],
    *,
    has_other_gpus: bool,
) -> Selection:
    """The accelerators of `found` that a job was given; `modules` are their module ids, by device id.

    `has_other_gpus`: GPUs of another vendor are here too. Then `--gpus` has their indices, and names
    accelerators by their ids only.
    """
    if gpus is not None:
        # An id that is none of them is of another vendor's GPU: `--gpus` as a whole is looked at elsewhere.
        entries = [
            entry
            for entry in gpus
            if any(gpu.uuid.startswith(entry) for gpu in found)
            or not (has_other_gpus or entry.startswith("GPU-"))
        ]
        listed = user_list(entries, found)
        return Selection(each_gpu_once(listed.parts or {}), "--gpus", list(listed.notes))
    notes: list[str] = []
    by_module = {modules[gpu.uuid]: gpu for gpu in found if gpu.uuid in modules}
    by_index = {gpu.number: gpu for gpu in found}
    for variable, numbered in ((MODULES, by_module), (DEVICES, by_index)):
        chosen, more = _listed(variable, environ.get(variable, ""), numbered, len(found))
        notes += more
        if chosen is not None:
            parts = {gpu.uuid: whole(gpu) for gpu in chosen}
            return Selection(each_gpu_once(parts), variable, notes)
    return Selection(each_gpu_once({gpu.uuid: whole(gpu) for gpu in found}), "", notes)


def _listed(
    variable: str, text: str, numbered: Mapping[int, FoundGpu], count: int
) -> tuple[list[FoundGpu] | None, list[str]]:
    """What a list names, None where it decides nothing; and notes.

    An index that is not here is one of the host, seen from a container that shows only its own: then what is
    visible is what was given, if it is no more than the list names.
    """
    entries = [entry for entry in map(str.strip, text.split(",")) if entry]
    if not entries or "all" in (entry.lower() for entry in entries):
        return None, []
    if not all(re.fullmatch(r"[0-9]{1,9}", entry) for entry in entries):
        return None, [f"{variable}={text:.200}: it is no list of numbers, and is not used"]
    numbers = dict.fromkeys(map(int, entries))
    chosen = [numbered[number] for number in numbers if number in numbered]
    missing = [number for number in numbers if number not in numbered]
    if not missing:
        return chosen, []
    kind = "module" if variable == MODULES else "index"
    note = f"{variable}={text:.200}: no accelerator with the {kind} {missing[0]} is here"
    if variable == MODULES:
        return (chosen, [note]) if chosen else (None, [f"{note}; it is not used"])
    if count <= len(numbers):
        return list(numbered.values()), []
    return None, [f"{note}; it is not used"]
