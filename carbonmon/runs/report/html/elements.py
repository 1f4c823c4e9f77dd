"""Elements of HTML and SVG as texts; a text of somebody else never becomes markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from carbonmon.core.plain_text import plain
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.sections import HOW_KNOWN

LONGEST_TEXT = 2_000
"""Characters of one text: of a longer one the rest is left out."""

MEASURED, ESTIMATED = "measured", "estimated"
_SIGNS = {MEASURED: "●", ESTIMATED: "◇"}
"""How a figure is known is a sign and a word, never a colour alone: the same as on the live page."""

_WORDS = re.compile(f"({MEASURED}|{ESTIMATED})")


_FEW = 3
"""Columns that find room on a phone."""


class Markup(str):
    """A text that is markup already."""

    __slots__ = ()


Child = str | None | Iterable["str | None"]
Attribute = str | int | float | None


def h(name: str, attributes: Mapping[str, Attribute] | None = None, *children: Child) -> Markup:
    """An element; attributes that are None are left out. What is not `Markup` is escaped."""
    head = "".join(
        f' {key}="{html.escape(_shown(value))}"'
        for key, value in (attributes or {}).items()
        if value is not None
    )
    inside = "".join(_child(child) for child in children)
    return Markup(f"<{name}{head}>{inside}</{name}>")


def void(name: str, attributes: Mapping[str, Attribute]) -> Markup:
    """An element that has no end."""
    return Markup(h(name, attributes).removesuffix(f"</{name}>"))


def joined(children: Iterable[str]) -> Markup:
    """Elements and texts one behind the other."""
    return Markup("".join(map(_text, children)))


def marked(text: str) -> Markup:
    """What is said of how a figure is known, with the sign before each of the two words."""
    return joined(
        joined((h("span", {"class": "sign", "aria-hidden": "true"}, f"{_SIGNS[part]} "), part))
        if part in _SIGNS
        else part
        for part in _WORDS.split(text)
    )


def section_table(section: Section) -> Markup:
    """A section's rows as a table; "" for none."""
    if not section.rows:
        return Markup("")
    known = [column for column, name in enumerate(section.head) if name == HOW_KNOWN]
    rows = [
        [marked(cell) if column in known else cell for column, cell in enumerate(row)] for row in section.rows
    ]
    return table(section.title, section.head, rows, section.numbers)


def table(
    label: str, head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()
) -> Markup:
    """A table that scrolls in itself where the screen is narrow; `numbers` are the columns aligned right."""

    def side(column: int) -> str | None:
        return "number" if column in numbers else None

    heads = [
        h("th", {"scope": "col", "class": side(column)}, name) if name else h("td")
        for column, name in enumerate(head)
    ]
    lines = [
        h(
            "tr",
            None,
            (
                h("td", {"class": side(column)}, cell) if column else h("th", {"scope": "row"}, cell)
                for column, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    parts = h("thead", None, h("tr", None, heads)), h("tbody", None, lines)
    inner = h("table", {"class": "many" if len(head) > _FEW else None}, parts)
    return h(
        "div", {"class": "wide", "tabindex": 0, "role": "region", "aria-label": f"{label}, a table"}, inner
    )


def under_plot(label: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """The table of a plot, for who cannot see it; closed until somebody opens it."""
    found = table(label, head, rows, range(1, len(head)))
    return h("details", None, h("summary", None, "The plot as a table"), found)


def _child(child: Child) -> str:
    if child is None:
        return ""
    return _text(child) if isinstance(child, str) else "".join(_text(each) for each in child if each)


def _text(text: str) -> Markup:
    if isinstance(text, Markup):
        return text
    whole = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"
    return Markup(html.escape(plain(whole), quote=False))


def _shown(value: str | float) -> str:
    if isinstance(value, str):
        return plain(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
