"""Tables for any width: columns that matter least go first, names are cut, a drawing takes the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carbonmon.core.records import NamedTuple
from carbonmon.core.text_layout import columns_of
from carbonmon.top.cells import Line, Span, pad

GAP = 2
_NARROWEST = 8
"""Cells that are left of a column of names, or of a drawing."""


class Column(NamedTuple):
    """A title and a cell for each row. Columns with a low `rank` go first where there is no room.

    `draw` makes the cells of a drawing for a width, `short` is its title where the title is too long. One of
    the columns may be `elastic`: it is cut.
    """

    title: str
    cells: Sequence[Span] = ()
    right: bool = False
    rank: int = 9
    elastic: bool = False
    draw: Callable[[int], Sequence[Span]] | None = None
    short: str = ""


def table(columns: Sequence[Column], room: int, marked: int | None = None) -> list[Line]:
    """The lines of a table, its titles first; `marked` is the row that is chosen."""
    shown = list(columns)
    while len(shown) > 1 and sum(map(_least, shown)) + GAP * (len(shown) - 1) > room:
        shown.remove(min(reversed(shown), key=lambda column: column.rank))
    widths = {id(column): _least(column) if column.draw else _natural(column) for column in shown}
    over = sum(widths.values()) + GAP * (len(shown) - 1) - room
    for column in shown:
        if column.elastic and over > 0:
            widths[id(column)] = max(_NARROWEST, widths[id(column)] - over)
        elif column.draw and over < 0:
            widths[id(column)] -= over
    drawn = [
        column if column.draw is None else column._replace(cells=column.draw(widths[id(column)]))
        for column in shown
    ]
    room_of = [widths[id(column)] for column in shown]
    titles = [
        column.short if column.short and columns_of(column.title) > cells else column.title
        for column, cells in zip(drawn, room_of, strict=True)
    ]
    lines = [_row([Span(title, "title") for title in titles], drawn, room_of)]
    for place in range(max((len(column.cells) for column in drawn), default=0)):
        line = _row([column.cells[place] for column in drawn], drawn, room_of)
        if place == marked:
            text = "".join(span.text for span in line)
            line = [Span(pad(text, room), "chosen")]
        lines.append(line)
    return lines


def _row(cells: Sequence[Span], columns: Sequence[Column], widths: Sequence[int]) -> Line:
    line: Line = []
    for place, (cell, column, room) in enumerate(zip(cells, columns, widths, strict=True)):
        if place:
            line.append(Span(" " * GAP))
        line.append(cell._replace(text=pad(cell.text, room, column.right)))
    return line


def _natural(column: Column) -> int:
    return max([columns_of(column.title), *(columns_of(cell.text) for cell in column.cells)])


def _least(column: Column) -> int:
    if column.draw:
        return _NARROWEST
    natural = _natural(column)
    return min(natural, _NARROWEST) if column.elastic else natural
