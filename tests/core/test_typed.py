"""Values that somebody else wrote, taken with their type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from carbonmon.core.documents import json_object, json_value, read_bytes
from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import meant, nearest_runs
from carbonmon.core.typed import Entry, Source
from tests.support.rows import for_each_row


class Point(NamedTuple):
    x_m: float
    name: str | None = None


def entry(**values: Any) -> Entry:
    return Entry(Source("file.json"), values)


def test_a_list_within_a_list_of_an_older_version_lacks_the_last_fields_that_have_defaults():
    class Line(NamedTuple):
        begin: Point
        end: Point

    found = entry(a=[[1.5], [2.5, "p"]])
    assert found.value("a", Line) == Line(Point(1.5), Point(2.5, "p"))
    for wrong in ([], [1.5, "p", None]):
        with pytest.raises(ConfigError, match="must have 2 values"):
            entry(a=[wrong, [2.5]]).value("a", Line)


def test_values_are_taken_by_annotation():
    found = entry(a=1, b="x", c=None, d=["x", "y"], e=[1.5, "p"], f=True, g={"h": 2})
    assert isinstance(found.number("a"), float)
    assert (found.text("b"), found.value("c", str | None), found.texts("d")) == ("x", None, ("x", "y"))
    assert found.value("e", Point) == Point(1.5, "p")
    assert found.value("f", bool) is True
    assert found.entry("g").number("h") == 2.0
    assert found.text("missing", "default") == "default"
    assert found.value("b", Literal["x", "y"]) == "x"


@for_each_row(
    ("value", "hint", "problem"),
    [
        (True, float, "a number of at least 0, and is True"),
        (1.5, int, "a whole number of at least 0, and is 1.5"),
        (-1, int, "a whole number of at least 0, and is -1"),
        (1e31, float, "a number from 0 to 1e+30, and is 1e+31"),
        ("z", Literal["x", "y"], "one of x, y, and is 'z'"),
        ({}, str, "a text, and is an object"),
        ([1], tuple[str, ...], "a text, and is 1"),
        ("x", tuple[str, ...], "a list, and is 'x'"),
        ("x" * 100, dict, "an object, and is 'xxx"),
    ],
)
def test_what_does_not_fit_is_said_with_place_and_field(value: Any, hint: Any, problem: str):
    with pytest.raises(ConfigError) as mistake:
        entry(key=value).value("key", hint)
    assert str(mistake.value).startswith(f"file.json: key must be {problem}")
    assert len(str(mistake.value)) < 100


def test_a_place_says_how_deep_a_value_stands():
    with pytest.raises(ConfigError, match=r"file\.json: rows\[1\]\.id must be a text"):
        [row.text("id") for row in entry(rows=[{"id": "a"}, {}]).entries("rows")]
    with pytest.raises(ConfigError, match=r"points\[0\]\.x_m must be a number"):
        entry(points=[["1", None]]).records("points", Point)
    with pytest.raises(ConfigError, match="names holds the same twice"):
        entry(names=[["a", 1], ["a", 2]]).pairs_of("names", float)


def test_an_older_version_s_record_takes_defaults_and_no_shorter_one_is_excused():
    assert entry(points=[[1]]).records("points", Point, known=1) == (Point(1.0),)
    with pytest.raises(ConfigError, match="must have 2 values, and has 1"):
        entry(points=[[1]]).records("points", Point)


def test_where_secrets_may_be_no_value_is_shown():
    hidden = Entry(Source("answer", shows=False), {"token": ["secret"]})
    with pytest.raises(ConfigError) as mistake:
        hidden.text("token")
    assert str(mistake.value) == "answer: token must be a text"


@pytest.mark.parametrize("text", ["", "{", "NaN", "[1e999, Infinity]", "[" * 100_000])
def test_what_is_no_json_is_one_kind_of_error(text: str):
    with pytest.raises(ValueError):
        json_value(text)
    with pytest.raises(ConfigError, match="here: damaged"):
        json_object(text or "[]", "here", ConfigError)


def test_a_file_that_is_too_long_or_no_file_is_named(tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    for bad, limit in ((path, 4), (tmp_path, 5), (tmp_path / "none", 5)):
        with pytest.raises(ConfigError, match=f"{bad}: cannot be read: "):
            read_bytes(bad, limit)


def test_a_misspelt_word_is_guessed_and_others_are_listed():
    assert meant("colour", ["color", "size"]) == "did you mean 'color'?"
    assert meant("q", ["color", "size"]) == "there are color, size"
    assert nearest_runs("run-2", ["run-1", "other"]) == "nearest: run-1"
    assert nearest_runs("q", ["run-1", "other"]) == "there are 2 runs in it"
    runs = ["20261130-201906-first", "20261130-201909-train-2", "other"]
    assert nearest_runs("frist", runs, by_name=True) == "nearest: first"
    assert nearest_runs("frist", runs) == "there are 3 runs in it", "where only ids count"
