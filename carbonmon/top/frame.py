"""One frame: the lines that fit a terminal, made from what is known. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.text_layout import columns_of
from carbonmon.top.cells import Line, Signs, Span, fit
from carbonmon.top.figures import figure_lines, head
from carbonmon.top.tables import (
    component_lines,
    device_lines,
    device_rows,
    phase_lines,
    run_lines,
    sensor_lines,
)
from carbonmon.top.view import View

MOST_RUNS = 10
"""Runs in a frame that has no height."""

_LEAST, _SMALL = 3, 4
"""Lines of the first table that are shown at least, its titles among them, and of others before it grows."""

HELP = (
    ("q", "quit"),
    ("s", "sort by the next column"),
    ("p", "the next phase, then all"),
    ("up down k j", "mark a run; scroll"),
    ("Enter", "look at that run"),
    ("n", "the node with all runs"),
    ("h ?", "this help"),
)


def frame(view: View, columns: int, rows: int | None, signs: Signs) -> list[Line]:
    """The lines of a frame of this size; without `rows` it is as long as it gets, and has no keys."""
    return [fit(line, columns) for line in _lines(view, columns, rows, signs)]


def _lines(view: View, columns: int, rows: int | None, signs: Signs) -> list[Line]:
    top = head(view, columns, signs)
    if view.is_help:
        keys = [[Span(f"{key:13}", "title"), Span(text)] for key, text in HELP]
        return _within([*top[:1], [], *keys, [], *_legend(signs)], rows, [])
    if not view.now.part("node"):
        return _within(top, rows, _footer(view, columns))
    top += figure_lines(view, columns, signs)
    if rows is None:
        tables = _tables(view, columns, signs)
        if view.is_node and len(tables[0]) > MOST_RUNS + 1:
            left = len(tables[0]) - MOST_RUNS - 1
            tables[0] = [*tables[0][: MOST_RUNS + 1], [Span(f"and {left} more")]]
        return [*top, *(line for each in tables if each for line in ([], *each))]
    left = rows - len(top) - 1
    tables = _tables(view, columns, signs)
    if view.is_node and sum(map(len, tables)) > left:
        tables[1] = component_lines(view, columns, signs)
    return _within([*top, *_stacked(tables, left, view)], rows, _footer(view, columns))


def rows_to_mark(view: View) -> int:
    """How many rows the table has in which one is marked."""
    return len(view.runs) if view.is_node else len(device_rows(view))


def _tables(view: View, columns: int, signs: Signs) -> list[list[Line]]:
    """The table in which a row is marked comes first."""
    devices, sensors = device_lines(view, columns, signs), sensor_lines(view, columns, signs)
    if view.is_node:
        return [run_lines(view, columns, signs), devices, sensors]
    return [devices, phase_lines(view, columns, signs), sensors]


def _stacked(tables: Sequence[list[Line]], room: int, view: View) -> list[Line]:
    """The tables below one another in so many lines; the first gets what the others leave."""
    tables = [table for table in tables if table]
    heights = [min(len(table), _LEAST if place == 0 else 1) for place, table in enumerate(tables)]
    for place in range(len(tables) - 1, -1, -1):  # small ones whole, if there is room
        free = room - sum(heights)
        heights[place] += max(0, min(len(tables[place]) - heights[place], free))
    if len(tables) > 1 and heights[0] < len(tables[0]):  # the first one before long ones behind it
        for place in range(len(tables) - 1, 0, -1):
            spare = min(heights[place] - min(len(tables[place]), _SMALL), len(tables[0]) - heights[0])
            if spare > 0:
                heights[place] -= spare
                heights[0] += spare
    for place in range(1, len(tables) - 1):  # titles alone say nothing
        if heights[place] == 1 < len(tables[place]):
            heights[place] = 0
            heights[0] = min(len(tables[0]), heights[0] + 1)
    gaps = room - sum(heights)
    lines: list[Line] = []
    for place, (table, height) in enumerate(zip(tables, heights, strict=True)):
        if gaps >= len(tables) - place:
            lines.append([])
        lines += _cut(table, height, view if place == 0 else None)
    return lines


def _cut(table: list[Line], height: int, view: View | None) -> list[Line]:
    """A table in so many lines, and how many are not shown; the table that is moved in has its marked row.

    Of a run's devices the marked one is the first, as there is nothing to choose.
    """
    room = height - 2
    if len(table) <= height or room < 1:
        return table[: max(0, height)]
    first = 0
    if view is not None:
        first = max(0, view.marked - room + 1) if view.is_node else view.marked
    first = min(first, len(table) - 1 - room)
    hidden = ((first, "above"), (len(table) - 1 - room - first, "below"))
    more = " and ".join(f"{count} {where}" for count, where in hidden if count)
    return [table[0], *table[1 + first : 1 + first + room], [Span(f"and {more}")]]


def _within(lines: list[Line], rows: int | None, footer: Line) -> list[Line]:
    if rows is None:
        return lines
    body = lines[: max(0, rows - 1)]
    return [*body, *([[]] * (rows - 1 - len(body))), footer][:rows] if rows else []


def _footer(view: View, room: int) -> Line:
    sort = view.run_sort if view.is_node else view.device_sort
    words = ["q quit", f"s sort: {sort}"]
    if view.is_node:
        words.append("Enter: this run")
    else:
        words += [f"p phase: {view.shown_phase() or 'all'}", "n node"]
    words.append("h help")
    while len(words) > 2 and sum(map(columns_of, words)) + 3 * (len(words) - 1) > room:
        words.pop(-2)
    return [Span("   ".join(words), "title")]


def _legend(signs: Signs) -> list[Line]:
    return [
        [Span(f"{signs.measured} {signs.solid}  ", "measured"), Span("a sensor measured it")],
        [Span(f"{signs.estimated} {signs.dotted}  ", "estimated"), Span("estimated: TDP times utilisation")],
        [Span(f"{signs.unknown}  "), Span("unknown, which is not 0")],
        [Span("Over time: from 0 to a line's highest.")],
    ]
