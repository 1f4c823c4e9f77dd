"""Values that somebody else wrote, each taken with its type: a mistake is never mended, and names its field.

An annotation says what a value must be: `str`, `float | None`, `Literal["a", "b"]`, `tuple[float, ...]`, a
named tuple (from the list of its values). Numbers are at least 0 and possible, and `True` is none.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple

Record = TypeVar("Record")

LARGEST = 1e30
"""Far above every number of a run; with larger ones arithmetic could overflow."""

_WORDS: Mapping[Any, str] = {str: "a text", bool: "true or false", dict: "an object", list: "a list"}

_NO_BOUNDS: Mapping[str, float] = types.MappingProxyType({})


class Source(NamedTuple):
    """Where values come from (`name`: a file, a line of it, "" if errors need none), and what mistakes raise.

    Without `shows` no error holds a value: it may be a secret. `highest` are bounds of numbers by the last
    name of their field.
    """

    name: object
    error: Callable[[str], Exception] = ConfigError
    shows: bool = True
    highest: Mapping[str, float] = _NO_BOUNDS

    def mistake(self, text: str) -> Exception:
        """The exception for a mistake."""
        return self.error(f"{self.name}: {text}" if self.name else text)

    def unlike(self, field: str, wanted: str, found: Any) -> Exception:
        """The exception for a value that is not what is wanted."""
        return self.mistake(
            f"{field} must be {wanted}" + (f", and is {short_text(found)}" if self.shows else "")
        )

    def value(self, field: str, found: Any, hint: Any, highest: float = LARGEST) -> Any:
        """A value that fits its annotation; a number is at most `highest`."""
        if hint is float or hint is int:
            return self._number(field, found, hint, highest)
        if type(hint) is type:
            if isinstance(found, hint):
                return found
            if hasattr(hint, "_fields"):
                return self.record(field, found, hint, self._known(hint, found))
            raise self.unlike(field, _WORDS.get(hint, hint.__name__), found)
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            if found is None:
                return None
            (hint,) = (option for option in get_args(hint) if option is not type(None))
            return self.value(field, found, hint, highest)
        if origin is tuple:
            inner = get_args(hint)[0]
            return tuple(self.value(field, item, inner, highest) for item in self.items(field, found))
        if origin is not typing.Literal:
            raise TypeError(f"{field}: no value is read as {hint}")
        known = get_args(hint)
        if found not in known:
            raise self.unlike(field, f"one of {', '.join(known)}", found)
        return found

    def items(self, field: str, found: Any, each: str = "") -> list[Any]:
        """A list with items of any type; with `each` (`a pid, its start`) one value for each of these."""
        if not isinstance(found, list):
            raise self.unlike(field, "a list", found)
        if each and len(found) != each.count(",") + 1:
            raise self.mistake(f"{field} must hold {each}, and has {len(found)} values")
        return found

    def pair(self, field: str, found: Any) -> tuple[str, Any]:
        """A name, and a value of any type."""
        if not isinstance(found, list) or len(found) != 2 or not isinstance(found[0], str):
            raise self.unlike(field, "a name and a value", found)
        return found[0], found[1]

    def check_unique(self, field: str, names: Sequence[Any]) -> None:
        """Raise if two names are the same."""
        if len(set(names)) < len(names):
            raise self.mistake(f"{field} holds the same twice")

    def record(self, field: str, found: Any, kind: type[Record], known: int | None = None) -> Record:
        """A named tuple from the list of its values, each checked against its annotation.

        `known` is how many of the fields the file's version knew; the others take their defaults.
        """
        hints = _hints_of(kind)  # type: ignore[arg-type]  # a class is hashable
        known = len(hints) if known is None else known
        values = self.items(field, found)
        if len(values) != known:
            raise self.mistake(f"{field} must have {known} values, and has {len(values)}")
        pairs = zip(values, hints.items(), strict=False)
        return kind(*(self.value(f"{field}.{key}", value, hint) for value, (key, hint) in pairs))

    def _known(self, kind: Any, found: Any) -> int | None:
        """How many fields a list within a list holds: an older version's lacks the last, which have defaults.

        Where all have defaults nothing would tell a truncated list from an older one: that must be whole.
        """
        least = len(kind._fields) - len(kind._field_defaults)
        is_older = isinstance(found, list) and 0 < least <= len(found) < len(kind._fields)
        return len(found) if is_older else None

    def _number(self, field: str, found: Any, kind: type[float] | type[int], highest: float) -> float:
        if self.highest:
            highest = min(highest, self.highest.get(field.rpartition(".")[2], LARGEST))
        if type(found) in (int, kind) and 0 <= found <= highest:
            return kind(found)
        is_bounded = highest < LARGEST or (type(found) in (int, float) and found > LARGEST)
        span = f"from 0 to {highest:.10g}" if is_bounded else "of at least 0"
        raise self.unlike(field, f"{'a' if kind is float else 'a whole'} number {span}", found)


class Entry(NamedTuple):
    """One object of a source, whose values are taken by key; `prefix` stands before the key in errors."""

    source: Source
    values: Mapping[str, Any]
    prefix: str = ""

    def has(self, key: str) -> bool:
        return key in self.values

    def value(self, key: str, hint: Any, default: Any = None, highest: float = LARGEST) -> Any:
        """What stands under a key, `default` where it is missing, if that fits the annotation."""
        return self.source.value(self.prefix + key, self.values.get(key, default), hint, highest)

    def text(self, key: str, default: str | None = None) -> str:
        found: str = self.value(key, str, default)
        return found

    def number(self, key: str) -> float:
        found: float = self.value(key, float)
        return found

    def items(self, key: str) -> list[Any]:
        """The list under a key, with items of any type."""
        return self.source.items(self.prefix + key, self.values.get(key))

    def texts(self, key: str) -> tuple[str, ...]:
        found: tuple[str, ...] = self.value(key, tuple[str, ...])
        return found

    def entry(self, key: str) -> Entry:
        """The object under a key."""
        return Entry(self.source, self.value(key, dict), f"{self.prefix}{key}.")

    def entries(self, key: str) -> list[Entry]:
        """The objects in the list under a key."""
        field = self.prefix + key
        return [
            Entry(self.source, self.source.value(f"{field}[{i}]", item, dict), f"{field}[{i}].")
            for i, item in enumerate(self.items(key))
        ]

    def records(self, key: str, kind: type[Record], known: int | None = None) -> tuple[Record, ...]:
        """The named tuples in the list under a key."""
        field = self.prefix + key
        return tuple(
            self.source.record(f"{field}[{i}]", item, kind, known) for i, item in enumerate(self.items(key))
        )

    def pairs(self, key: str) -> list[tuple[str, Any]]:
        """The names and values in the list under a key, each name once."""
        field = self.prefix + key
        pairs = [self.source.pair(f"{field}[{i}]", item) for i, item in enumerate(self.items(key))]
        self.source.check_unique(field, [name for name, _ in pairs])
        return pairs

    def pairs_of(self, key: str, hint: Any) -> tuple[tuple[str, Any], ...]:
        """The same with values that fit an annotation."""
        field = self.prefix + key
        return tuple(
            (name, self.source.value(f"{field} of {name!r:.40}", found, hint))
            for name, found in self.pairs(key)
        )


def short_text(found: Any) -> str:
    """A value for an error message: short, however deep or long it is."""
    if isinstance(found, (dict, list)):
        return "an object" if isinstance(found, dict) else "a list"
    return f"{found!r:.40}"


@functools.cache
def _hints_of(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)
