"""Powers from spec sheets: the tables of CPU and GPU models, and watts per gigabyte of memory.

The tables are scanned, not loaded, and only the matching row is parsed, so that a look-up keeps nothing
in the monitor's memory. Each look-up raises `ConfigError` for a table that cannot be used.
Sources: `data/SOURCES.md`.
"""

from __future__ import annotations

import csv
import re

from carbonmon.core.model import Spec, Uncertainty
from carbonmon.core.uncertainty import DRAM_ESTIMATE_UNCERTAINTY, TDP_UNCERTAINTY, combine
from carbonmon.data import CPUS, GPUS, NVML_NAMES, Row, data_file, rows, using

UNKNOWN_CPU_W_PER_CORE = 7.5
"""TDP in W per physical core of a CPU that is not in the table.

The median of the table's server parts with 8 cores or more is 7.8, their 10th to 90th percentile
the range below.
"""
UNKNOWN_CPU_W_PER_CORE_RANGE = (4.7, 13.9)

DRAM_W_PER_GB = 0.3725
"""W per GB (2^30 bytes) of installed memory: Karyakin & Salem 2017, doi:10.1145/3076113.3076117, as
in Green Algorithms. Its range is in `DRAM_ESTIMATE_UNCERTAINTY`."""

GIB = 2**30

_CPU_NOISE = re.compile(
    r"\((?:r|tm)\)"
    r"|[®™\u200b]"
    r"|@.*"  # Intel's "@ 3.00GHz"
    r"|\s(?:with\s|w/\s)?radeon.*|\sr\d, .*"  # AMD's integrated graphics
    r"|\b[a-z0-9]+-cores?\b"  # "64-Core", "Eight-Core"
    r"|\b(?:cpu|processor|apu|soc)\b"
    r"|^\d+(?:st|nd|rd|th) gen\b"
)
_CPU_VENDOR = re.compile(r"^(?:genuine )?(?:intel|amd) ")
_CPU_RESPELLINGS = (
    (re.compile(r"^(?:core )?(i[3579])[ -](?=\d)"), r"core \1-"),  # "Core(TM) i7 CPU 920", "i9-13900K"
    (re.compile(r"^(?=e[357]-\d|platinum |gold |silver |bronze )"), "xeon "),
    (re.compile(r"(?<=\d)v(\d)$"), r" v\1"),  # "E5-2690v4"
)
_GENERIC_CPUS = frozenset(("armv8 rev 0 (v8l)",))
"""Keys of the table that name an architecture, reported by many different chips."""
_ONE_THREAD_PER_CORE = re.compile(r"^(?:ampere|apple|aws|fujitsu|nvidia) |^xeon 6\d\d\de$")
"""ARM cores and Intel's Sierra Forest have no hardware threads beside the core."""
_TRADE_MARKS = {ord(sign): None for sign in "®™\u200b"}

_GPU_VENDOR = re.compile(r"^(?:nvidia|amd|intel|google) ")
_GPU_BRAND = re.compile(r"\b(?:nvidia|amd|intel|google|tesla|geforce|quadro|radeon|instinct)\b")
_MIG_PROFILE = re.compile(r" MIG [1-9][cg]\.\S+$")
"""NVML adds it to the name of an instance: the TDP is that of the whole GPU."""
_VGPU = re.compile(r"-\d+(?:[ABCQ]|CME)$|-\d{1,2}$")
"""NVIDIA's virtual GPUs, "NVIDIA A40-12Q", "NVIDIA L40-48": a share of a board, unknown to the guest."""
_LAPTOP_SUPER = re.compile(r"\bSuper\b")
"""The drivers spell laptop parts "RTX 2080 Super" and desktop boards "RTX 2080 SUPER"."""


def cpu_keys(model_name: str) -> tuple[str, ...]:
    """The keys that a model may have in the table, best first, from its name as /proc/cpuinfo gives it."""
    key = " ".join(_CPU_NOISE.sub(" ", model_name.lower()).split())
    key = key.replace(" -", "-").replace("- ", "-")  # "FX(tm)-8350", "E7- 4870"
    key = _CPU_VENDOR.sub("", key).removesuffix(" 0")  # "E5-2670 0": Sandy Bridge's version field
    if not key or key in _GENERIC_CPUS:
        return ()
    respelled = key
    for pattern, replacement in _CPU_RESPELLINGS:
        respelled = pattern.sub(replacement, respelled)
    spellings = (key, respelled, f"{key} (oem only)", f"{key}\u200b")
    return tuple(dict.fromkeys(spellings))


def is_known_cpu(model_name: str) -> bool:
    """Whether the table has this CPU model."""
    return bool(_cpu_rows(cpu_keys(model_name)))


def cpu_spec(model_name: str, *, visible_threads: int, physical_cores: int, virtual: bool) -> Spec:
    """TDP of one CPU package in W; for a model that is not in the table an estimate from its cores.

    Only exact keys match: no model is replaced by a similar one. `visible_threads` and `physical_cores` are
    those of this package. A virtual machine has the share of the package that it sees: its threads of the
    package's 2 × cores (1 × cores where a core has one).
    """
    found = _cpu_rows(cpu_keys(model_name))
    if not found:
        return _spec_from_cores(f"unknown CPU model {model_name.strip()!r}", physical_cores, virtual)
    with using(CPUS):
        key, name, tdp, cores, table_source, conflict = found[0]
        tdp_w = float(tdp)
        core_count = int(cores) if cores else None
        others = [f"{float(row[2]):g} W ({row[4]})" for row in found[1:] if row[2] != tdp]
    source = f"{_plain(name)}: TDP {tdp_w:g} W ({table_source})"
    if conflict or others:
        source += f"; sources disagree: {'; '.join(filter(None, (conflict, *others)))}"
    if not virtual:
        return Spec(tdp_w, TDP_UNCERTAINTY, source)
    if core_count is None:
        reason = f"{source}; how many cores it has is unknown, so the virtual machine's share of it too"
        return _spec_from_cores(reason, physical_cores, virtual, limit_w=tdp_w)
    threads = core_count * (1 if _ONE_THREAD_PER_CORE.match(key) else 2)
    share_ratio = min(1.0, max(1, visible_threads) / threads)
    source += f"; this virtual machine sees {visible_threads} of its {threads} hardware threads"
    return Spec(tdp_w * share_ratio, TDP_UNCERTAINTY, source)


def _spec_from_cores(reason: str, physical_cores: int, virtual: bool, limit_w: float | None = None) -> Spec:
    """The estimate for an unknown model: W per physical core, never above `limit_w`."""
    physical_cores = max(1, physical_cores)
    w_per_core = UNKNOWN_CPU_W_PER_CORE
    low_w, high_w = UNKNOWN_CPU_W_PER_CORE_RANGE
    source = f"{reason}: {w_per_core:g} W × {physical_cores} physical cores"
    if virtual:
        low_w /= 2  # a core of a virtual machine is often one of a physical core's two threads
        source += " (of a virtual machine: they may be hardware threads)"
    tdp_w = w_per_core * physical_cores
    per_core = Uncertainty(
        1 - low_w / w_per_core,
        high_w / w_per_core - 1,
        f"{low_w:g}–{high_w:g} W per core of a CPU that is not in the table",
    )
    return Spec(tdp_w if limit_w is None else min(tdp_w, limit_w), combine(per_core, TDP_UNCERTAINTY), source)


def _cpu_rows(keys: tuple[str, ...]) -> list[list[str]]:
    """The rows of the first key that the table has, in its order; more than one is a conflict."""
    starts = tuple(f"{key},".encode(errors="replace") for key in keys)
    hits: list[list[str]] = []
    if starts:
        with using(CPUS), data_file(CPUS).open("rb") as table:
            next(table, b"")  # the header
            hits.extend(next(csv.reader([line.decode()])) for line in table if line.startswith(starts))
    first = next((key for key in keys if any(row[0] == key for row in hits)), None)
    return [row for row in hits if row[0] == first]


def gpu_spec(name: str) -> Spec | None:
    """TDP of one device in W, from the name that NVML reports or the table's own name of the model.

    None for a model that is not in the table, for one whose TDP was never published or is set by a
    laptop's maker, and for a virtual GPU.
    """
    with using(GPUS):
        is_other = _VGPU.search(name.strip()) or _LAPTOP_SUPER.search(name)
        row = None if is_other else _gpu_row(name)
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


def similar_cpus(model_name: str, n: int = 3) -> tuple[str, ...]:
    """The models of the table whose names are most like this one, for an error message."""
    import difflib

    wanted = (cpu_keys(model_name) or (model_name.lower(),))[0]
    names = {row["match_key"]: row["name"] for row in rows(CPUS)}
    hits = difflib.get_close_matches(wanted, names, n, cutoff=0.6)
    return tuple(_plain(names[hit]) for hit in hits)


def _plain(name: str) -> str:
    return name.translate(_TRADE_MARKS)


def dram_spec(total_bytes: int) -> Spec:
    """Power in W of installed memory, taken as independent of load (hence a utilisation of 1)."""
    gib = total_bytes / GIB
    source = f"{gib:.1f} GB × {DRAM_W_PER_GB} W/GB (Karyakin & Salem 2017, as in Green Algorithms)"
    return Spec(DRAM_W_PER_GB * gib, DRAM_ESTIMATE_UNCERTAINTY, source, assumed_utilization_ratio=1.0)
