"""A run as a Markdown report for a wiki or an appendix: tables, an impact statement, equivalents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.runs.report import sections as plain
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.equivalents import equivalents
from carbonmon.runs.report.impact import statement
from carbonmon.runs.report.markup import escaped, table

_LONGEST_CELL = 2000
"""The texts of `sections` are short enough already; this is no limit for them."""


def markdown_text(summary: Mapping[str, Any], sections: Sequence[Section] = ()) -> str:
    """The whole report, ending in a newline."""
    energy = summary["energy"]
    facts = plain.facts(summary)
    blocks = [[f"# Energy and carbon of run {escaped(summary['run']['id'], 64)}"], _table(facts)]
    for section in (
        *(
            plain.results(summary),
            plain.devices(energy),
            plain.phases(energy),
            plain.epochs(summary),
            plain.methods(energy),
        ),
        plain.sensors(summary["monitor"]),
    ):
        if section.rows:
            blocks += [[f"## {section.title}"], _table(section)]
    blocks.append(["## Impact statement"])
    blocks += [[paragraph] for paragraph in statement(summary)]
    like = [f"- {escaped(found.sentence)} ({escaped(found.source)})" for found in equivalents(summary)]
    if like:
        blocks += [["## What it is like"], like]
    for section in sections:
        blocks += _section(section)
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def section_markdown(section: Section) -> str:
    """A table with notes by itself, ending in a newline."""
    return "\n\n".join("\n".join(block) for block in _section(section)) + "\n"


def _section(section: Section) -> list[list[str]]:
    blocks = [[f"## {escaped(section.title)}"]]
    if section.rows:
        blocks.append(_table(section, 200))
    return blocks + [[escaped(note, 400)] for note in section.notes]


def _table(section: Section, width: int = _LONGEST_CELL) -> list[str]:
    head, *rows = ([escaped(cell, width) for cell in row] for row in (section.head, *section.rows))
    return table(head, rows, section.numbers)
