"""Regular expressions that are compiled when they are first used: a start defines sixty and uses a dozen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from re import compile as pattern
else:

    class _Pattern:
        """What `re.compile` gives; it asks for that at the first use, which takes 0.1 to 0.5 ms."""

        def __init__(self, text: str | bytes, flags: int = 0) -> None:
            self.pattern, self._flags = text, flags

        def __getattr__(self, name: str) -> Any:
            value = getattr(re.compile(self.pattern, self._flags), name)
            setattr(self, name, value)  # the next use finds it without coming here
            return value

    pattern = _Pattern

__all__ = ("pattern",)
