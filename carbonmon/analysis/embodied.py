"""Embodied emissions: a run's part of the emissions of making its hardware, as a range with its sources.

    grams = Σ devices × emissions of making one × hours / (lifetime × utilisation over the lifetime)

Published figures for one GPU differ by a factor of up to 3.6, by their scope: the low end is the least figure
for the card alone, the high end the largest one with the card's eighth of a GPU server. Hardware without a
published figure is listed as unknown; it is never taken as 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from carbonmon.core.model import Component
from carbonmon.core.records import NamedTuple
from carbonmon.data import GPUS, rows, using
from carbonmon.runs.summary.strings import counted

LIFETIME_YEARS = (3.0, 6.0)
"""How long hardware is used: 3 years (NVIDIA's HGX H100 PCF, as EcoLogits takes it), 4 (Morrison et al.
2025, arXiv:2503.05804), 6 (IDRIS, in Luccioni et al. 2023, arXiv:2211.02001). A run's part is larger with
a shorter lifetime."""

LIFETIME_UTILIZATION = 0.85
"""The part of its life in which hardware is used; the idle rest is charged to its users: 85 % at IDRIS
(Luccioni et al. 2023, arXiv:2211.02001)."""

HOURS_PER_YEAR = 8766.0


class Figures(NamedTuple):
    """The least and the largest published figure of making one device, in kg CO2e, and their sources."""

    low_kg: float
    high_kg: float
    sources: tuple[str, ...]


_PUBLISHED: tuple[tuple[re.Pattern[str], float, str], ...] = (
    (re.compile(r"\bA100\b"), 127.6, "Falk et al. 2025 (arXiv:2509.00093): A100 SXM4 40GB, 127.6 kg"),
    (re.compile(r"\bA100\b"), 150.0, "Luccioni et al. 2023 (arXiv:2211.02001): A100, at least 150 kg"),
    (re.compile(r"\bA100\b"), 181.0, "Lees-Perasso et al. 2026 (ADEME): A100 PCIe 40GB, 181 kg"),
    (
        re.compile(r"\bH100\b(?!.*(?:PCIe|NVL|HBM2))", re.IGNORECASE),
        164.0,
        "NVIDIA 2025: HGX H100, 1312 kg for eight",
    ),
    (re.compile(r"\bB200\b"), 284.25, "NVIDIA 2025: HGX B200, 2274 kg for eight"),
)
"""Figures for the card alone, in kg CO2e from cradle to gate, by the GPU's name."""

SERVER_KG_PER_GPU = 3000.0 / 8
"""One of eight GPUs' part of a server without its GPUs, CPUs and memory within: 3000 kg for AWS p4de.24xlarge
by Boavizta's model, as EcoLogits takes it; Luccioni et al. 2023 take 2500 kg."""
_SERVER_SOURCE = "Boavizta (in EcoLogits): GPU server without GPUs, 3000 kg, in the high end"

CPU_FIGURES = Figures(
    11.0, 100.0, ("Boavizta: a CPU of 100 mm² of silicon, 11 kg", "Davy 2021 (Teads): a server CPU, 100 kg")
)
"""One CPU package, of any model: 9.14 kg + 0.0197 kg/mm² by Boavizta's model, to a flat 100 kg."""

MEMORY_FIGURES = Figures(
    0.4,
    1.56,
    ("Faiz et al. 2024 (LLMCarbon): memory, 0.4 kg/GB", "Boavizta: modules of 16 GB, 1.56 kg/GB"),
)
"""A GB of memory."""

_MEMORY = re.compile(r"([0-9.]+) Gi?B of memory")


class Hardware(NamedTuple):
    """Devices of one name that a run had for `hours`, None where that is unknown.

    A part of a device counts as fewer hours. Those of the same `machine` are in the same servers.
    """

    component: Component
    name: str
    number: int
    hours: float | None
    machine: str = ""


class Embodied(NamedTuple):
    """The range in grams of CO2e, None where no device has a figure; `unknown` devices are not in it."""

    low_g: float | None
    high_g: float | None
    unknown: tuple[str, ...]
    sources: tuple[str, ...]


def embodied_range(
    hardware: Sequence[Hardware],
    lifetime_years: tuple[float, float] = LIFETIME_YEARS,
    utilization: float = LIFETIME_UTILIZATION,
) -> Embodied:
    """The hardware's emissions amortised over its life, for the hours that the run had it.

    The shortest and the longest lifetime give the ends of the range. Raises ConfigError for a table that
    cannot be used.
    """
    unknown: dict[str, None] = {}
    sources: dict[str, None] = {}
    low = cards = 0.0  # kg × hours
    servers: dict[str, float] = {}
    others: dict[str, float] = {}
    for item in hardware:
        found = _figures(item)
        if found is None or item.hours is None:
            unknown[item.name] = None
            continue
        amount = item.number * item.hours
        low += amount * found.low_kg
        sources.update(dict.fromkeys(found.sources))
        if item.component in ("gpu", "module"):
            cards += amount * found.high_kg
            servers[item.machine] = servers.get(item.machine, 0.0) + amount * SERVER_KG_PER_GPU
            sources[_SERVER_SOURCE] = None
        else:
            others[item.machine] = others.get(item.machine, 0.0) + amount * found.high_kg
    if not sources:
        return Embodied(None, None, tuple(unknown), ())
    # CPUs and memory are in the figure of a server already.
    high = cards + sum(max(servers.get(key, 0.0), others.get(key, 0.0)) for key in {*servers, *others})
    shortest, longest = sorted(lifetime_years)
    low_g, high_g = (
        1000.0 * kg_hours / (years * HOURS_PER_YEAR * utilization)
        for kg_hours, years in ((low, longest), (high, shortest))
    )
    return Embodied(low_g, high_g, tuple(unknown), tuple(sources))


def of_summary(summary: Mapping[str, Any]) -> Embodied:
    """The same for the run of a summary: each device for the run's duration and the run's part of its energy.

    An estimate's devices stand for several each, and have their own times. Raises ConfigError as above.
    """
    return embodied_range(list(_hardware(summary)))


def document(found: Embodied) -> dict[str, Any]:
    """`embodied` of the summary."""
    return {
        "low_g": found.low_g,
        "high_g": found.high_g,
        "lifetime_years": list(LIFETIME_YEARS),
        "utilization_ratio": LIFETIME_UTILIZATION,
        "unknown": list(found.unknown),
        "sources": list(found.sources),
    }


def _hardware(summary: Mapping[str, Any]) -> Iterator[Hardware]:
    is_estimate = summary["state"] == "estimated"
    duration_s = summary["run"]["duration_s"]
    for device in summary["energy"]["devices"]:
        name, count, seconds, machine = device["name"] or device["id"], 1, duration_s, ""
        if is_estimate:
            count, name = counted(name)
            mean_w = device["mean_power_w"]
            seconds = device["energy_j"] / mean_w if mean_w else duration_s
            machine = f"{seconds or 0.0:.0f} s"  # a part of the job: in a summary they differ by duration
        hours = None if seconds is None else seconds / 3600.0 * _run_ratio(device)
        yield Hardware(device["component"], name, count, hours, machine)


def _run_ratio(device: Mapping[str, Any]) -> float:
    """The run's part of a device: of its energy while the run lasted, else the allocated part."""
    drawn_j = device.get("node_energy_j")
    if drawn_j and device["energy_j"] is not None:
        return min(1.0, float(device["energy_j"] / drawn_j))
    share: float | None = device["share_ratio"]
    return 1.0 if share is None else share


def _figures(item: Hardware) -> Figures | None:
    if item.component == "cpu":
        return CPU_FIGURES
    if item.component in ("gpu", "module"):  # a module has its GPU's name
        return _gpu_figures(item.name)
    memory = _MEMORY.fullmatch(item.name)
    if memory is None:
        return None
    gigabytes = float(memory[1])
    return Figures(
        MEMORY_FIGURES.low_kg * gigabytes, MEMORY_FIGURES.high_kg * gigabytes, MEMORY_FIGURES.sources
    )


def _gpu_figures(name: str) -> Figures | None:
    found = dict(sorted((kg, source) for pattern, kg, source in _PUBLISHED if pattern.search(name)))
    for kg, source in _of_table(name):
        found.setdefault(kg, source)
    if not found:
        return None
    ends = dict.fromkeys((min(found), max(found)))
    return Figures(min(found), max(found), tuple(found[kg] for kg in ends))


def _of_table(name: str) -> Iterable[tuple[float, str]]:
    """The figures of this model in the table of GPUs, which may hold more than are listed here."""
    with using(GPUS):
        return [
            (float(row["embodied_kgco2eq"]), f"{row['embodied_source']}: {row['model']}")
            for row in rows(GPUS)
            if row["embodied_kgco2eq"]
            and (row["model"].casefold() == name.casefold() or re.search(row["name_regex"], name))
        ]
