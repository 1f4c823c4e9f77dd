"""Divides a run among the months of the calendar, by the rows of its series.

A month is that of this machine's zone. What lies between two rows is divided by its time, and so is a run
that left no series: then a note says how much of its energy that is. Emissions are divided like those that
were charged live; a settled figure keeps their proportions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from carbonmon.analysis.stretches import Stretch, read_stretches
from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.spans import Month, month_of
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.index import Entry
from carbonmon.runs.listing import Row
from carbonmon.runs.series_file import LONGEST_PERIOD_S
from carbonmon.runs.summaries import summary_of
from carbonmon.runs.summary.figures import percent_text

UNKNOWN = "unknown"
"""The month of a run whose times nobody knows."""


def by_month(entries: Iterable[Entry]) -> tuple[list[Row], list[str]]:
    """The parts of runs by month, and notes about how they were divided."""
    rows: list[Row] = []
    notes: list[str] = []
    for entry in entries:
        parts, note = _parts(entry)
        rows += parts
        notes += [note] if note else []
    return rows, notes


def _parts(entry: Entry) -> tuple[list[Row], str]:
    if entry.start_s is None:
        return [Row(entry, UNKNOWN)], ""
    end_s = entry.end_s or entry.start_s
    months = months_between(entry.start_s, end_s)
    if len(months) == 1:
        return [Row(entry, str(months[0]))], ""
    whole = Stretch(entry.start_s, end_s, {("", ""): entry.energy_j or 0.0}, 1.0)
    try:
        stretches, remarks = read_stretches(entry.folder, summary_of(entry.folder), end_s)
        longest_s, reason = (0.0, "; ".join(remarks)) if remarks else (LONGEST_PERIOD_S, "no row is there")
    except RunFileError as error:
        stretches, longest_s, reason = [whole], 0.0, str(error)
    energy, emissions = _divided(stretches, months)
    seconds, _ = _divided([whole._replace(energy_j={("", ""): end_s - entry.start_s})], months)
    parts = [
        Row(
            entry._replace(
                energy_j=_part(entry.energy_j, energy, place),
                emissions_g=_part(entry.emissions_g, emissions, place),
                duration_s=_part(entry.duration_s, seconds, place),
            ),
            str(month),
            is_part=True,
        )
        for place, month in enumerate(months)
    ]
    guessed_j = sum(
        sum(stretch.energy_j.values())
        for stretch in stretches
        if stretch.end_s - stretch.start_s > longest_s and _is_cut(stretch, months)
    )
    if not guessed_j:
        return parts, ""
    ratio = guessed_j / sum(energy)
    return parts, f"{entry.id}: {percent_text(ratio)} of its energy is divided by time: {reason}"


def months_between(start_s: float, end_s: float) -> list[Month]:
    """The months from one moment to another, which may be the same; one that ends as a month begins is not
    in that."""
    months = [month_of(start_s)]
    while months[-1].end_s < end_s:
        months.append(months[-1].next())
    return months


def _is_cut(stretch: Stretch, months: Sequence[Month]) -> bool:
    return any(stretch.start_s < month.end_s < stretch.end_s for month in months)


def _divided(stretches: Iterable[Stretch], months: Sequence[Month]) -> tuple[list[float], list[float]]:
    """Joules and grams (without PUE, which changes no proportion) in each month."""
    energy, emissions = [0.0] * len(months), [0.0] * len(months)
    for stretch in stretches:
        joules = sum(stretch.energy_j.values())
        for place, month in enumerate(months):
            share = _share(stretch, month, is_first=place == 0, is_last=place == len(months) - 1)
            energy[place] += share * joules
            emissions[place] += share * joules / JOULES_PER_KWH * stretch.live_g_per_kwh
    return energy, emissions


def _share(stretch: Stretch, month: Month, is_first: bool, is_last: bool) -> float:
    """The part of a stretch's time in a month; the first and the last month have what lies beyond them."""
    begin_s = stretch.start_s if is_first else max(stretch.start_s, month.start_s)
    end_s = stretch.end_s if is_last else min(stretch.end_s, month.end_s)
    if stretch.end_s > stretch.start_s:
        return max(0.0, end_s - begin_s) / (stretch.end_s - stretch.start_s)
    is_in = (is_first or month.start_s < stretch.end_s) and (is_last or stretch.end_s <= month.end_s)
    return 1.0 if is_in else 0.0


def _part(amount: float | None, shares: Sequence[float], place: int) -> float | None:
    """The part of an amount that is known as a whole, in proportion to the shares."""
    total = sum(shares)
    if amount is None or not total:
        return amount if amount is None or place == 0 else 0.0
    return amount * shares[place] / total
