"""One test for a whole table: it runs for each row and reports every row that fails."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80


def for_each_row(names: str | Sequence[str], rows: Sequence[Any]) -> Callable[[Callable[..., None]], Any]:
    """Like `pytest.mark.parametrize`, with the same arguments, but one test with a subtest for each row.

    For rows that need no machine of their own: all rows share the test's fixtures. A row that fails is
    named with its values, and the rows behind it run. A table without rows is an error.
    """
    several = not isinstance(names, str)
    columns = tuple(names) if several else (names,)
    if not rows:
        raise ValueError(f"no rows for {', '.join(columns)}")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        # Pytest reads the fixtures from the signature: those of the test, and `subtests` instead of the row.
        given = inspect.signature(test)
        fixtures = [each for name, each in given.parameters.items() if name not in columns]

        @functools.wraps(test)
        def looped(subtests: pytest.Subtests, **fixture_values: Any) -> None:
            for row in rows:
                values = dict(zip(columns, row if several else (row,), strict=True))
                shown = ", ".join(f"{name}={SHORT.repr(value)}" for name, value in values.items())
                with subtests.test(shown):
                    test(**fixture_values, **values)

        own = inspect.Parameter("subtests", inspect.Parameter.KEYWORD_ONLY)
        looped.__signature__ = given.replace(parameters=[*fixtures, own])  # type: ignore[attr-defined]
        return looped

    return decorate
