"""Texts for a terminal: widths, wrapping, tables."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.text_layout import columns_of, cut, fitting_columns, labelled, table, wrapped
from tests.support.rows import for_each_row

WIDE = "電力計測"


def test_columns_are_as_wide_as_their_widest_cell_and_figures_end_below_one_another():
    assert table([("NAME", "g", "NOTE"), ("a", "12", ""), ("longer", "3", "x")], numbers=(1,)) == [
        "NAME     g  NOTE",
        "a       12",
        "longer   3  x",
    ]


def test_no_rows_are_no_lines_and_no_text_neither():
    assert table([], width=40) == []
    assert wrapped("", 40, "  label  ") == []


def test_the_column_that_may_be_cut_gives_way_first():
    (line,) = table([("a" * 30, "b" * 10)], width=32, cuts=0)
    assert line == f"{'a' * 18}..  {'b' * 10}"


def test_the_column_that_may_be_wrapped_keeps_all_its_words_below_one_another():
    lines = table([("rapl", "not used", "the counter is there, and nobody may read it")], width=50, wraps=2)
    assert lines == [
        "rapl  not used  the counter is there, and nobody",
        "                may read it",
    ]


def test_where_nothing_can_give_way_each_row_is_folded_at_the_same_cells():
    rows = [("gpu", "A" * 20, "12.5 kJ", "measured"), ("cpu", "B" * 20, "3.1 kJ", "estimated")]
    assert table(rows, numbers=(2,), width=40, indent="  ") == [
        f"  gpu  {'A' * 20}  12.5 kJ",
        "      measured",
        f"  cpu  {'B' * 20}   3.1 kJ",
        "      estimated",
    ]


def test_without_a_terminal_nothing_is_cut_and_nothing_folded():
    row = ("a" * 300, "b" * 300)
    assert table([row], width=None, cuts=0, wraps=1) == [f"{row[0]}  {row[1]}"]


def test_a_wide_character_takes_two_columns_and_a_combining_mark_none():
    assert (columns_of(WIDE), columns_of("cafe\u0301"), columns_of("→ × é")) == (8, 4, 5)
    assert cut(WIDE, 7) == "電力.."
    assert table([(WIDE, "x"), ("abcdefgh", "y")]) == [f"{WIDE}  x", "abcdefgh  y"]
    assert wrapped(WIDE * 3, 10, "- ") == ["- 電力計測", "  電力計測", "  電力計測"]


def test_an_address_a_path_and_an_id_stay_whole_and_other_words_are_divided():
    address = "http://node-17.cluster.example.org:9877/metrics?" + "x" * 40
    assert wrapped(f"metrics at {address}", 40) == ["metrics at", address]
    run_id = "slurm-4242.with-a-name-of-some-length-that-is-an-id"
    assert run_id in wrapped(f"run {run_id}", 40)
    assert max(map(len, wrapped("y" * 500, 40))) == 40


def test_further_lines_stand_below_the_text_and_not_below_its_label():
    assert labelled("energy", "one two three four five six seven", 30) == [
        "  energy     one two three",
        "             four five six",
        "             seven",
    ]


def test_the_columns_that_matter_most_are_shown_in_the_order_of_the_table():
    widths = {"id": 10, "name": 8, "energy": 7, "host": 20}
    order = ("id", "energy", "name", "host")
    assert fitting_columns(widths, order, 30) == ["id", "name", "energy"]
    assert fitting_columns(widths, order, 20) == ["id", "energy"]
    assert fitting_columns(widths, order, 5, fewest=2) == ["id", "energy"]


@for_each_row("choice", [{}, {"cuts": 1}, {"wraps": 1}])
def test_no_line_is_wider_than_the_terminal_whatever_the_cells_are(choice: dict[str, int]):
    words = st.lists(st.text("ab電", min_size=1, max_size=30), max_size=12).map(" ".join)

    @given(st.lists(st.tuples(words, words, words, words), min_size=1, max_size=5), st.integers(40, 120))
    def check(rows: list[tuple[str, ...]], width: int) -> None:
        lines = table(rows, (2,), width, indent="  ", **choice)
        assert max(map(columns_of, lines)) <= width

    check()


@given(st.text("ab電/ ", max_size=300), st.integers(40, 120))
def test_wrapping_loses_no_character_and_only_breaks_between_words(text: str, width: int):
    lines = wrapped(text, width, "  note: ")
    assert "".join("".join(lines).split()).removeprefix("note:") == "".join(text.split())
    too_wide = [line for line in lines if columns_of(line) > width]
    assert all(len(line.split()) <= 2 for line in too_wide), "only a single word is wider, and its label"
