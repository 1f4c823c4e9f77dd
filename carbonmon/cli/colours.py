"""Colours for what commands print: by what a line is and the words in it, the same everywhere.

The texts themselves have none, so that they are the same in a file.
"""

from __future__ import annotations

import re

import click

_LABEL = re.compile(
    r"  [A-Za-z][a-z ]{0,10}(?= {2}|: )"  # a label of a report
    r"|[A-Z]{2,}( [A-Z]+)* {2,}([A-Z]{2}|g/kWh).*"  # the head of a table
    r"|(INTENSITY|DEVICE|not shown)\b"
    r"|(best|now|worst|saving|source|note)(?= {2})"  # of carbonmon when
)
"""What begins a line and tells what it is."""

_TITLE = re.compile(r"carbonmon: run .*")

_WORDS = (
    (re.compile(r"\bnot used\b|\bunknown\b|\bestimated\b|\bmend it:|\bnot observed\b"), "yellow"),
    (
        re.compile(r"(?<!not )\bused(?=  )|(?<!of it )\bmeasured(?= \()|(?<!not )all of it measured"),
        "green",
    ),
    (re.compile(r"(?<= )\+\d[\d.]* %"), "red"),
    (re.compile(r"(?<= )−\d[\d.]* %"), "green"),
)
"""What deserves a second look, and what is as it should be."""


def coloured(line: str) -> str:
    """The line with its label in bold and some words in colour."""
    if _TITLE.fullmatch(line):
        return click.style(line, bold=True)
    match = _LABEL.match(line)
    end = match.end() if match else 0
    head = click.style(line[:end], bold=True) if end else ""
    return head + _with_words(line[end:])


def _with_words(text: str) -> str:
    for pattern, colour in _WORDS:
        text = pattern.sub(lambda match, colour=colour: click.style(match[0], fg=colour), text)  # type: ignore[misc]
    return text
