"""Lays texts out for people: their width in columns of a terminal, cut, wrapped, in tables; pure.

A width of None means that there is no terminal: then no line is cut and no table is folded, and prose is
wrapped at `PROSE_WIDTH`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

PROSE_WIDTH = 100
LABEL_WIDTH = 13
"""Columns of the labels at the left of a report, with the space before and behind them."""

_GAP = 2
"""Columns between two cells."""

_NARROWEST = 10
"""Columns that are left of a cell that is cut."""

_NARROWEST_WRAPPED = 24
"""Columns that a cell needs to be wrapped within its own column."""

_LONGEST_ID = 64
"""Characters of a word that is never divided."""

_FIRST_UNUSUAL = "\u0300"
"""Before it, in Latin script, each character takes one column."""

_CUT = ".."
_FOLD = "    "
"""Before the further lines of a row that takes several."""


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes: two for a wide character, none for a combining mark.

    Widths are those of Unicode's East_Asian_Width (UAX 11): W and F are wide.
    """
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def cut(text: str, width: int) -> str:
    """The text in at most `width` columns; where it is longer, its begin and two full stops."""
    if columns_of(text) <= width:
        return text
    return _begin(text, max(0, width - len(_CUT))) + _CUT[:width]


def wrapped(text: str, width: int | None, first: str = "", rest: str | None = None) -> list[str]:
    """The text in lines of at most `width` columns, none for no text; `first` and `rest` begin the lines.

    An address, a path or an id stays whole where it is longer than a line, so that it can be copied; other
    words, and those of wide characters, are divided.
    """
    width = PROSE_WIDTH if width is None else width
    rest = " " * columns_of(first) if rest is None else rest
    lines: list[str] = []
    line, is_empty = first, True
    for word in _words(text, max(1, width - max(columns_of(first), columns_of(rest)))):
        if not is_empty and columns_of(line) + 1 + columns_of(word) > width:
            lines.append(line)
            line, is_empty = rest, True
        line += word if is_empty else f" {word}"
        is_empty = False
    return lines if is_empty else [*lines, line]


def labelled(label: str, text: str, width: int | None) -> list[str]:
    """A text behind its label, on as many lines as it needs; none for no text."""
    return wrapped(text, width, f"  {label:{LABEL_WIDTH - 2}}")


def table(
    rows: Sequence[Sequence[str]],
    numbers: Collection[int] = (),
    width: int | None = None,
    *,
    indent: str = "",
    cuts: int | None = None,
    wraps: int | None = None,
) -> list[str]:
    """The lines of a table, without spaces at their ends; `numbers` are the columns that are aligned right.

    Where it is wider than `width`, the cells of the column `cuts` are cut, or those of `wraps` wrapped. If
    that does not do, each row is folded into several lines, with the same cells in each.
    """
    if not rows:
        return []
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    over = 0 if width is None else len(indent) + sum(widths) + _GAP * (len(widths) - 1) - width
    if width is None or over <= 0:
        return [indent + _line(row, range(len(widths)), widths, numbers) for row in rows]
    if cuts is not None:
        room = widths[cuts] - over
        most = room if room >= _NARROWEST else max(_NARROWEST, width // 3)
        over -= max(0, widths[cuts] - most)
        widths[cuts] = min(widths[cuts], most)
        rows = [[*row[:cuts], cut(row[cuts], widths[cuts]), *row[cuts + 1 :]] for row in rows]
    elif wraps is not None and widths[wraps] - over >= _NARROWEST_WRAPPED:
        widths[wraps], over = widths[wraps] - over, 0
        rows = [part for row in rows for part in _wrapped_row(row, wraps, widths[wraps])]
    if over > 0:
        return _folded(rows, numbers, widths, width, indent)
    return [indent + _line(row, range(len(widths)), widths, numbers) for row in rows]


def fitting_columns(
    widths: Mapping[str, int], order: Sequence[str], width: int, fewest: int = 1
) -> list[str]:
    """The columns of a table that find room in its width, `fewest` at least; the first of `order` first.

    `widths` are the columns in the table's own order, in which they are given back.
    """
    shown: set[str] = set()
    room = width + _GAP
    for column in (each for each in order if each in widths):
        if widths[column] + _GAP <= room or len(shown) < fewest:
            shown.add(column)
            room -= widths[column] + _GAP
    return [column for column in widths if column in shown]


def padded(text: str, width: int, is_number: bool = False) -> str:
    """The text with spaces behind it, or before a number, to `width` columns."""
    spaces = " " * (width - columns_of(text))
    return spaces + text if is_number else text + spaces


def _line(row: Sequence[str], places: Sequence[int], widths: Sequence[int], numbers: Collection[int]) -> str:
    cells = (padded(row[place], widths[place], place in numbers) for place in places)
    return (" " * _GAP).join(cells).rstrip()


def _wrapped_row(row: Sequence[str], place: int, width: int) -> Iterator[list[str]]:
    """A row as several, of which only the first has the other cells."""
    for number, part in enumerate(wrapped(row[place], width) or [""]):
        others = row if number == 0 else [""] * len(row)
        yield [*others[:place], part, *others[place + 1 :]]


def _folded(
    rows: Sequence[Sequence[str]], numbers: Collection[int], widths: list[int], width: int, indent: str
) -> list[str]:
    """Each row in as many lines as its cells need; what is longer than a line is wrapped."""
    groups: list[list[int]] = [[]]
    used = len(indent)
    for place, size in enumerate(widths):
        if groups[-1] and used + _GAP + size > width:
            groups.append([])
            used = len(indent) + len(_FOLD)
        used += size + (_GAP if groups[-1] else 0)
        groups[-1].append(place)
    lines = []
    for row in rows:
        for number, group in enumerate(groups):
            start = indent + (_FOLD if number else "")
            line = _line(row, group, widths, numbers)
            if not line:
                continue
            is_single = len(group) == 1
            lines += wrapped(line.strip(), width, start) if is_single else [start + line]
    return lines


def _words(text: str, room: int) -> Iterator[str]:
    for word in text.split():
        left = word
        is_whole = ("/" in word or len(word) <= _LONGEST_ID) and len(word) == columns_of(word)
        while columns_of(left) > room and not is_whole:
            part = _begin(left, room) or left[:1]
            yield part
            left = left[len(part) :]
        if left:
            yield left


def _begin(text: str, width: int) -> str:
    """As much of the text's begin as takes `width` columns."""
    used = 0
    for place, character in enumerate(text):
        used += _columns_of(character)
        if used > width:
            return text[:place]
    return text


def _columns_of(character: str) -> int:
    if character < _FIRST_UNUSUAL:
        return 1
    import unicodedata  # a megabyte, that most outputs do not need

    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
