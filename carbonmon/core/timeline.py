"""A quantity that changes over time in slots, as grids and tariffs publish it; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite

from carbonmon.core.records import NamedTuple

HIGHEST_G_PER_KWH = 5000.0
"""No grid comes near in gCO2e/kWh: a larger figure is a mistake."""


class Slot(NamedTuple):
    """One value for the half-open time from `start_s` to `end_s` (Unix seconds), in the source's unit.

    `kind` is `live` for what was observed, `forecast` for what was predicted, `fixed` for a user's own,
    `table` for the mean of a year.
    """

    start_s: float
    end_s: float
    value: float
    kind: str = "live"
    note: str = ""


class Timeline:
    """Slots in the order of time that do not overlap; there may be gaps between them. Immutable."""

    __slots__ = ("_starts", "slots")

    def __init__(self, slots: Iterable[Slot] = ()) -> None:
        """Raises ValueError if the slots are not sorted, overlap, or have no length or no end."""
        self.slots: Sequence[Slot] = tuple(slots)
        self._starts = [slot.start_s for slot in self.slots]
        before_s = float("-inf")
        for slot in self.slots:
            if not (
                before_s <= slot.start_s < slot.end_s and isfinite(slot.start_s) and isfinite(slot.end_s)
            ):
                raise ValueError(f"the slot at {slot.start_s:.0f} s is out of order, overlaps or is empty")
            before_s = slot.end_s

    def at(self, wall_s: float) -> Slot | None:
        """The slot in force at a Unix time, None in a gap."""
        slot = self.before(wall_s)
        return slot if slot is not None and wall_s < slot.end_s else None

    def before(self, wall_s: float) -> Slot | None:
        """The last slot that began at a Unix time or before it, which may have ended; None without one."""
        position = bisect_right(self._starts, wall_s)
        return self.slots[position - 1] if position else None

    def after(self, wall_s: float) -> Slot | None:
        """The first slot that begins later than a Unix time; None without one."""
        position = bisect_right(self._starts, wall_s)
        return self.slots[position] if position < len(self.slots) else None

    def pieces(self, start_s: float, end_s: float) -> Iterator[tuple[float, float, Slot | None]]:
        """The stretch cut at the bounds of the slots: (start_s, end_s, slot), None as the slot of a gap."""
        position = max(0, bisect_right(self._starts, start_s) - 1)
        at_s = start_s
        while at_s < end_s and position < len(self.slots):
            slot = self.slots[position]
            position += 1
            if slot.start_s >= end_s:
                break
            if slot.end_s <= at_s:
                continue
            if slot.start_s > at_s:
                yield at_s, slot.start_s, None
                at_s = slot.start_s
            until_s = min(slot.end_s, end_s)
            yield at_s, until_s, slot
            at_s = until_s
        if at_s < end_s:
            yield at_s, end_s, None

    def gaps(self, start_s: float, end_s: float) -> list[tuple[float, float]]:
        """The parts of the stretch that no slot covers, as (start_s, end_s)."""
        return [(from_s, to_s) for from_s, to_s, slot in self.pieces(start_s, end_s) if slot is None]

    def mean(self, start_s: float, end_s: float, otherwise: Callable[[float, float], float]) -> float:
        """The mean over a stretch of time; `otherwise(start_s, end_s)` gives it for each gap."""
        if end_s <= start_s:
            slot = self.at(start_s)
            return otherwise(start_s, start_s) if slot is None else slot.value
        total = 0.0
        for from_s, to_s, slot in self.pieces(start_s, end_s):
            value = otherwise(from_s, to_s) if slot is None else slot.value
            if from_s == start_s and to_s == end_s:
                return value
            total += value * (to_s - from_s)
        return total / (end_s - start_s)

    def merged(self, newer: Iterable[Slot], since_s: float = float("-inf")) -> Timeline:
        """With newer slots instead of what they overlap, without slots that ended before `since_s`.

        Raises ValueError if the newer ones overlap one another.
        """
        fresh = Timeline(sorted(set(newer)))
        kept = list(fresh.slots)
        for slot in self.slots:
            kept += [
                slot._replace(start_s=from_s, end_s=to_s)
                for from_s, to_s in fresh.gaps(slot.start_s, slot.end_s)
            ]
        return Timeline(slot for slot in sorted(kept) if slot.end_s > since_s)
