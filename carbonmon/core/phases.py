"""Which phase a run is in, and when it changed: splits a stretch of time among phases; pure.

Several participants may be in different phases at once; then each phase has a weight, and the weights of
a moment add up to 1. So a joule is in one phase only, and the phases of a run add up to its total.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator

from carbonmon.core.curves import between, edge_s
from carbonmon.core.model import MAIN_PHASE, OTHER_PHASE, Curve

MAX_PHASES = 64
"""Names that a run may have beside `main`; each is a series of every metric by phase."""

MAX_CHANGES = 4096
"""How many changes are kept; an interval that began before the oldest of them is taken to have begun in
its phase. Intervals are seconds long, so this does not happen in practice."""

Weights = tuple[tuple[str, float], ...]


class Phases:
    """The phases of one run over time, in seconds of the injected clock.

    `now` are those since `since_s`: nearly each stretch of time that is split is in them as a whole.
    """

    __slots__ = (
        "_changes_s",
        "_held",
        "_names",
        "_seconds",
        "_told",
        "_weights",
        "now",
        "overflowed",
        "since_s",
    )

    def __init__(self, start_s: float, name: str = MAIN_PHASE) -> None:
        self.since_s = start_s
        self.now: Weights = ((name, 1.0),)
        self._changes_s = [start_s]
        self._weights: list[Weights] = [self.now]
        self._names: set[str] = set()
        self._told: tuple[str, ...] = (name,)
        self._held: str | None = None
        self._seconds: dict[str, float] = {MAIN_PHASE: 0.0}
        self.overflowed = False

    def restore(self, seconds: Iterable[tuple[str, float]]) -> None:
        """Add the durations (s) of an earlier monitor."""
        for name, duration_s in seconds:
            self._seconds[name] = self._seconds.get(name, 0.0) + duration_s
            self._names |= {name} - {MAIN_PHASE, OTHER_PHASE}

    def change(self, at_s: float, names: Iterable[str]) -> None:
        """From `at_s` on the run is in these phases, one for each participant; none means `main`.

        Changes come in order: one with a time before the last one gets the time of the last one. While the
        run is held in another phase, they count from the end of that on.
        """
        self._told = tuple(names)
        self._change(at_s, self._told if self._held is None else (self._held,))

    def hold(self, at_s: float, name: str | None) -> None:
        """From `at_s` on the run is in this phase, whatever its participants say; None: in theirs again."""
        self._held = name
        self._change(at_s, self._told if name is None else (name,))

    def _change(self, at_s: float, names: Iterable[str]) -> None:
        counts = Counter(self._allowed(name) for name in names) or Counter([MAIN_PHASE])
        total = sum(counts.values())
        weights = tuple((name, count / total) for name, count in counts.items())
        if weights == self.now:
            return
        at_s = max(at_s, self.since_s)
        self._add_seconds(at_s)
        self.since_s, self.now = at_s, weights
        self._changes_s.append(at_s)
        self._weights.append(weights)
        if len(self._changes_s) > MAX_CHANGES:
            half = MAX_CHANGES // 2
            del self._changes_s[:half], self._weights[:half]

    def split(self, start_s: float, end_s: float, curve: Curve | None = None) -> Weights:
        """The phases of a stretch of time, each with its part of it; the parts add up to 1.

        With a curve they are parts of what was drawn by it, else of the time.
        """
        if start_s >= self.since_s or end_s <= start_s:
            return self.now
        parts: dict[str, float] = {}
        for place, _, _, ratio in self._pieces(start_s, end_s, curve):
            for name, weight in self._weights[place]:
                parts[name] = parts.get(name, 0.0) + weight * ratio
        return tuple(parts.items()) or self.now

    def doubts(self, start_s: float, end_s: float, curve: Curve | None, refresh_s: float) -> Weights:
        """Which part of a stretch may belong to the phase before or behind, by phase; ratios of the whole.

        As in `windows.py`: around each change so many seconds as the split is exact to, and `refresh_s`.
        """
        if start_s >= self.since_s or end_s <= start_s:
            return ()
        parts: dict[str, float] = {}
        for place, begin_s, until_s, ratio in self._pieces(start_s, end_s, curve):
            edges = [at_s for at_s in (begin_s, until_s) if start_s < at_s < end_s]
            doubt_s = sum(edge_s(start_s, end_s, curve, at_s) + refresh_s for at_s in edges)
            for name, weight in self._weights[place]:
                doubt = weight * ratio * min(1.0, doubt_s / (until_s - begin_s))
                parts[name] = parts.get(name, 0.0) + doubt
        return tuple(parts.items())

    def _pieces(
        self, start_s: float, end_s: float, curve: Curve | None
    ) -> Iterator[tuple[int, float, float, float]]:
        """The pieces of a stretch between changes: the change's place, the piece's ends, its part of all."""
        changes_s = self._changes_s
        first = max(0, bisect_right(changes_s, start_s) - 1)
        whole = end_s - start_s if curve is None else between(curve, start_s, end_s)
        if whole <= 0.0:
            curve, whole = None, end_s - start_s
        for place in range(first, len(changes_s)):
            begin_s = start_s if place == first else changes_s[place]
            until_s = end_s if place + 1 == len(changes_s) else min(end_s, changes_s[place + 1])
            ratio = (until_s - begin_s if curve is None else between(curve, begin_s, until_s)) / whole
            if ratio > 0.0:
                yield place, begin_s, until_s, ratio

    def seconds(self, now_s: float) -> tuple[tuple[str, float], ...]:
        """How long the run was in each phase until now (s)."""
        durations = dict(self._seconds)
        elapsed_s = max(0.0, now_s - self.since_s)
        for name, weight in self.now:
            durations[name] = durations.get(name, 0.0) + weight * elapsed_s
        return tuple(durations.items())

    def _add_seconds(self, at_s: float) -> None:
        for name, weight in self.now:
            self._seconds[name] = self._seconds.get(name, 0.0) + weight * (at_s - self.since_s)

    def _allowed(self, name: str) -> str:
        if name in self._names or name in (MAIN_PHASE, OTHER_PHASE):
            return name
        if len(self._names) >= MAX_PHASES:
            self.overflowed = True
            return OTHER_PHASE
        self._names.add(name)
        return name
