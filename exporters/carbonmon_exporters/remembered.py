"""Remembers what was made of records that stay the same objects from one snapshot to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Of = TypeVar("Of")
Made = TypeVar("Made")


class Remembered(Generic[Of, Made]):
    """`make(things, *words)` for the same things and words once. For any thread.

    Things are known by identity: those of a plug-in may hold lists, which have no hash.
    """

    def __init__(self, make: Callable[..., Made], limit: int = 256) -> None:
        """At most `limit` are remembered: then all are forgotten."""
        self._make = make
        self._limit = limit
        self._known: dict[tuple[object, ...], tuple[tuple[Of, ...], Made]] = {}

    def __call__(self, things: tuple[Of, ...], *words: str) -> Made:
        key = (*map(id, things), *words)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= self._limit:
                self._known.clear()
            # The things are kept as well: so long no other has the same identity.
            known = self._known[key] = things, self._make(*things, *words)
        return known[1]
