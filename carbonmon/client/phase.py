"""`Phase`, a stretch of a run that training code names: it is in the summary, and its energy is told live.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carbonmon.client.run import Run


ASKED_AGAIN_S = 0.1
"""Least time between two questions for the same figures."""


class Phase:
    """One phase of a run; may be entered several times. Its figures are those of the last time.

    They count all that the run drew on this node from its begin to its end, nested phases included; the
    summary counts a joule in the innermost phase only. Until the next reading of each counter, up to a second
    after the end, the newest part is reckoned from the last power (`is_settled`).
    """

    __slots__ = ("__weakref__", "_asked_s", "_found", "_last", "_open", "_run", "name")

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self.name = name
        self._open: list[int] = []
        self._last: int | None = None
        self._found: dict[str, Any] = {}
        self._asked_s = -math.inf

    @property
    def energy_j(self) -> float:
        """Joules: the best known now, NaN where nothing is known."""
        return self._figure("energy_j")

    @property
    def energy_low_j(self) -> float:
        """The least that was drawn within its edges, in joules; the sensors' own error is not in it."""
        return self._figure("low_j")

    @property
    def energy_high_j(self) -> float:
        """The most that was drawn within its edges, in joules."""
        return self._figure("high_j")

    @property
    def duration_s(self) -> float:
        """Seconds from its begin to its end, or until now; NaN where nothing is known."""
        return self._figure("duration_s")

    @property
    def is_interpolated(self) -> bool:
        """Whether more than 5 % of the joules are so near to an edge that they may be on its other side.

        The phase is then short against the refresh of a counter. True where nothing is known.
        """
        self._ask()
        return bool(self._found.get("is_interpolated", True))

    @property
    def is_settled(self) -> bool:
        """Whether the figures are final: it has ended, and each counter was read since."""
        self._ask()
        return bool(self._found.get("is_settled", False))

    def __enter__(self) -> Phase:
        self._run.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._run.exit(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy has the name, and the figures of its own times in it."""
        return Phase, (self._run, self.name)

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be half gone
            if self._last is not None:
                self._run.forget(self._last)

    def begin(self, window: int | None) -> None:
        """It was entered; the monitor knows this time by a number, None if it could not be told."""
        if self._last is not None and self._last not in self._open:
            self._run.forget(self._last)
        self._last, self._found = window, {}
        self._open.append(-1 if window is None else window)

    def leave(self) -> int | None:
        """It is left: the number of the time that ends."""
        window = self._open.pop() if self._open else -1
        if window >= 0 and window != self._last:  # it was entered again in itself
            self._run.forget(self._last)
            self._last, self._found = window, {}
        self._asked_s = -math.inf
        return None if window < 0 else window

    @property
    def window(self) -> int | None:
        """The number of its last time."""
        return self._last

    def take(self, found: dict[str, Any]) -> None:
        """What the monitor knows of its last time."""
        self._found = found

    def _ask(self) -> None:
        now_s = time.monotonic()
        if (
            self._last is not None
            and not self._found.get("is_settled")
            and now_s - self._asked_s >= ASKED_AGAIN_S
        ):
            self._asked_s = now_s
            found = self._run.window(self._last)
            if found:
                self._found = found

    def _figure(self, name: str) -> float:
        self._ask()
        value = self._found.get(name)
        return math.nan if value is None else float(value)
