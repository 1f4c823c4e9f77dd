"""The lines of a report below the table: basis of the intensity, settled and embodied emissions, and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.records import NamedTuple
from carbonmon.core.text_layout import labelled, table, wrapped
from carbonmon.runs.report.equivalents import equivalents
from carbonmon.runs.summary.figures import (
    GRAMS,
    MASS_UNITS,
    figure,
    mass_text,
    percent_text,
    range_text,
    unit_of,
)
from carbonmon.runs.summary.strings import one_line


class Section(NamedTuple):
    """A table of plain texts, with notes below it.

    `numbers` are the columns of figures, and `cuts` is the one that gives way on a narrow terminal.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    numbers: Sequence[int] = ()
    cuts: int | None = None


def section_text(section: Section, width: int | None = None) -> str:
    """A section below the table: its columns aligned, its notes wrapped."""
    rows = [[one_line(cell, 400) for cell in row] for row in (section.head, *section.rows)]
    lines = wrapped(one_line(section.title, 400), width, "  ")
    if section.rows:
        lines += table(rows, section.numbers, width, indent="    ", cuts=section.cuts)
    for note in section.notes:
        lines += wrapped(one_line(note, 1000), width, "    ")
    return "".join(f"{line}\n" for line in lines)


def details_text(summary: Mapping[str, Any], width: int | None = None, what_if: str = "") -> str:
    """The lines, each ending in a newline, none wider than the table."""
    settled = summary.get("settled")
    texts = [
        ("basis", basis_text(summary["carbon"]["intensity"])),
        ("settled", "" if settled is None else settled_text(settled)),
        ("embodied", embodied_of(summary)),
        ("what if", what_if),
    ]
    for number, equivalent in enumerate(equivalents(summary)):
        texts.append(("" if number else "like", f"{equivalent.sentence}  [{equivalent.source}]"))
    lines = [line for label, text in texts for line in labelled(label, one_line(text, 2000), width)]
    return "".join(f"{line}\n" for line in lines)


def basis_text(intensity: Mapping[str, Any]) -> str:
    """Basis, accounting, kind and year of an intensity in words, and its note."""
    return "; ".join(filter(None, (", ".join(origin_parts(intensity)), intensity.get("note"))))


KINDS = {
    "fixed": "a figure that the user gave",
    "table": "annual mean",
    "live": "figures of the moment",
    "forecast": "forecast",
    "stale": "last known figure",
}


def origin_parts(intensity: Mapping[str, Any]) -> list[str]:
    """Basis, accounting, kind and year of an intensity; what is unknown is left out."""
    basis, accounting, year = (intensity.get(key) for key in ("basis", "accounting", "year"))
    kind = KINDS.get(intensity.get("kind") or "", "")
    words = [
        f"{basis} emissions" if basis else "",
        f"{accounting}-based" if accounting else "",
        f"{kind} of {year}" if year and intensity.get("kind") == "table" else kind,
    ]
    return [word for word in words if word]


def settled_text(settled: Mapping[str, Any]) -> str:
    """The emissions as recalculated with the actual grid intensity."""
    amount, span, facts = settled_parts(settled)
    return f"{amount} ({span}); {facts}"


def settled_parts(settled: Mapping[str, Any]) -> tuple[str, str, str]:
    """The same in parts: the amount, its range, and its sources."""
    grams, intensity = settled["emissions_g"], settled.get("intensity") or {}
    unit = unit_of(grams, MASS_UNITS)
    mean, covered = intensity.get("mean_g_per_kwh"), settled.get("covered_ratio")
    rate = "" if mean is None else f"{figure(mean)} g CO2e/kWh"
    origin = [intensity.get("zone"), intensity.get("source"), *origin_parts(intensity)]
    is_mean = intensity.get("kind") == "table"
    facts = [
        ": ".join(filter(None, (rate, ", ".join(filter(None, origin))))),
        "" if covered is None or is_mean else f"known for {percent_text(covered)} of the energy",
        correction_text(settled),
        f"settled {settled['settled_at'][:10]}" if settled.get("settled_at") else "",
        intensity.get("note") or "",
    ]
    return (
        f"{figure(grams / GRAMS[unit])} {unit} CO2e",
        range_text(settled.get("low_g"), settled.get("high_g"), GRAMS[unit]),
        "; ".join(filter(None, facts)),
    )


def correction_text(settled: Mapping[str, Any]) -> str:
    """The region that was given later in place of a wrong one; "" where none was."""
    region = settled.get("region")
    return "" if region is None else f"{region['given']} in place of {region['former'] or 'no region'}"


def embodied_of(summary: Mapping[str, Any]) -> str:
    """Embodied emissions in a summary; "" where they were not asked for."""
    found = summary.get("embodied")
    if found is None:
        return ""
    return embodied_text(found["low_g"], found["high_g"], found["unknown"], found["sources"])


def embodied_text(
    low_g: float | None, high_g: float | None, unknown: Sequence[str], sources: Sequence[str]
) -> str:
    """The run's part of the embodied emissions; it is in no other figure."""
    text = "an unknown amount"
    if low_g is not None and high_g is not None:
        text = f"{mass_text(low_g)} to {mass_text(high_g)} CO2e"
    parts = [
        f"{text} of making the hardware, for the part of its life that the run took; in no other figure",
        f"nothing is known of {', '.join(unknown)}" if unknown else "",
        f"by {'; '.join(sources)}" if sources else "",
    ]
    return "; ".join(filter(None, parts))
