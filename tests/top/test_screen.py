"""Keys as terminals send them; the screen itself is tested in a real terminal (tests/e2e/test_top.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.top.cells import ASCII, UNICODE
from carbonmon.top.screen import keys_in, signs_for
from tests.support.rows import for_each_row


@for_each_row(
    ("typed", "names"),
    [
        (b"q", ["q"]),
        (b"\x1b[A\x1bOBkj\r", ["up", "down", "up", "down", "enter"]),
        (b"\x1b[1;5Aq", ["\x1b[1;5A", "q"]),
        (b"\x1b[200~pasted\x1b[201~", ["\x1b[200~", *"pasted", "\x1b[201~"]),
        (b"\x1bq", ["\x1b", "q"]),
    ],
)
def test_keys_have_names_and_sequences_are_one_key(typed: bytes, names: list[str]) -> None:
    assert keys_in(typed) == (names, b"")


@given(st.binary(max_size=12), st.integers(0, 12))
def test_where_a_slow_line_cuts_a_sequence_changes_nothing(typed: bytes, place: int) -> None:
    first, rest = keys_in(typed[:place])
    second, left = keys_in(rest + typed[place:])
    assert (first + second, left) == keys_in(typed)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", None, "no-such"])
def test_signs_are_those_that_the_terminal_can_show(encoding: str | None) -> None:
    assert signs_for(encoding) is ASCII
    assert signs_for("utf-8") is UNICODE
