"""Powers of CPU packages from spec sheets: the table of models, watts per core where it has none, and shares.

The table is scanned, not loaded, as those in `spec_sheets.py`. Each look-up raises `ConfigError` for a table
that cannot be used. Sources: `data/SOURCES.md`.
"""

from __future__ import annotations

import csv

from carbonmon.core.model import Spec, Uncertainty
from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.core.uncertainty import TDP_UNCERTAINTY, combine
from carbonmon.data import CPUS, data_file, rows, using

UNKNOWN_CPU_W_PER_CORE = 7.5
"""TDP in W per physical core of a CPU that is not in the table.

The median of the table's server parts with 8 cores or more is 7.8, their 10th to 90th percentile
the range below.
"""
UNKNOWN_CPU_W_PER_CORE_RANGE = (4.7, 13.9)

UNKNOWN_ARM_W_PER_CORE = 2.2
"""The same of an ARM server processor, whose cores are smaller: of the table's the median is 2.2, the 10th to
90th percentile the range below."""
UNKNOWN_ARM_W_PER_CORE_RANGE = (1.5, 3.4)

SIBLING_UNCERTAINTY = Uncertainty(
    0.20,
    0.20,
    "±20 %: no vendor figure for this part; parts of one generation and number of cores differ so much",
)
"""Beside a TDP that the table takes from another part (`_SIBLING`): EPYC 9654 may be set to 320 to 400 W,
Xeons of 48 cores and one generation have 300 to 350 W."""

_CPU_NOISE = pattern(
    r"\((?:r|tm)\)"
    r"|[®™\u200b]"
    r"|@.*"  # Intel's "@ 3.00GHz"
    r"|\s(?:with\s|w/\s)?radeon.*|\sr\d, .*"  # AMD's integrated graphics
    r"|\b[a-z0-9]+-cores?\b"  # "64-Core", "Eight-Core"
    r"|\b(?:cpu|processor|apu|soc)\b"
    r"|^\d+(?:st|nd|rd|th) gen\b"
)
_CPU_VENDOR = pattern(r"^(?:genuine )?(?:intel|amd) ")
_CPU_RESPELLINGS = (
    (pattern(r"^(?:core )?(i[3579])[ -](?=\d)"), r"core \1-"),  # "Core(TM) i7 CPU 920", "i9-13900K"
    (pattern(r"^(?=e[357]-\d|platinum |gold |silver |bronze )"), "xeon "),
    (pattern(r"(?<=\d)v(\d)$"), r" v\1"),  # "E5-2690v4"
    (pattern(r"^(?:hisilicon )?(?:huawei )?kunpeng 920[ -]"), "huawei kunpeng 920-"),
)
_GENERIC_CPUS = frozenset(("armv8 rev 0 (v8l)",))
"""Keys of the table that name an architecture, reported by many different chips."""
_ARM = pattern(r"^(?:alibaba|ampere|apple|arm|aws|fujitsu|google|huawei|microsoft|nvidia) ")
_ONE_THREAD_PER_CORE = pattern(r"^xeon 6\d\d\de$|^epyc (?:9754s|9r14|9r45)$")
"""Beside ARM's, cores without hardware threads: Intel's Sierra Forest, and EPYCs that are sold without."""
_SIBLING = "no vendor figure"
"""How the source of a row begins whose TDP is that of another part, or an estimate."""
_TRADE_MARKS = {ord(sign): None for sign in "®™\u200b"}


def cpu_keys(model_name: str) -> tuple[str, ...]:
    """The keys that a model may have in the table, best first, from its name as /proc/cpuinfo gives it."""
    key = " ".join(_CPU_NOISE.sub(" ", model_name.lower()).split())
    key = key.replace(" -", "-").replace("- ", "-")  # "FX(tm)-8350", "E7- 4870"
    key = _CPU_VENDOR.sub("", key).removesuffix(" 0")  # "E5-2670 0": Sandy Bridge's version field
    if not key or key in _GENERIC_CPUS:
        return ()
    respelled = key
    for spelling, replacement in _CPU_RESPELLINGS:
        respelled = spelling.sub(replacement, respelled)
    spellings = (key, respelled, f"{key} (oem only)", f"{key}\u200b")
    return tuple(dict.fromkeys(spellings))


def is_known_cpu(model_name: str) -> bool:
    """Whether the table has this CPU model: its TDP, or at least its number of cores."""
    rows = _cpu_rows(cpu_keys(model_name))
    with using(CPUS):
        return any(row[2] or row[3] for row in rows)


def cpu_cores(model_name: str) -> int | None:
    """How many cores a package of the model has; None where the table does not say."""
    found = next((row[3] for row in _cpu_rows(cpu_keys(model_name)) if row[3]), "")
    return int(found) if found else None


class PackageSpec(NamedTuple):
    """What a machine has of a CPU package.

    `is_whole`: all of a package whose TDP is known, so that it bounds the power. `share_note` says for people
    which share it is, or that this is unknown; "" for a whole package.
    """

    spec: Spec
    is_whole: bool
    share_note: str


def cpu_spec(model_name: str, *, visible_threads: int, physical_cores: int, virtual: bool) -> Spec:
    """TDP in W of a whole CPU package, of a virtual machine the share that it sees. See `package_spec`."""
    return package_spec(
        model_name, visible_threads=visible_threads, physical_cores=physical_cores, virtual=virtual
    ).spec


def package_spec(
    model_name: str,
    *,
    visible_threads: int,
    physical_cores: int,
    virtual: bool | None,
    threads_per_core: int = 0,
) -> PackageSpec:
    """TDP in W of one CPU package; for a model without one in the table an estimate from its cores.

    Only exact keys match: no model is replaced by a similar one. `visible_threads` and `physical_cores` are
    those of this package. A virtual machine has the share of the package that it sees: its threads of the
    package's 2 × cores (1 × cores where a core has one, or `threads_per_core` is 1; 0 is unknown). `virtual`
    None compares: a machine that shows fewer threads than the model has cores has a share of it as well.
    """
    keys = cpu_keys(model_name)
    found = _cpu_rows(keys)
    part_note = "virtual machine: its share of the package is unknown" if virtual else ""
    if not found:
        is_arm = bool(keys and _ARM.match(keys[0]))
        reason = f"unknown CPU model {model_name.strip()!r}"
        spec = _spec_from_cores(reason, physical_cores, bool(virtual), is_arm=is_arm)
        return PackageSpec(spec, False, part_note)
    with using(CPUS):
        key, name, tdp, cores, table_source, conflict = found[0]
        tdp_w = float(tdp) if tdp else None
        core_count = int(cores) if cores else None
        others = [f"{float(row[2]):g} W ({row[4]})" for row in found[1:] if row[2] != tdp]
    is_arm = _ARM.match(key) is not None
    is_part = bool(virtual) or (virtual is None and visible_threads < (core_count or 0))
    if tdp_w is None:
        reason = f"{_plain(name)}: {table_source}"
        if core_count is not None and not is_part:
            physical_cores = core_count
        return PackageSpec(
            _spec_from_cores(reason, physical_cores, bool(virtual), is_arm=is_arm), False, part_note
        )
    source = f"{_plain(name)}: TDP {tdp_w:g} W ({table_source})"
    if conflict or others:
        source += f"; sources disagree: {'; '.join(filter(None, (conflict, *others)))}"
    uncertainty = TDP_UNCERTAINTY
    if table_source.startswith(_SIBLING):
        uncertainty = combine(SIBLING_UNCERTAINTY, TDP_UNCERTAINTY)
    if not is_part:
        return PackageSpec(Spec(tdp_w, uncertainty, source), True, "")
    if core_count is None:
        reason = f"{source}; how many cores it has is unknown, so the virtual machine's share of it too"
        spec = _spec_from_cores(reason, physical_cores, True, limit_w=tdp_w, is_arm=is_arm)
        return PackageSpec(spec, False, part_note)
    has_one = is_arm or _ONE_THREAD_PER_CORE.match(key) or threads_per_core == 1
    threads = core_count * (1 if has_one else 2)
    share_ratio = min(1.0, max(1, visible_threads) / threads)
    machine = "virtual machine" if virtual else "machine"
    source += f"; this {machine} sees {visible_threads} of its {threads} hardware threads"
    note = f"{machine}: {visible_threads} of the package's {threads} hardware threads"
    return PackageSpec(Spec(tdp_w * share_ratio, uncertainty, source), False, note)


def _spec_from_cores(
    reason: str, physical_cores: int, virtual: bool, limit_w: float | None = None, is_arm: bool = False
) -> Spec:
    """The estimate for an unknown TDP: W per physical core, never above `limit_w`."""
    physical_cores = max(1, physical_cores)
    w_per_core = UNKNOWN_ARM_W_PER_CORE if is_arm else UNKNOWN_CPU_W_PER_CORE
    low_w, high_w = UNKNOWN_ARM_W_PER_CORE_RANGE if is_arm else UNKNOWN_CPU_W_PER_CORE_RANGE
    source = f"{reason}: {w_per_core:g} W × {physical_cores} physical cores"
    if virtual and not is_arm:
        low_w /= 2  # a core of a virtual machine is often one of a physical core's two threads
        source += " (of a virtual machine: they may be hardware threads)"
    tdp_w = w_per_core * physical_cores
    kind = "ARM core" if is_arm else "core"
    per_core = Uncertainty(
        1 - low_w / w_per_core,
        high_w / w_per_core - 1,
        f"{low_w:g}–{high_w:g} W per {kind} of a CPU that is not in the table",
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


def similar_cpus(model_name: str, n: int = 3) -> tuple[str, ...]:
    """The models of the table whose names are most like this one, for an error message."""
    import difflib

    wanted = (cpu_keys(model_name) or (model_name.lower(),))[0]
    names = {row["match_key"]: row["name"] for row in rows(CPUS)}
    hits = difflib.get_close_matches(wanted, names, n, cutoff=0.6)
    return tuple(_plain(names[hit]) for hit in hits)


def _plain(name: str) -> str:
    return name.translate(_TRADE_MARKS)
