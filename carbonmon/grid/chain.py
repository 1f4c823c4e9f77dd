"""Which figure is in force when there are several sources over time, and the mean of it over a stretch; pure.

The sources are gone through in the order of the user's preference: the figure in force, then the last figure
while it is at most 2 h old (`stale`), and only then the next source; at last the annual figure. A source that
is silent for a while keeps its place on purpose: another one may speak of another area, of lifecycle or of
direct emissions, of production or of consumption. What differs between two sources is often more than what a
grid changes in an hour, and each change of source would be a step in the run's intensity that no grid made.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from carbonmon.core.model import Intensity, IntensityKind
from carbonmon.core.timeline import Slot, Timeline

STALE_S = 7200.0
"""How long after its slot has ended a figure may stand for what nobody tells."""


class Link(NamedTuple):
    """A source's figures over time in gCO2e/kWh, and what they are called.

    Until a slot has ended for `lag_s` its figure counts as in force, if no later one is known.
    """

    timeline: Timeline
    source: str
    zone: str = ""
    basis: str | None = None
    accounting: str | None = None
    lag_s: float = 0.0

    @property
    def stale_s(self) -> float:
        """For how many seconds after its slot a figure serves at all."""
        return max(STALE_S, self.lag_s)


class Choice(NamedTuple):
    """What is in force from `since_s` to `until_s`; `place` is the source's, behind them all the table's."""

    intensity: Intensity
    place: int
    since_s: float
    until_s: float


class Chain:
    """Sources, best first, over the annual figure `last`. Immutable but for a memory of its last answer.

    `why_last` is noted where nothing but the annual figure is left.
    """

    __slots__ = ("_latest", "_why_last", "last", "links")

    def __init__(self, links: Sequence[Link], last: Intensity, why_last: str) -> None:
        self.links = tuple(links)
        self.last = last
        self._why_last = why_last
        self._latest: Choice | None = None

    def at(self, wall_s: float) -> Choice:
        """What is in force at a Unix time."""
        latest = self._latest
        if latest is None or not latest.since_s <= wall_s < latest.until_s:
            latest = self._latest = self._choose(wall_s)
        return latest

    def mean(self, start_s: float, end_s: float) -> Intensity:
        """The mean over a stretch of Unix time, named after what was in force for most of it.

        So a long silence that was charged with the annual figure does not count as live for what was live
        at its end.
        """
        choice = self.at(start_s)
        if end_s <= choice.until_s:
            return choice.intensity
        at_s = start_s
        total = low = high = 0.0
        held_s: dict[tuple[str, str, str], float] = {}
        newest: dict[tuple[str, str, str], Intensity] = {}
        while True:
            until_s = min(choice.until_s, end_s)
            seconds = until_s - at_s
            now = choice.intensity
            total += now.g_per_kwh * seconds
            low += now.low_g_per_kwh * seconds
            high += now.high_g_per_kwh * seconds
            origin = now.source, now.zone, now.kind
            held_s[origin] = held_s.get(origin, 0.0) + seconds
            newest[origin] = now
            if until_s >= end_s:
                break
            at_s = until_s
            choice = self._choose(at_s)
        most = newest.pop(max(held_s, key=held_s.__getitem__))
        others = dict.fromkeys(map(_name, newest.values()))
        notes = [most.note, f"in part {', '.join(others)}" if others else ""]
        seconds = end_s - start_s
        return most._replace(
            g_per_kwh=total / seconds,
            low_g_per_kwh=low / seconds,
            high_g_per_kwh=high / seconds,
            note="; ".join(filter(None, notes)),
        )

    def fresh_until(self, place: int, wall_s: float) -> float:
        """Until when a source's figure is in force if no other comes; not later than `wall_s` if none is."""
        link = self.links[place]
        slot = link.timeline.before(wall_s)
        if slot is None:
            return -inf
        while True:
            until_s = slot.end_s + link.lag_s
            later = link.timeline.after(slot.start_s)
            if later is None or later.start_s > until_s:
                return until_s
            slot = later

    def _choose(self, wall_s: float) -> Choice:
        since_s, until_s = -inf, inf
        chosen: tuple[int, Slot, bool] | None = None
        for place, link in enumerate(self.links):
            slot, later = link.timeline.before(wall_s), link.timeline.after(wall_s)
            bounds = (
                [] if slot is None else [slot.start_s, slot.end_s + link.lag_s, slot.end_s + link.stale_s]
            )
            if later is not None:
                bounds.append(later.start_s)
            for bound_s in bounds:
                if bound_s <= wall_s:
                    since_s = max(since_s, bound_s)
                else:
                    until_s = min(until_s, bound_s)
            if slot is not None and wall_s < slot.end_s + link.stale_s:
                chosen = place, slot, wall_s >= slot.end_s + link.lag_s
                break
        if chosen is None:
            note = "; ".join(filter(None, (self._why_last, self.last.note)))
            return Choice(self.last._replace(note=note), len(self.links), since_s, until_s)
        return Choice(self._intensity(*chosen), chosen[0], since_s, until_s)

    def _intensity(self, place: int, slot: Slot, is_stale: bool) -> Intensity:
        link = self.links[place]
        silent = [other.source for other in self.links[:place]]
        notes = [
            slot.note,
            "its last figure: no newer one is known" if is_stale else "",
            f"{' and '.join(silent)} had no figure" if silent else "",
        ]
        return Intensity(
            slot.value,
            slot.value,
            slot.value,
            link.zone,
            link.source,
            "stale" if is_stale else _KINDS.get(slot.kind, "live"),
            link.basis,
            link.accounting,
            timestamp_s=slot.start_s,
            note="; ".join(filter(None, notes)),
        )


_KINDS: dict[str, IntensityKind] = {"fixed": "fixed", "forecast": "forecast"}


def _name(intensity: Intensity) -> str:
    return f"{intensity.kind} ({intensity.source})"
