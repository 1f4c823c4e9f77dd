"""Powers from spec sheets: the table of GPU models, and published means of chips that only clouds have.

The tables are scanned, not loaded, and only the matching row is parsed, so that a look-up keeps nothing
in the monitor's memory. Each look-up raises `ConfigError` for a table that cannot be used.
Sources: `data/SOURCES.md`.
"""

from __future__ import annotations

import re

from carbonmon.core.model import Spec
from carbonmon.core.patterns import pattern
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.data import GPUS, NVML_NAMES, Row, rows, using

_GPU_VENDOR = pattern(r"^(?:nvidia|amd|intel|google|aws|huawei|meta|microsoft) ")
_GPU_BRAND = pattern(
    r"\b(?:nvidia|amd|intel|google|aws|huawei|meta|microsoft|tesla|geforce|quadro|radeon|instinct)\b"
)
_CHIP = "chip"
"""The form factor of accelerators that nobody can buy: their power is known as a published mean, or not."""
_MIG_PROFILE = pattern(r" MIG [1-9][cg]\.\S+$")
"""NVML adds it to the name of an instance: the TDP is that of the whole GPU."""
_VGPU = pattern(r"-\d+(?:[ABCQ]|CME)$|-\d{1,2}$")
"""NVIDIA's virtual GPUs, "NVIDIA A40-12Q", "NVIDIA L40-48": a share of a board, unknown to the guest."""
_LAPTOP_SUPER = pattern(r"\bSuper\b")
"""The drivers spell laptop parts "RTX 2080 Super" and desktop boards "RTX 2080 SUPER"."""


def gpu_spec(name: str) -> Spec | None:
    """TDP of one device in W, from the name that NVML reports or the table's own name of the model.

    Of chips that only clouds have, the mean power if that was published. None for a model that is not in the
    table, for one whose power was never published or is set by a laptop's maker, and for a virtual GPU.
    """
    with using(GPUS):
        is_other = _VGPU.search(name.strip()) or _LAPTOP_SUPER.search(name)
        row = None if is_other else _gpu_row(name)
        if row is not None and row["form_factor"] == _CHIP:
            from carbonmon.hardware.accelerator_power import published_mean  # NVML never reports one

            mean = published_mean(row["model"])
            if mean is not None:
                return mean
        return _listed(row)


def largest_power(name: str) -> Spec | None:
    """The largest power (W) of one device by the table, for a utilisation that is known: never a mean."""
    with using(GPUS):
        return _listed(_gpu_row(name))


def _listed(row: Row | None) -> Spec | None:
    """A row's TDP, None where it has none."""
    if row is None or not row["tdp_w"]:
        return None
    tdp_w = float(row["tdp_w"])
    note = f"; {row['note']}" if row["note"] else ""
    source = f"{row['vendor']} {row['model']}: TDP {tdp_w:g} W ({row['source']}){note}"
    return Spec(tdp_w, TDP_UNCERTAINTY, source)


def _gpu_row(name: str) -> Row | None:
    """The row of exactly this model; else that of a name that NVML is known to report; else the first whose
    regular expression matches all of the name but the vendor, the brand and the memory."""
    plain = _MIG_PROFILE.sub("", " ".join(name.split()))
    model = _gpu_model(plain)
    first: Row | None = None
    for row in rows(GPUS):
        if row["model"].lower() == model:
            return row
        if first is None and re.search(row["name_regex"], plain):
            first = row
    if first is None or _is_all(plain, first):
        return first
    listed = nvml_model(plain)
    return next((row for row in rows(GPUS) if row["model"] == listed), None) if listed else None


def _is_all(plain: str, row: Row) -> bool:
    hit = re.search(row["name_regex"], plain)
    if hit is None:
        return False
    return not _GPU_BRAND.sub("", plain[: hit.start()].lower()).strip() and only_memory(
        plain[hit.end() :], row
    )


def only_memory(rest: str, row: Row) -> bool:
    """Whether what is left of a name says no more than the memory of this model: `80GB HBM3`, `-16GB`."""
    size = f"{row['memory_gb']}GB?"
    words = re.split(r"[\s_-]+", rest.upper().replace(" GB", "GB"))
    return all(re.fullmatch(rf"{size}|HBM[0-9]?E?|GDDR[0-9]X?", word) for word in words if word)


def nvml_model(name: str) -> str:
    """The model of a name that NVML is known to report, with or without the vendor; "" for no such name."""
    plain = " ".join(name.casefold().split())
    names = (plain, f"nvidia {plain}")
    return next((row["model"] for row in rows(NVML_NAMES) if row["name"].casefold() in names), "")


def _gpu_model(name: str) -> str:
    return _GPU_VENDOR.sub("", " ".join(name.lower().split()))


def similar_gpus(name: str, n: int = 3) -> tuple[str, ...]:
    """The models of the table whose names are most like this one, for an error message."""
    import difflib

    models = {row["model"].lower(): row["model"] for row in rows(GPUS) if row["tdp_w"]}
    return tuple(models[hit] for hit in difflib.get_close_matches(_gpu_model(name), models, n, cutoff=0.4))
