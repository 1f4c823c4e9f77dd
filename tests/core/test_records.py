"""Records are what `typing.NamedTuple` makes, and cost nothing until the first of a kind is made."""

from __future__ import annotations

import ast
import copy
import pickle
import typing
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core import model, records
from carbonmon.core.records import NamedTuple


class Point(NamedTuple):
    """A place."""

    x: float
    y: float = 2.0
    name: str | None = None

    @property
    def sum(self) -> float:
        return self.x + self.y


class Plain(typing.NamedTuple):
    x: float
    y: float = 2.0
    name: str | None = None


class Nothing(NamedTuple):
    pass


@pytest.mark.parametrize("time", range(6))
def test_it_is_a_tuple_with_names_as_that_of_typing(time: int):
    ours, theirs = Point(1.0, name="a"), Plain(1.0, name="a")
    assert ours == theirs == (1.0, 2.0, "a")
    assert hash(ours) == hash(theirs)
    assert (ours.x, ours.y, ours.name, ours.sum) == (1.0, 2.0, "a", 3.0)
    assert ours._asdict() == theirs._asdict()
    assert (Point._fields, Point._field_defaults) == (Plain._fields, Plain._field_defaults)
    assert repr(ours) == "Point(x=1.0, y=2.0, name='a')"
    assert ours._replace(y=5.0) == theirs._replace(y=5.0)
    assert Point._make([1, 2, 3]) == Plain._make([1, 2, 3])
    assert type(ours._replace(x=0.0)) is Point
    assert Point.__doc__ == "A place."
    assert not hasattr(ours, "__dict__")
    assert Nothing() == ()
    match ours:
        case Point(x, y):
            assert (x, y) == (1.0, 2.0)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_it_is_copied_and_pickled(copied: Callable[[Any], Any]):
    made = Point(1.0)
    assert copied(made) == made
    assert type(copied(made)) is Point


def test_its_annotations_are_those_that_were_written():
    assert typing.get_type_hints(Point) == typing.get_type_hints(Plain)
    assert typing.get_type_hints(model.Device)["methods"] == tuple[model.Method, ...]


@pytest.mark.parametrize(
    "mistake",
    [
        lambda kind: kind(),
        lambda kind: kind(1.0, 2.0, "a", 4.0),
        lambda kind: kind(1.0, x=1.0),
        lambda kind: kind(1.0, colour="red"),
        lambda kind: kind._make([1.0]),
        lambda kind: kind(1.0)._replace(colour="red"),
        lambda kind: setattr(kind(1.0), "x", 2.0),
        lambda kind: setattr(kind(1.0), "colour", 2.0),
    ],
)
def test_a_mistake_is_an_error_however_many_were_made(mistake: Callable[[Any], object]):
    class New(NamedTuple):
        x: float
        y: float = 2.0
        name: str | None = None

    for _ in range(6):
        with pytest.raises((TypeError, AttributeError)):
            mistake(New)
        with pytest.raises((TypeError, AttributeError, ValueError)):
            mistake(Plain)
        assert New(1.0) == (1.0, 2.0, None)


def test_a_field_without_a_default_behind_one_that_has_one_is_refused():
    with pytest.raises(TypeError, match="stands behind one that has one"):

        class Wrong(NamedTuple):
            x: float = 1.0
            y: float


def test_a_record_that_nobody_counts_has_a_value_for_each_field_of_its_class():
    """`record` checks nothing: a new field of a class is to be added wherever one is made so."""
    found = []
    for path in Path(records.__file__).parents[1].rglob("*.py"):
        module = path.relative_to(Path(records.__file__).parents[2]).with_suffix("")
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "record":
                kind, values = node.args
                assert isinstance(kind, ast.Name), f"{path}:{node.lineno}: the class is to be named there"
                assert isinstance(values, ast.Tuple), f"{path}:{node.lineno}: the values are to stand there"
                assert not any(isinstance(value, ast.Starred) for value in values.elts)
                made = getattr(import_module(".".join(module.parts)), kind.id)
                assert len(values.elts) == len(made._fields), f"{path}:{node.lineno}: {kind.id}"
                found.append(kind.id)
    assert {"Interval", "Meter"} <= set(found)
