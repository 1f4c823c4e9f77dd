"""The energy of a run over time: stretches between the rows of its series, which add up to its summary.

The energy of a row is taken as drawn evenly. Rows of minutes end with the minutes of the clock, as the grids'
figures do; over an outage of the monitor nothing more is known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import known_time
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.series import read_lines
from carbonmon.runs.series_rows import SeriesRow

Key = tuple[str, str]
"""A phase and a component."""

ROUNDING_J = 0.001
"""A row of the series is rounded to so many joules; a larger difference is no rounding."""


class Stretch(NamedTuple):
    """The energy between two moments (Unix seconds), and the intensity that it was charged with live."""

    start_s: float
    end_s: float
    energy_j: Mapping[Key, float]
    live_g_per_kwh: float


def read_stretches(
    folder: Path, summary: Mapping[str, Any], end_s: float | None
) -> tuple[list[Stretch], list[str]]:
    """The stretches of a run between its start, the rows of its series, and the totals of its summary.

    `end_s` is the time of the summary's totals. The remarks say what is missing. Raises RunFileError where
    the files do not belong together.
    """
    carbon, final = summary["carbon"], _final(summary)
    if summary["energy"]["total_j"] is None:
        raise RunFileError(f"{folder}: nothing is known of the run's energy: no sensor gave a reading")
    found = _Stretches(folder, summary, all(component for _, component in final))
    for _, rows in read_lines(folder):
        found.add(rows)
    found.close()
    remarks = []
    if found.damaged:
        remarks.append(f"{found.damaged} damaged lines of the series are left out")
    rest = {key: final.get(key, 0.0) - found.sums.get(key, 0.0) for key in {**found.sums, **final}}
    rounding_j = ROUNDING_J * max(1, len(found.rows))
    if any(joules < -rounding_j for joules in rest.values()):
        surplus_j = -sum(joules for joules in rest.values() if joules < 0)
        raise RunFileError(
            f"{folder}: the series holds {surplus_j:.3f} J more than the summary: they are not of the same "
            "time; finish the run first, or give the folder as its monitor left it"
        )
    stretches = found.stretches
    if stretches and all(joules <= rounding_j for joules in rest.values()):
        last = stretches.pop()
        drawn = {key: last.energy_j.get(key, 0.0) + joules for key, joules in rest.items()}
        stretches.append(last._replace(energy_j=drawn))
    else:
        live_g_per_kwh = _live(
            rest, carbon["emissions_g"] - found.grams, carbon["pue"], found.stated_g_per_kwh
        )
        tail_s = found.at_s if found.at_s < math.inf else end_s or 0.0
        begin_s, until_s = found.hole or (tail_s, end_s or tail_s)
        stretches.append(Stretch(begin_s, max(begin_s, until_s), rest, live_g_per_kwh))
        stretches.sort(key=lambda stretch: stretch.end_s)
    if not found.rows:
        remarks.append("the series is empty: all energy is taken to be drawn evenly from start to end")
    lacking_j = summary["energy"]["total_j"] - sum(final.values())
    if abs(lacking_j) > max(10 * ROUNDING_J, 1e-6 * summary["energy"]["total_j"]):
        remarks.append(f"{lacking_j:.3f} J of the total are in no phase, and are not settled")
    return stretches, remarks


class _Stretches:
    """Rows in, stretches out: those of the same time together. `at_s` is how far they have come.

    `hole` is the time in which lines are damaged: what the rows lack is taken to be drawn there.
    """

    def __init__(self, folder: Path, summary: Mapping[str, Any], has_components: bool) -> None:
        self.stretches: list[Stretch] = []
        self.sums: dict[Key, float] = {}
        self.rows: set[tuple[str, str, str]] = set()
        self.grams = 0.0
        self.damaged = 0
        self.hole: tuple[float, float] | None = None
        self._folder = folder
        self._pue = summary["carbon"]["pue"]
        self.stated_g_per_kwh = summary["carbon"]["intensity"]["mean_g_per_kwh"] or 0.0
        self._components = {device["id"]: device["component"] for device in summary["energy"]["devices"]}
        self._has_components = has_components
        start_s = known_time(summary["run"]["started_at"])
        self._start_s = self.at_s = start_s if start_s is not None else math.inf
        self._before_s = self.at_s
        self._span: tuple[float, float] | None = None
        self._drawn: dict[Key, float] = {}
        self._grams = 0.0
        self._is_damaged = False

    def add(self, rows: Sequence[SeriesRow] | None) -> None:
        """A line's rows, None for a damaged one."""
        if rows is None:
            self.damaged += 1
            self._is_damaged = True
            return
        for row in rows:
            component = self._components.get(row.device)
            if component is None:
                raise RunFileError(
                    f"{self._folder}: the series has {row.device!r:.60}, and the summary does not know it"
                )
            if self._start_s is math.inf:
                self._start_s = self.at_s = self._before_s = row.at_s - row.duration_s
            at_s = max(self._start_s, row.at_s)
            if at_s != self.at_s:
                self._before_s, self.at_s = self.at_s, at_s
            begin_s = max(self._start_s, min(self._before_s, at_s - row.duration_s))
            if self._span != (begin_s, at_s):
                self.close()
                self._span = begin_s, at_s
            if self._is_damaged:
                self._is_damaged = False
                hole_s = begin_s if self.hole is None else self.hole[0]
                self.hole = hole_s, at_s
            key = row.phase, component if self._has_components else ""
            self.rows.add(row.key)
            self.sums[key] = self.sums.get(key, 0.0) + row.energy_j
            self._drawn[key] = self._drawn.get(key, 0.0) + row.energy_j
            self.grams += row.emissions_g
            self._grams += row.emissions_g
            self.stated_g_per_kwh = row.intensity_g_per_kwh

    def close(self) -> None:
        """The stretch that is open is complete."""
        if self._span is not None:
            live_g_per_kwh = _live(self._drawn, self._grams, self._pue, self.stated_g_per_kwh)
            self.stretches.append(Stretch(*self._span, self._drawn, live_g_per_kwh))
        self._span, self._drawn, self._grams = None, {}, 0.0


def _final(summary: Mapping[str, Any]) -> Counter[Key]:
    """Joules by phase and component; with "" for the component where an older summary does not have it."""
    phases = summary["energy"]["phases"]
    has_components = all("components" in phase for phase in phases.values())
    final: Counter[Key] = Counter()
    for name, phase in phases.items():
        parts = phase["components"] if has_components else {"": phase}
        for component, part in parts.items():
            final[name, component] += part["energy_j"] or 0
    return final


def _live(drawn: Mapping[Key, float], charged_g: float, pue_ratio: float, stated_g_per_kwh: float) -> float:
    """The figure that a stretch was charged with; the stated one where there is too little energy to know."""
    drawn_j = sum(drawn.values())
    if drawn_j < 1.0 or pue_ratio <= 0:
        return stated_g_per_kwh
    return max(0.0, charged_g / (drawn_j / JOULES_PER_KWH * pue_ratio))
