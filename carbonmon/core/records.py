"""Records: named tuples whose definition costs next to nothing, because a start defines a hundred of them.

`typing.NamedTuple` compiles a constructor, and each annotation, when a class is defined: 0.1 to 0.3 ms, of
which most classes make no use in a run. These are the same to whoever uses them and to type checkers; the
constructor is compiled when some were made, and annotations are left to `typing.get_type_hints`.
"""

from __future__ import annotations

from collections import _tuplegetter  # type: ignore[attr-defined]  # what namedtuple() itself takes for its fields
from typing import TYPE_CHECKING, Any

__all__ = ("NamedTuple", "record")

if TYPE_CHECKING:
    from typing import NamedTuple, TypeVar

    Record = TypeVar("Record", bound=tuple[Any, ...])

    def record(kind: type[Record], values: tuple[Any, ...]) -> Record:
        """A record of all its values in their order, which nobody counts: half the price of `kind(*values)`.

        For what is made of each device at each sample.
        """

else:
    record = tuple.__new__

    _BY_HAND = 3
    """So many records of a class are made before its constructor is worth compiling: many have no more."""

    _made: dict[type, int] = {}

    class _Record(tuple):
        """What all records share; `_fields` and `_field_defaults` are of each class."""

        __slots__ = ()

        def __new__(cls, *values, **named):
            """The first records of a class; then a constructor is compiled, which makes all others."""
            rest = cls._fields[len(values) :]
            if _made.setdefault(cls, 0) < _BY_HAND and named.keys() <= set(rest):
                _made[cls] += 1
                known = cls._field_defaults | named
                if known.keys() >= set(rest) and len(values) <= len(cls._fields):
                    return tuple.__new__(cls, (*values, *[known[field] for field in rest]))
            cls.__new__ = staticmethod(_constructor(cls))
            return cls.__new__(cls, *values, **named)

        @classmethod
        def _make(cls, values):
            """A record of its values in their order."""
            made = tuple.__new__(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} has {len(cls._fields)} values, and not {len(made)}")
            return made

        def _replace(self, /, **values):
            """The record with other values of some fields."""
            made = self._make(map(values.pop, self._fields, self))
            if values:
                raise TypeError(f"{type(self).__name__} has no field {', '.join(map(repr, values))}")
            return made

        __replace__ = _replace

        def _asdict(self):
            """The values by their fields."""
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            values = ", ".join(f"{field}={value!r}" for field, value in self._asdict().items())
            return f"{type(self).__name__}({values})"

    class _Definition(type):
        """Makes a class with `NamedTuple` as its base a tuple with a property for each annotated field."""

        def __new__(cls, name: str, bases: tuple[type, ...], content: dict[str, Any]) -> type:
            fields = tuple(content.get("__annotations__", ()))
            defaults = {field: content.pop(field) for field in fields if field in content}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default stands behind one that has one")
            for place, field in enumerate(fields):
                content[field] = _tuplegetter(place, None)
            content.update(__slots__=(), _fields=fields, _field_defaults=defaults, __match_args__=fields)
            return type(name, (_Record,), content)

    NamedTuple = type.__new__(_Definition, "NamedTuple", (), {})

    def _constructor(kind):
        """`kind(*values, **named)` as a function of its own, which is as fast as one that is written out."""
        names = ", ".join(kind._fields)
        code = f"lambda _kind, {names}: _new(_kind, ({names}{',' if names else ''}))"
        made = eval(code, {"_new": tuple.__new__, "__name__": kind.__module__})
        made.__defaults__ = tuple(kind._field_defaults.values())
        made.__qualname__ = f"{kind.__qualname__}.__new__"
        return made
