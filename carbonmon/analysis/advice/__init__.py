"""Advice with numbers, from what a run itself did: nothing is said that its data does not show.

Each line has how much it could save at most and how that follows. Savings of several lines overlap: they are
not added up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbonmon.analysis.advice.gpus import gpu_advice
from carbonmon.analysis.advice.record import Advice
from carbonmon.analysis.compare_regions import compare_regions
from carbonmon.core.errors import ConfigError
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.report.hours import Hour, hours_of
from carbonmon.runs.summaries import Part
from carbonmon.runs.summary.figures import co2e_text, energy_text, figure, percent_text

LEAST_RATIO = 0.01
"""What could save less than this of the run is not said."""

_EVALUATION = re.compile(r"(?:^|[^a-z])(?:eval\w*|valid\w*|val|test\w*)(?:[^a-z]|$)", re.IGNORECASE)
_LEAST_SWING = 0.05
_FEWEST_HOURS = 4
_QUARTER = 0.25


def advice(summary: Mapping[str, Any], parts: Sequence[Part] = ()) -> list[Advice]:
    """The advice of a run, the largest saving of emissions first; `parts` are its nodes, with their series.

    Nothing for a run of whose energy nothing is known, and for an estimate.
    """
    total_j, total_g = summary["energy"]["total_j"], known_carbon(summary)["emissions_g"]
    if not total_j or total_g is None or summary["state"] == "estimated":
        return []
    found = [*gpu_advice(summary), *_evaluation(summary), *_hour(parts, total_g), *_place(summary, total_g)]
    found = [
        each if each.saves_j is None else each._replace(saves_g=total_g * each.saves_j / total_j)
        for each in found
    ]
    worth = [each for each in found if each.saves_g is None or each.saves_g >= LEAST_RATIO * total_g]
    return sorted(worth, key=lambda each: -(each.saves_g or 0.0))


def _evaluation(summary: Mapping[str, Any]) -> Iterator[Advice]:
    energy = summary["energy"]
    phases = {name: each["energy_j"] for name, each in energy["phases"].items() if _EVALUATION.search(name)}
    drawn_j = sum(joules or 0.0 for joules in phases.values())
    if drawn_j:
        yield Advice(
            "evaluation",
            f"{percent_text(min(1.0, drawn_j / energy['total_j']))} of the energy went into "
            f"{', '.join(sorted(phases))}",
            "evaluate half as often, or on half of the data",
            drawn_j / 2,
            None,
            f"half of the {energy_text(drawn_j)} of these phases",
        )


def _hour(parts: Sequence[Part], total_g: float) -> Iterator[Advice]:
    """What the run's own hours with the least intensity would have saved."""
    hours: list[Hour] = []
    for part in parts:
        if part.folder is None:
            return
        try:
            hours += hours_of(part.folder)[0]
        except RunFileError:  # a run without a series has no hours to compare
            return
    seen: dict[float, list[float]] = {}
    for hour in hours:
        joules, grams = seen.setdefault(hour.start_s, [0.0, 0.0])
        seen[hour.start_s] = [joules + hour.energy_j, grams + hour.emissions_g]
    rates = sorted(grams / joules for joules, grams in seen.values() if joules)
    drawn_j = sum(joules for joules, _ in seen.values())
    if len(rates) < _FEWEST_HOURS or not drawn_j:
        return
    mean = sum(grams for _, grams in seen.values()) / drawn_j
    best = rates[: max(1, round(len(rates) * _QUARTER))]
    low = sum(best) / len(best)
    if mean and 1.0 - low / mean >= _LEAST_SWING:
        yield Advice(
            "hour",
            f"the intensity was {figure(rates[0] * 3.6e6)} to {figure(rates[-1] * 3.6e6)} g/kWh over "
            "the run's hours, PUE included",
            "run --start greenest, or --pause-above",
            None,
            total_g * (1.0 - low / mean),
            f"all of it at the mean of the quarter of its {len(rates)} hours with the least intensity",
        )


def _place(summary: Mapping[str, Any], total_g: float) -> Iterator[Advice]:
    """The best region of the run's own provider; of a run elsewhere there is none that it could have used."""
    try:
        found = compare_regions(summary, "")
    except ConfigError:  # its energy is unknown, or the tables cannot be used: said by other commands
        return
    best = next((place for place in found.places if place.rank == 1), None)
    if best is None or best.is_own or not found.own_g or ":" not in best.code:
        return
    ratio = 1.0 - best.emissions_g / found.own_g
    provider, _, region = best.code.partition(":")
    yield Advice(
        "region",
        f"of {found.compared} regions of {provider}, {region} ({best.name}) has the least intensity",
        f"run it in {best.code}",
        None,
        total_g * ratio,
        f"{figure(best.intensity.g_per_kwh)} g/kWh there ({best.intensity.source}, {best.intensity.year}): "
        f"{percent_text(ratio)} less at annual means and the same PUE",
    )


def documents(found: Sequence[Advice]) -> list[dict[str, Any]]:
    """The advice as it is in JSON."""
    return [each._asdict() for each in found]


def section(documented: Sequence[Mapping[str, Any]]) -> Section:
    """The advice for people: a table of what could be saved, below it what was seen and how it follows."""
    found = [Advice(**each) for each in documented]
    if not found:
        return Section("Advice", (), (), ["Nothing in the run's data points to a saving of 1 % or more."])
    rows = [(each.topic, *_saves(each)) for each in found]
    notes = [
        ". ".join((f"{each.topic}: {each.finding}", _begun(each.action), _begun(each.how))) + "."
        for each in found
    ]
    notes.append("Each line by itself and at most; they overlap and are not to be added up.")
    return Section("Advice", ("topic", "energy", "emissions"), rows, notes, (1, 2))


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _saves(each: Advice) -> tuple[str, str]:
    """Energy and emissions; a place and an hour save no energy."""
    if each.saves_g is None:
        return "unknown", "unknown"
    return "–" if each.saves_j is None else energy_text(each.saves_j), co2e_text(each.saves_g)
