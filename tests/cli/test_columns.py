"""Tables for a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.runs.summary.columns import aligned


def test_columns_are_as_wide_as_their_widest_cell_and_figures_end_below_one_another():
    assert aligned([("NAME", "g", "NOTE"), ("a", "12", ""), ("longer", "3", "x")], numbers=(1,)) == [
        "NAME     g  NOTE",
        "a       12",
        "longer   3  x",
    ]


def test_one_column_gives_way_where_there_is_no_room():
    (line,) = aligned([("a" * 30, "b" * 10)], room=32)
    assert line == f"{'a' * 18}..  {'b' * 10}"
    (line,) = aligned([("a" * 30, "b" * 10)], room=10, elastic=0)
    assert line == f"{'a' * 10}..  {'b' * 10}", "no column becomes narrower than 12"


def test_no_rows_are_no_lines():
    assert aligned([]) == []


@given(
    st.lists(st.tuples(st.text("ab", max_size=40), st.text("cd", max_size=8)), min_size=1),
    st.integers(22, 60),
)
def test_no_line_is_wider_than_the_room(rows: list[tuple[str, str]], room: int):
    assert max(map(len, aligned(rows, room=room))) <= room
