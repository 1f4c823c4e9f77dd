"""What a run drew, sample by sample, becomes the rows of its series: a pure fold, no clock, file or thread.

A row is about one device in one phase by one method, since the rows before. It closes when a sample passes a
multiple of the period on the wall clock, so that the rows of all devices, and nearly those of all nodes, are
about the same time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

from carbonmon.core.footprint import Rates
from carbonmon.core.model import (
    METHODS,
    PEAK_WINDOW_S,
    Component,
    Device,
    Intensity,
    IntensityKind,
    Method,
)
from carbonmon.core.phases import Weights
from carbonmon.core.records import NamedTuple
from carbonmon.runs import layout

Key = tuple[str, str, Method]
"""A phase, a device's id, a method."""

LONG_SAMPLE = 0.75
"""A sample that took so much of a period closes its rows: its edge may miss the multiple by a little."""

PARTS_KEPT = 12_000
"""So many parts wait for the thread that writes: 12 devices for 16 min at a sample a second, some 3 MB. What
is forgotten beyond them is found in the totals again: energy is not lost, its extremes are."""


class Moment(NamedTuple):
    """A sample of the node: its number, and its Unix time."""

    sample: int
    at_s: float


Part = tuple[Moment, Device, float, float, float, float, Weights, Rates]
"""A run's part of one interval of a device: the sample that settled it, the device, seconds in which its
energy is known, joules by counter, by power and by tdp, the phases' parts of it, what a joule costs. A plain
tuple, because one is made for each device at each tick."""

Parts = deque[Part]


Line = tuple[Key, float, float, str]
"""A row that is closed, as it is written: what it is about, its joules, its grams, its line. A plain tuple,
because a run begins with a row of each device each second."""


class SeriesRow(NamedTuple):
    """A row of series.jsonl; the fields are its columns.

    `at_s` is the Unix time at which it ends. `duration_s` are seconds of the device's known power in this
    phase: `energy_j` divided by them is `power_w`. `power_min_w` and `power_max_w` are over the windows of at
    least `PEAK_WINDOW_S` that end in the row, None without one. `emissions_g` include the PUE. The intensity
    is that in force at its end. `component` is None where an older file does not say it.
    """

    at_s: float
    duration_s: float
    device: str
    component: Component | None
    phase: str
    method: Method
    energy_j: float
    power_w: float | None
    power_min_w: float | None
    power_max_w: float | None
    emissions_g: float
    intensity_g_per_kwh: float
    intensity_kind: IntensityKind

    @property
    def key(self) -> Key:
        return self.phase, self.device, self.method


class OpenRow:
    """A row that goes on; after it has closed it is the next one about the same."""

    __slots__ = (
        "duration_s",
        "emissions_g",
        "energy_j",
        "high_w",
        "intensity",
        "is_open",
        "key",
        "low_w",
        "names",
    )

    def __init__(self, key: Key, component: Component, intensity: Intensity) -> None:
        phase, device_id, method = key
        self.key = key
        self.names = layout.series_names(device_id, component, phase, method)
        self.intensity = intensity
        self.is_open = False
        self.duration_s = self.energy_j = self.emissions_g = 0.0
        self.low_w: float | None = None
        self.high_w: float | None = None

    def go_on(self, joules: float, grams: float, seconds: float, mean_w: float | None) -> None:
        """Add a part; `mean_w` is the mean power of a window that it ends."""
        self.energy_j += joules
        self.emissions_g += grams
        self.duration_s += seconds
        if mean_w is None:
            return
        if self.low_w is None or self.high_w is None:
            self.low_w = self.high_w = mean_w
        elif mean_w < self.low_w:
            self.low_w = mean_w
        elif mean_w > self.high_w:
            self.high_w = mean_w

    def closed(self, at: str, charged: str) -> Line | None:
        """The row as it ends at a time, with figures as they are written; None if it holds nothing."""
        self.is_open = False
        seconds, joules, low_w, high_w = self.duration_s, self.energy_j, self.low_w, self.high_w
        mean_w = joules / seconds if seconds > 0.0 else None
        if mean_w == math.inf:  # the time is too short to divide by
            mean_w = None
        mean = "null" if mean_w is None else repr(round(mean_w, 2))
        low = mean if low_w == mean_w else "null" if low_w is None else repr(round(low_w, 2))
        high = low if high_w == low_w else "null" if high_w is None else repr(round(high_w, 2))
        seconds, joules, grams = round(seconds, 3), round(joules, 3), round(self.emissions_g, 9)
        if not joules and not seconds:
            return None
        line = layout.series_line(at, seconds, self.names, joules, mean, low, high, grams, charged)
        return self.key, joules, grams, line


class SeriesFold:
    """Parts in, lines out. `rows` are all that there were, open or not. `at_s` is when the newest line ends:
    the wall clock may be set back, time in the series never is."""

    def __init__(self) -> None:
        self.rows: dict[Key, OpenRow] = {}
        self.at_s = 0.0
        self._open: list[OpenRow] = []
        self._moment: Moment | None = None
        self._before_s: float | None = None
        self._longest_s = 0.0
        self._windows: dict[str, tuple[float, float]] = {}
        self._methods: dict[str, Method] = {}

    def take(self, parts: Parts, before: int, period_s: float) -> tuple[list[Line], float]:
        """Take the parts of the samples before number `before`, and leave the others.

        Returns the lines of the rows that close, but not those that close with the last sample, and since
        when (Unix time) the parts are, infinity without any.
        """
        lines: list[Line] = []
        since_s = math.inf
        moment = self._moment
        while parts:
            part = parts.popleft()
            now = part[0]
            if now is not moment:
                if now.sample >= before:
                    parts.appendleft(part)
                    break
                if moment is None or now.sample != moment.sample:
                    lines += self.end_sample(period_s)
                    self._moment = moment = now
            begin_s = now.at_s - part[2]
            if begin_s < since_s:
                since_s = begin_s
            self._add(part)
        return lines, since_s

    def end_sample(self, period_s: float) -> list[Line]:
        """No more parts of this sample will come: the rows that close with it."""
        moment, self._moment = self._moment, None
        if moment is None:
            return []
        at_s = moment.at_s
        before_s = at_s - self._longest_s if self._before_s is None else self._before_s
        self._before_s = at_s
        if at_s // period_s == before_s // period_s and at_s - before_s < LONG_SAMPLE * period_s:
            return []
        return self.close(at_s)

    def close(self, at_s: float) -> list[Line]:
        """All open rows, as they end at a Unix time."""
        rows, self._open = self._open, []
        at_s = max(self.at_s, round(at_s, 3))
        at = layout.number(at_s)
        intensity: Intensity | None = None
        charged = ""
        lines = []
        for row in rows:
            if row.intensity is not intensity:
                intensity = row.intensity
                charged = layout.series_charged(intensity.g_per_kwh, intensity.kind)
            line = row.closed(at, charged)
            if line is not None:
                lines.append(line)
        if lines:
            self.at_s = at_s
        return lines

    def _add(self, part: Part) -> None:
        """Add a part to the open rows of its device."""
        _, device, observed_s, counter_j, power_j, tdp_j, phases, rates = part
        device_id = device.id
        whole_j = counter_j + power_j + tdp_j
        if observed_s <= 0.0 and not whole_j:
            self._windows.pop(device_id, None)
            return
        if observed_s > self._longest_s:
            self._longest_s = observed_s
        if observed_s >= PEAK_WINDOW_S and not self._windows:
            mean_w: float | None = whole_j / observed_s
        else:
            mean_w = self._windowed(device_id, whole_j, observed_s)
        if whole_j and whole_j == counter_j:  # nearly always
            by_method: Iterable[tuple[Method, float, float]] = (("counter", whole_j, observed_s),)
        else:
            by_method = self._by_method(part, whole_j)
        intensity, grams = rates.intensity, rates.grams
        for method, joules, seconds in by_method:
            self._methods[device_id] = method
            for phase, ratio in phases:
                key = phase, device_id, method
                row = self.rows.get(key)
                if row is None:
                    row = self.rows[key] = OpenRow(key, device.component, intensity)
                part_j = joules * ratio
                if row.is_open:
                    row.go_on(part_j, part_j * grams, seconds * ratio, mean_w)
                else:
                    row.is_open = True
                    row.energy_j, row.emissions_g, row.duration_s = part_j, part_j * grams, seconds * ratio
                    row.low_w = row.high_w = mean_w
                    self._open.append(row)
                row.intensity = intensity

    def _by_method(self, part: Part, whole_j: float) -> Iterable[tuple[Method, float, float]]:
        """(method, joules, seconds) of a part; one of 0 J is by the method that was known last."""
        _, device, seconds, counter_j, power_j, tdp_j, _, _ = part
        if whole_j:
            found = zip(METHODS, (counter_j, power_j, tdp_j), strict=True)
            return [(method, part_j, seconds * (part_j / whole_j)) for method, part_j in found if part_j]
        if device.methods:
            return [(self._methods.get(device.id, device.methods[0]), 0.0, seconds)]
        return []

    def _windowed(self, device_id: str, joules: float, seconds: float) -> float | None:
        """The mean power (W) of a window that this part ends; None while it is too short to be true."""
        if device_id in self._windows:
            before_s, before_j = self._windows.pop(device_id)
            seconds, joules = seconds + before_s, joules + before_j
        if seconds < PEAK_WINDOW_S:
            self._windows[device_id] = seconds, joules
            return None
        return joules / seconds


def time_shares(joules: Mapping[Key, float], seconds: float) -> Iterable[tuple[Key, float, float]]:
    """(key, joules, seconds) of what is known only as sums: a device's time is split like its energy."""
    of_device: dict[str, float] = {}
    for (_, device_id, _), part_j in joules.items():
        of_device[device_id] = of_device.get(device_id, 0.0) + part_j
    for key, part_j in joules.items():
        yield key, part_j, seconds * part_j / of_device[key[1]]
