"""Text in the cells of a terminal: wide characters take two of them, combining ones none."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

CUT = ".."
"""What stands at the end of a text that was cut."""


class Span(NamedTuple):
    """Text in one style: a word of `STYLES` of `screen.py`, "" for plain."""

    text: str
    style: str = ""


Line = list[Span]
"""One line of a frame, from left to right."""


class Signs(NamedTuple):
    """The characters of a drawing. Those for measured and estimated power differ in shape."""

    measured: str
    estimated: str
    unknown: str
    lost: str
    solid: str
    dotted: str
    between: str


UNICODE = Signs("●", "◇", "–", "✕", "▁▂▃▄▅▆▇█", "⣀⣤⣶⣿", " · ")
ASCII = Signs("*", "~", "-", "x", "_-=#", ".:oO", ", ")
"""For a terminal whose character set has no others."""


def width(text: str) -> int:
    """How many cells a printable text takes (Unicode's East Asian Width, UAX #11)."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def cut(text: str, room: int) -> str:
    """The text in at most `room` cells."""
    if width(text) <= room:
        return text
    kept, left = [], room - len(CUT)
    for character in text:
        left -= _cells(character)
        if left < 0:
            break
        kept.append(character)
    return ("".join(kept) + CUT)[: max(0, room)] if room >= len(CUT) else CUT[: max(0, room)]


def pad(text: str, room: int, right: bool = False) -> str:
    """The text in exactly `room` cells."""
    text = cut(text, room)
    space = " " * (room - width(text))
    return space + text if right else text + space


def fit(line: Sequence[Span], room: int) -> Line:
    """The line in at most `room` cells, without spaces at its end."""
    kept: Line = []
    for span in line:
        text = cut(span.text, room)
        if text:
            kept.append(span._replace(text=text))
        room -= width(text)
        if text != span.text:
            break
    while kept and not kept[-1].text.rstrip() and kept[-1].style != "chosen":
        kept.pop()
    if kept and kept[-1].style != "chosen":
        kept[-1] = kept[-1]._replace(text=kept[-1].text.rstrip())
    return kept


def _cells(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
