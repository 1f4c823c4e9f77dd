"""Text in cells of a terminal: no text is ever wider than its place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.plain_text import plain
from carbonmon.core.text_layout import columns_of, cut
from carbonmon.top.cells import Span, fit, pad
from carbonmon.top.table import Column, table


def test_wide_and_combining_characters_count_as_terminals_count_them() -> None:
    assert [columns_of(text) for text in ("abc", "東京", "e\u0301", "🔥", "é", "ﾊ")] == [3, 4, 1, 2, 1, 1]
    assert cut("東京タワー", 5) == "東.."
    assert pad("東", 4) == "東  "
    assert pad("7", 3, right=True) == "  7"


@given(st.text(), st.integers(0, 30))
def test_a_text_is_never_wider_than_its_place(text: str, room: int) -> None:
    shown = plain(text)
    assert columns_of(cut(shown, room)) <= room
    assert columns_of(pad(shown, room)) == room
    line = fit([Span(shown), Span(shown, "title")], room)
    assert sum(columns_of(span.text) for span in line) <= room


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=4), st.integers(1, 60))
def test_the_columns_of_a_table_begin_at_the_same_cell(cells: list[tuple[str, str]], room: int) -> None:
    names, others = ([Span(plain(each[place])) for each in cells] for place in (0, 1))
    columns = [
        Column("NAME", names, elastic=True),
        Column("OTHER", others, rank=1),
        Column("PLOT", draw=lambda count: [Span("#" * count) for _ in cells], rank=2),
    ]
    lines = table(columns, room)
    assert len(lines) == 1 + len(cells)
    starts = {
        tuple(columns_of("".join(span.text for span in line[:place])) for place in range(len(line)))
        for line in lines
    }
    assert len(starts) == 1
