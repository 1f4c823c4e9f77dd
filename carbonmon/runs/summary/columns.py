"""Tables for a terminal: cells below one another, each column as wide as its widest cell."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from carbonmon.runs.summary.strings import one_line

_NARROWEST = 12
"""Characters that are left of a column that has to give way."""


def aligned(
    rows: Sequence[Sequence[str]],
    numbers: Collection[int] = (),
    room: int | None = None,
    elastic: int | None = None,
) -> list[str]:
    """The lines of a table, without spaces at their ends; `numbers` are the columns that are aligned right.

    With `room` the lines are no wider than that, as far as one column can give way: `elastic`, or the widest.
    """
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if room is not None:
        elastic = widths.index(max(widths)) if elastic is None else elastic
        over = sum(widths) + 2 * (len(widths) - 1) - room
        widths[elastic] = min(widths[elastic], max(_NARROWEST, widths[elastic] - over))
    signs = [">" if column in numbers else "<" for column in range(len(widths))]
    lines = []
    for row in rows:
        cells = list(row)
        if elastic is not None:
            cells[elastic] = one_line(cells[elastic], widths[elastic])
        parts = zip(cells, signs, widths, strict=True)
        lines.append("  ".join(f"{cell:{sign}{width}}" for cell, sign, width in parts).rstrip())
    return lines
