"""Settles a run whose region was wrong: its energy at the annual mean of the right one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.analysis.settle import Origin
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.grid.regions import resolve

MOST_FORMER = 20
"""So many earlier results are kept in a summary, the newest of them."""

_FORMER_KEYS = ("emissions_g", "low_g", "high_g", "settled_at", "by_uid", "region", "intensity")


class FromRegion:
    """The annual mean of a region, whatever the time. Raises `ConfigError` for a region that is unknown."""

    def __init__(self, text: str) -> None:
        region = resolve(text)
        now = region.intensity
        self.place = ":".join(region.cloud) if region.cloud else region.zone
        self._value = now.g_per_kwh
        self._origin = Origin(now.zone, now.source, now.basis, now.accounting, now.year)
        self._remarks = [now.note] if now.note else []

    def known(self, start_s: float, end_s: float) -> tuple[Timeline, Mapping[str, Origin], Sequence[str]]:
        """The mean for a stretch of Unix time, its origin, and remarks."""
        slot = Slot(start_s - 1.0, end_s + 1.0, self._value, "table")
        return Timeline([slot]), {"": self._origin}, self._remarks


def with_history(settled: Mapping[str, Any], summary: Mapping[str, Any], place: str | None) -> dict[str, Any]:
    """What is settled, with who did it, the region that it corrects, and the results of before.

    `place` is the right region, None where the region was not in question. The live figure is in `carbon`.
    """
    before = summary.get("settled")
    former = [] if before is None else list(before.get("former") or ())
    if before is not None:
        former.append({key: before.get(key) for key in _FORMER_KEYS})
    region = None if place is None else {"given": place, "former": summary["carbon"]["intensity"]["zone"]}
    return {**settled, "by_uid": os.geteuid(), "region": region, "former": former[-MOST_FORMER:]}
