"""Which figure of several sources is in force at a time, and the mean over a stretch of time; pure.

The sources are tried in the user's order: the figure in force, then the last figure while it is at most 2 h
old (`stale`), and only then the next source; at the end the annual figure. A source without new figures is
used so long on purpose: another one may cover another area, lifecycle or direct emissions, production or
consumption. Two sources often differ by more than a grid changes in an hour, and each change of source would
be a step in the run's intensity that the grid did not make.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from carbonmon.core.model import Intensity, IntensityKind
from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import Slot, Timeline

STALE_S = 7200.0
"""How long after its slot a figure may be used where no newer one is known."""


class SourceFigures(NamedTuple):
    """A source's figures over time in gCO2e/kWh, with its name, zone, basis and accounting.

    Until `lag_s` after the end of a slot its figure counts as in force, if no later one is known.
    """

    timeline: Timeline
    source: str
    zone: str = ""
    basis: str | None = None
    accounting: str | None = None
    lag_s: float = 0.0

    @property
    def stale_s(self) -> float:
        """For how many seconds after its slot a figure may be used."""
        return max(STALE_S, self.lag_s)


class FigureInForce(NamedTuple):
    """The figure from `since_s` to `until_s`; `source_index` of the annual one is the number of sources."""

    intensity: Intensity
    source_index: int
    since_s: float
    until_s: float


class SourceChain:
    """Sources, best first, and the annual figure `default`. Immutable, apart from a cache of the last answer.

    `why_default` is the note where the annual figure is used.
    """

    __slots__ = ("_latest", "_why_default", "default", "sources")

    def __init__(self, sources: Sequence[SourceFigures], default: Intensity, why_default: str) -> None:
        self.sources = tuple(sources)
        self.default = default
        self._why_default = why_default
        self._latest: FigureInForce | None = None

    def at(self, wall_s: float) -> FigureInForce:
        """What is in force at a Unix time."""
        latest = self._latest
        if latest is None or not latest.since_s <= wall_s < latest.until_s:
            latest = self._latest = self._choose(wall_s)
        return latest

    def mean(self, start_s: float, end_s: float) -> Intensity:
        """The mean over a stretch of Unix time, with the origin that was in force for most of it.

        So a long gap that was charged with the annual figure does not count as live because its end was live.
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

    def fresh_until(self, index: int, wall_s: float) -> float:
        """Until when a source's figure is in force without newer ones; not after `wall_s` if none is."""
        figures = self.sources[index]
        slot = figures.timeline.before(wall_s)
        if slot is None:
            return -inf
        while True:
            until_s = slot.end_s + figures.lag_s
            later = figures.timeline.after(slot.start_s)
            if later is None or later.start_s > until_s:
                return until_s
            slot = later

    def _choose(self, wall_s: float) -> FigureInForce:
        since_s, until_s = -inf, inf
        chosen: tuple[int, Slot, bool] | None = None
        for index, figures in enumerate(self.sources):
            slot, later = figures.timeline.before(wall_s), figures.timeline.after(wall_s)
            bounds = []
            if slot is not None:
                bounds = [slot.start_s, slot.end_s + figures.lag_s, slot.end_s + figures.stale_s]
            if later is not None:
                bounds.append(later.start_s)
            for bound_s in bounds:
                if bound_s <= wall_s:
                    since_s = max(since_s, bound_s)
                else:
                    until_s = min(until_s, bound_s)
            if slot is not None and wall_s < slot.end_s + figures.stale_s:
                chosen = index, slot, wall_s >= slot.end_s + figures.lag_s
                break
        if chosen is None:
            note = "; ".join(filter(None, (self._why_default, self.default.note)))
            return FigureInForce(self.default._replace(note=note), len(self.sources), since_s, until_s)
        return FigureInForce(self._intensity(*chosen), chosen[0], since_s, until_s)

    def _intensity(self, index: int, slot: Slot, is_stale: bool) -> Intensity:
        figures = self.sources[index]
        without = [other.source for other in self.sources[:index]]
        notes = [
            slot.note,
            "its default figure: no newer one is known" if is_stale else "",
            f"{' and '.join(without)} had no figure" if without else "",
        ]
        return Intensity(
            slot.value,
            slot.value,
            slot.value,
            figures.zone,
            figures.source,
            "stale" if is_stale else _KINDS.get(slot.kind, "live"),
            figures.basis,
            figures.accounting,
            timestamp_s=slot.start_s,
            note="; ".join(filter(None, notes)),
        )


_KINDS: dict[str, IntensityKind] = {"fixed": "fixed", "forecast": "forecast"}


def _name(intensity: Intensity) -> str:
    return f"{intensity.kind} ({intensity.source})"
