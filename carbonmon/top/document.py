"""An object of a monitor's JSON: text can be printed, and what is missing or of another type is unknown."""

from __future__ import annotations

from math import isfinite
from typing import Any

from carbonmon.core.plain_text import plain

LARGEST = 1e30
"""Above every number of a run; a larger one is none."""

LONGEST = 300
"""Characters of a text: the rest is cut."""


class Document:
    """Who sends it is not trusted: a monitor of another version, or another program."""

    def __init__(self, values: Any) -> None:
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def values(self) -> dict[str, Any]:
        """The fields as they were sent."""
        return self._values

    def number(self, key: str) -> float | None:
        return _number(self._values.get(key))

    def flag(self, key: str) -> bool | None:
        found = self._values.get(key)
        return found if isinstance(found, bool) else None

    def text(self, key: str) -> str:
        """A text in one line of printable characters; "" for none."""
        found = self._values.get(key)
        return plain(found[:LONGEST]) if isinstance(found, str) else ""

    def raw_text(self, key: str) -> str:
        """A text as it was sent, to be compared and sent back; it must not be printed."""
        found = self._values.get(key)
        return found if isinstance(found, str) else ""

    def part(self, key: str) -> Document:
        return Document(self._values.get(key))

    def parts(self, key: str) -> list[Document]:
        return [Document(each) for each in self._list(key) if isinstance(each, dict)]

    def texts(self, key: str) -> list[str]:
        return [plain(each[:LONGEST]) for each in self._list(key) if isinstance(each, str)]

    def numbers(self, key: str) -> list[float | None]:
        return list(map(_number, self._list(key)))

    def _list(self, key: str) -> list[Any]:
        found = self._values.get(key)
        return found if isinstance(found, list) else []


def _number(found: Any) -> float | None:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return None
    return float(found) if abs(found) <= LARGEST and isfinite(found) else None
