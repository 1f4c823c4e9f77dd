"""Which GPUs a job was given: one answer for `carbonmon run` and the daemon; pure.

What the user says counts first, then the container's list, then Slurm's, then CUDA's. CUDA's list also
narrows what a container or Slurm gave: a job may use a part of it. The table is in docs/use/attribution.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.found_gpus import (
    Chosen,
    FoundGpu,
    Part,
    each_gpu_once,
    in_nvml_order,
    in_pci_order,
    whole,
)
from carbonmon.hardware.gpu_lists import (
    Listed,
    Parts,
    container_list,
    cuda_list,
    has_indices,
    slurm_list,
    user_list,
)

CUDA = "CUDA_VISIBLE_DEVICES"
GIVERS = (
    ("NVIDIA_VISIBLE_DEVICES", container_list),
    ("SLURM_STEP_GPUS", slurm_list),
    ("SLURM_JOB_GPUS", slurm_list),
)
"""The variables of who gives GPUs to a job, in the order in which they count, and their readers."""
_SHORT_ID = len("GPU-8932f937")
_MOST_NAMED = 16
VARIABLES = frozenset((CUDA, *(variable for variable, _ in GIVERS)))


class Selection(NamedTuple):
    """The GPUs of a job, each once. `by` names what decided, "" where nothing did: then it is every GPU."""

    chosen: list[Chosen]
    by: str
    notes: list[str]


def select(
    found: Sequence[FoundGpu],
    gpus: tuple[str, ...] | None,
    environ: Mapping[str, str],
    *,
    is_own_view: bool,
) -> Selection:
    """The GPUs that a job was given by the user's `gpus`, else by its environment.

    `is_own_view`: the job sees the same GPUs as we do, so that CUDA's indices count in `found`; else, as for
    a daemon outside of the job's container or cgroup, they may count in what the job was given.
    """
    if gpus is not None:
        listed = user_list(gpus, found)
        return Selection(each_gpu_once(listed.parts or {}), "--gpus", list(listed.notes))
    notes: list[str] = []
    given: Parts | None = None
    by = ""
    for variable, read in GIVERS:
        listed = read(variable, environ.get(variable, ""), found)
        notes += listed.notes
        if listed.parts is not None:
            given, by = listed.parts, variable
            break
    visible = environ.get(CUDA)
    if visible is not None and given is None:
        listed = _visible(visible, found)
        given, by = listed.parts, CUDA
        notes += [*listed.notes, *_order_notes(visible, found, environ)]
    elif visible is not None and given:
        listed = _narrowed(visible, given, by, found, is_own_view)
        given, by = listed.parts, by if listed.parts else CUDA
        notes += listed.notes
    if given is None:
        with_mig = [str(gpu.number) for gpu in in_nvml_order(found) if gpu.has_mig_mode]
        if with_mig and environ and is_own_view:
            notes.append(
                f"GPU {', '.join(with_mig)} is in MIG mode, and nothing says which instance is the job's: "
                f"the whole GPU is counted; set {CUDA}=MIG-… or give --gpus MIG-… (nvidia-smi -L)"
            )
        given = {gpu.uuid: whole(gpu) for gpu in in_nvml_order(found)}
    return Selection(each_gpu_once(given), by, notes)


def choose(
    found: Sequence[FoundGpu], gpus: tuple[str, ...] | None, environ: Mapping[str, str]
) -> tuple[list[Chosen], list[str]]:
    """The GPUs to meter for a job in our own view, each once, and notes on entries that were not applied."""
    selection = select(found, gpus, environ, is_own_view=True)
    return selection.chosen, selection.notes


def allocate(
    found: Sequence[FoundGpu], gpus: tuple[str, ...] | None, environ: Mapping[str, str]
) -> tuple[dict[str, float] | None, list[str]]:
    """The GPUs allocated to a job of any view with the fraction of each, None if unknown; and notes."""
    selection = select(found, gpus, environ, is_own_view=False)
    fractions = {pick.gpu.uuid: pick.share_ratio for pick in selection.chosen}
    return fractions if selection.by else None, selection.notes


def check_entries(gpus: tuple[str, ...]) -> None:
    """Raise `ConfigError` if an entry of `--gpus` is neither an index nor a UUID."""
    for entry in gpus:
        if re.fullmatch(r"[0-9]{1,9}", entry) is None and not entry.startswith(("GPU-", "MIG-")):
            raise ConfigError(
                f"--gpus: {entry!r} is neither an index nor a UUID; {_instead(entry)}give indices as "
                "nvidia-smi shows them, or UUIDs: --gpus 0,1 or --gpus GPU-8932f937"
            )


def _instead(entry: str) -> str:
    """How a list of GPUs is written that was written otherwise."""
    span = re.fullmatch(r"(\d{1,3})\s*(?:-|:|\.\.)\s*(\d{1,3})", entry)
    if span and int(span[1]) < int(span[2]) < int(span[1]) + 32:
        return f"for a range write {','.join(map(str, range(int(span[1]), int(span[2]) + 1)))}; "
    if entry.lower() in ("all", "*", "auto"):
        return "for all leave it out; "
    if re.fullmatch(r"\d+(\s+\d+)+", entry):
        return f"separate them by commas: {','.join(entry.split())}; "
    device = re.fullmatch(r"(?:cuda|gpu):?(\d+)", entry.lower())
    return f"for {entry} write {device[1]}; " if device else ""


def own_entries(
    gpus: tuple[str, ...], found: Sequence[FoundGpu], others: Callable[[], Sequence[FoundGpu]]
) -> tuple[str, ...]:
    """What of `--gpus` is about the GPUs `found`: all but the ids of GPUs of other vendors.

    `others` gives these; it is called where an id is none of `found`.
    """
    unknown = [entry for entry in gpus if not entry.isdecimal() and not user_list((entry,), found).parts]
    foreign = others() if unknown else ()
    left_out = {entry for entry in unknown if user_list((entry,), foreign).parts}
    return tuple(entry for entry in gpus if entry not in left_out)


def check_present(
    gpus: Sequence[str],
    found: Sequence[FoundGpu],
    unreadable: Collection[int] = (),
    *,
    lister: str = "nvidia-smi -L",
) -> None:
    """Raise `ConfigError` if an entry of `--gpus` names no GPU of the machine, or several.

    `unreadable` are the indices of GPUs that are there and do not answer: who names one has made no mistake,
    and a UUID may be that of one. `lister` is the command that lists the GPUs.
    """
    for entry in gpus:
        if user_list((entry,), found).parts:
            continue
        is_index = entry.isdecimal()
        if int(entry) in unreadable if is_index else unreadable:
            continue
        here = [f"{gpu.number} {_short_id(gpu.uuid)}" for gpu in in_nvml_order(found)]
        more = f" and {len(here) - _MOST_NAMED} more" if len(here) > _MOST_NAMED else ""
        raise ConfigError(
            f"--gpus {entry}: no such GPU here; there are {', '.join(here[:_MOST_NAMED])}{more} "
            f"({lister} lists them)"
        )


def _short_id(uuid: str) -> str:
    """A UUID by its first group; an id that is a place on the PCI bus, whole."""
    return uuid if ":" in uuid else uuid[:_SHORT_ID]


def _visible(text: str, found: Sequence[FoundGpu]) -> Listed:
    """CUDA's list with indices that count in all GPUs."""
    return cuda_list(text, [whole(gpu) for gpu in in_pci_order(found)], found)


def _narrowed(text: str, given: Parts, by: str, found: Sequence[FoundGpu], is_own_view: bool) -> Listed:
    """What CUDA's list leaves of what the job was given.

    Indices count in all GPUs of the node, or in the given ones where a cgroup or a container hides the
    others; a reading that leads outside of what was given is not the right one. Where both readings are
    possible and differ, in our own view the first counts, else all that was given.
    """
    absolute = _visible(text, found)
    slots = sorted(given.values(), key=lambda part: (part.gpu.pci_bus_id, _place(part)))
    relative = cuda_list(text, slots, found) if has_indices(text) else absolute
    if not absolute.parts and not relative.parts:
        return Listed(given if absolute.is_cut else {}, absolute.notes)
    possible = [listed for listed in (absolute, relative) if listed.parts and _is_within(listed.parts, given)]
    if not possible:
        inside = {key: part for key, part in (absolute.parts or {}).items() if _is_within({key: part}, given)}
        note = f"{CUDA}={text}: it names other GPUs than {by}, which counts"
        return Listed(inside or given, (note,))
    keys = {frozenset(listed.parts or ()) for listed in possible}
    if is_own_view or len(keys) == 1:
        return possible[0]
    return Listed(given)


def _place(part: Part) -> int:
    """The place of an instance within its GPU."""
    return next((mig.number for mig in part.gpu.mig if mig.uuid == part.key), 0)


def _is_within(parts: Parts, given: Parts) -> bool:
    return all(part.key in given or part.gpu.uuid in given for part in parts.values())


def _order_notes(text: str, found: Sequence[FoundGpu], environ: Mapping[str, str]) -> list[str]:
    """CUDA_DEVICE_ORDER's default, FASTEST_FIRST, is the PCI order only where all GPUs are alike."""
    is_mixed = len({gpu.name for gpu in found}) > 1
    if not has_indices(text) or not is_mixed or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return []
    return [
        "CUDA numbers GPUs of different models by speed, which NVML does not know: set "
        "CUDA_DEVICE_ORDER=PCI_BUS_ID or give --gpus with UUIDs to be sure of the right ones"
    ]
