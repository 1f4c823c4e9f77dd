"""Text in the cells of a terminal: wide characters take two of them, combining ones none."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.records import NamedTuple
from carbonmon.core.text_layout import columns_of, cut, padded


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


def pad(text: str, room: int, right: bool = False) -> str:
    """The text in exactly `room` cells."""
    return padded(cut(text, max(0, room)), room, right)


def fit(line: Sequence[Span], room: int) -> Line:
    """The line in at most `room` cells, without spaces at its end."""
    kept: Line = []
    for span in line:
        text = cut(span.text, max(0, room))
        if text:
            kept.append(span._replace(text=text))
        room -= columns_of(text)
        if text != span.text:
            break
    while kept and not kept[-1].text.rstrip() and kept[-1].style != "chosen":
        kept.pop()
    if kept and kept[-1].style != "chosen":
        kept[-1] = kept[-1]._replace(text=kept[-1].text.rstrip())
    return kept
