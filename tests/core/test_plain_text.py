"""Texts of others become printable: no terminal, viewer, spreadsheet or encoder is led astray by a name."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from carbonmon.core.plain_text import plain, plain_cell, plain_json, plain_lines, without_exponent
from tests.support.rows import for_each_row

NO_SPACES = dict.fromkeys(map(ord, " \u00a0\u1680\u202f\u205f\u3000"), None) | dict.fromkeys(
    range(0x2000, 0x200B)
)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
"""With lone surrogates, too."""


@for_each_row(
    ("text", "shown"),
    [
        ("train", "train"),
        ("größe µ 東京 🔥", "größe µ 東京 🔥"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("invoice\u202egpj.exe", "invoice\\u202egpj.exe"),
        ("\u2066a\u2069\u200f\u061c", "\\u2066a\\u2069\\u200f\\u061c"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("caf\udce9", "caf\\udce9"),
        ("two\r\nlines\tand a tab", "two\\r\\nlines\\tand a tab"),
        ("10\u00a0W", "10 W"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_cannot_be_printed_is_shown_by_its_escape(text: str, shown: str):
    assert plain(text) == shown


@given(ANY_TEXT)
def test_every_text_becomes_one_printable_line_that_stays_as_it_is(text: str):
    shown = plain(text)
    assert shown.isprintable()
    assert plain(shown) == shown
    assert shown.encode().decode() == shown


@given(ANY_TEXT)
def test_lines_stay_lines(text: str):
    assert plain_lines(text).split("\n") == [plain(line) for line in text.split("\n")]


@given(st.dictionaries(ANY_TEXT, st.lists(ANY_TEXT)))
@example({"\x7f": ["\x1b[2J\x7f"]})
def test_json_is_printable_and_keeps_every_value(document: dict[str, list[str]]):
    for style in ({}, {"indent": 2}):
        text = plain_json(json.dumps(document, ensure_ascii=False, **style))
        assert json.loads(text) == document
        assert plain_lines(text).translate(NO_SPACES) == text.translate(NO_SPACES), (
            "only spaces are left as they are"
        )


@for_each_row("text", ["=1+1", "+1", "-1", "@sum", "＝cmd"])
def test_a_cell_that_begins_like_a_formula_is_marked_as_a_text(text: str):
    assert plain_cell(text) == f"'{text}"
    assert plain_cell(f"a{text}") == f"a{text}"


@given(ANY_TEXT)
def test_no_cell_is_a_formula(text: str):
    assert plain_cell(text)[:1] not in (*"=+-@\t\r\n",)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1e-05)
@example(1e22)
def test_a_number_without_an_exponent_is_the_same_number(number: float):
    text = without_exponent(repr(number))
    assert float(text) == number
    assert not set(text) - set("-.0123456789")
