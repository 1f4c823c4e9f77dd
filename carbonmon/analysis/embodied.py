"""Embodied emissions: a run's part of the emissions of making its hardware, as a range with its sources.

    grams = Σ devices × emissions of making one × hours / (lifetime × utilisation over the lifetime)

Published figures for one GPU differ by a factor of up to 1.7, by their scope: the low end is the least figure
for the card alone, the high end the largest one with the card's eighth of a GPU server, which holds CPUs,
memory and disks. Hardware without a published figure is listed as unknown; it is never taken as 0. The
figures, with what they include, are in `data/embodied.csv`; nearly all of them end at the factory's gate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from carbonmon.core.model import Component
from carbonmon.core.records import NamedTuple
from carbonmon.data import EMBODIED, GPUS, Row, rows, using
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
    """The least and the largest published figure of making one device, or a GB, in kg CO2e; their sources."""

    low_kg: float
    high_kg: float
    sources: tuple[str, ...]


GPUS_PER_SERVER = 8
"""What a GPU has of the server around it: one of eight, as in every server that has a published figure."""

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
    server: Figures | None = None
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
            server = server or _figures_of("server")
            part_kg = server.high_kg / GPUS_PER_SERVER
            servers[item.machine] = servers.get(item.machine, 0.0) + amount * part_kg
            sources[server.sources[-1]] = None
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
    if item.component in ("gpu", "module"):  # a module has its GPU's name
        return card_figures(item.name)
    if item.component == "cpu":
        return _figures_of("cpu")
    memory = _MEMORY.fullmatch(item.name)
    if memory is None:
        return None
    gigabytes, found = float(memory[1]), _figures_of("memory")
    return Figures(found.low_kg * gigabytes, found.high_kg * gigabytes, found.sources)


def card_figures(name: str) -> Figures | None:
    """Of a GPU without a server around it; None where none is published. Raises ConfigError as above."""
    with using(EMBODIED):
        found = [(row, kg) for row, kg in _published("gpu") if re.search(row["name_regex"], name)]
    texts = {kg: _text(row, kg) for row, kg in sorted(found, key=lambda pair: pair[1])}
    for kg, source in _of_table(name):
        texts.setdefault(kg, source)
    return _range(texts)


def _figures_of(component: str) -> Figures:
    """The range of a component that the table always has. Raises ConfigError where it has not."""
    with using(EMBODIED):
        found = _range({kg: _text(row, kg) for row, kg in _published(component)})
        if found is None:
            raise ValueError(f"it has no figure of a {component}")
    return found


def _published(component: str) -> Iterator[tuple[Row, float]]:
    for row in rows(EMBODIED, "component", (component,)):
        yield row, float(row["kgco2eq"])


def _text(row: Row, kg: float) -> str:
    """Whose figure it is, of what, and whether it holds the end of life."""
    unit = "kg/GB" if row["per"] == "GB" else "kg"
    end = {"included": "with end of life", "excluded": "without end of life"}.get(
        row["end_of_life"], "end of life not stated"
    )
    where = row["source_url"].partition("arxiv.org/abs/")[2]
    return (
        f"{row['source']}{f' (arXiv:{where})' if where else ''}: {row['name']}, {kg:g} {unit} "
        f"({row['includes']}; {end})"
    )


def _range(texts: Mapping[float, str]) -> Figures | None:
    if not texts:
        return None
    low_kg, high_kg = min(texts), max(texts)
    return Figures(low_kg, high_kg, tuple(dict.fromkeys((texts[low_kg], texts[high_kg]))))


def _of_table(name: str) -> Iterable[tuple[float, str]]:
    """The figures of this model in the table of GPUs, which may hold more than are listed here."""
    with using(GPUS):
        return [
            (float(row["embodied_kgco2eq"]), f"{row['embodied_source']}: {row['model']}")
            for row in rows(GPUS)
            if row["embodied_kgco2eq"]
            and (row["model"].casefold() == name.casefold() or re.search(row["name_regex"], name))
        ]
