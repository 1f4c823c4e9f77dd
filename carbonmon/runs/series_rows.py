"""What a run drew, sample by sample, becomes the rows of its series: a pure fold, no clock, file or thread.

A row is about one device in one phase by one method, since the rows before. It closes when a sample passes a
multiple of the period on the wall clock, so that the rows of all devices, and nearly those of all nodes, are
about the same time.
"""

from __future__ import annotations

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
    """A row that goes on."""

    __slots__ = ("component", "duration_s", "emissions_g", "energy_j", "high_w", "intensity", "low_w")

    def __init__(self, component: Component, intensity: Intensity) -> None:
        self.component = component
        self.intensity = intensity
        self.duration_s = self.energy_j = self.emissions_g = 0.0
        self.low_w: float | None = None
        self.high_w: float | None = None

    def closed(self, at_s: float, key: Key) -> SeriesRow:
        """The row as it ends at a Unix time of whole milliseconds, with figures as they are written."""
        phase, device_id, method = key
        mean_w = self.energy_j / self.duration_s if self.duration_s > 0.0 else None
        low_w, high_w = self.low_w, self.high_w
        mean = None if mean_w is None else round(mean_w, 2)
        low = mean if low_w == mean_w else None if low_w is None else round(low_w, 2)
        high = low if high_w == low_w else None if high_w is None else round(high_w, 2)
        return SeriesRow(
            at_s,
            round(self.duration_s, 3),
            device_id,
            self.component,
            phase,
            method,
            round(self.energy_j, 3),
            mean,
            low,
            high,
            round(self.emissions_g, 9),
            float(self.intensity.g_per_kwh),
            self.intensity.kind,
        )


class SeriesFold:
    """Parts in, rows out. `rows` are those that are open."""

    def __init__(self) -> None:
        self.rows: dict[Key, OpenRow] = {}
        self._moment: Moment | None = None
        self._before_s: float | None = None
        self._longest_s = 0.0
        self._windows: dict[str, tuple[float, float]] = {}
        self._methods: dict[str, Method] = {}

    def add(self, part: Part, period_s: float) -> list[SeriesRow]:
        """Add a part; the rows that close because it is of another sample than the one before."""
        moment, device, observed_s, counter_j, power_j, tdp_j, phases, rates = part
        last, closed = self._moment, []
        if last is None or last.sample != moment.sample:
            closed = self.end_sample(period_s)
            self._moment = moment
        whole_j = counter_j + power_j + tdp_j
        if observed_s <= 0.0 and not whole_j:
            self._windows.pop(device.id, None)
            return closed
        if observed_s > self._longest_s:
            self._longest_s = observed_s
        if observed_s >= PEAK_WINDOW_S and not self._windows:
            mean_w: float | None = whole_j / observed_s
        else:
            mean_w = self._windowed(device.id, whole_j, observed_s)
        if whole_j and whole_j == counter_j:  # nearly always
            self._methods[device.id] = "counter"
            self._spread(device, "counter", whole_j, observed_s, phases, rates, mean_w)
            return closed
        for method, joules in zip(METHODS, (counter_j, power_j, tdp_j), strict=True):
            if joules:
                self._methods[device.id] = method
                self._spread(device, method, joules, observed_s * (joules / whole_j), phases, rates, mean_w)
        if not whole_j and device.methods:
            method = self._methods.get(device.id, device.methods[0])
            self._spread(device, method, 0.0, observed_s, phases, rates, mean_w)
        return closed

    def end_sample(self, period_s: float) -> list[SeriesRow]:
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

    def close(self, at_s: float) -> list[SeriesRow]:
        """All open rows, as they end at a Unix time."""
        at_s = round(at_s, 3)
        rows = [row.closed(at_s, key) for key, row in self.rows.items()]
        self.rows = {}
        return [row for row in rows if row.energy_j or row.duration_s]

    def _spread(
        self,
        device: Device,
        method: Method,
        joules: float,
        seconds: float,
        phases: Weights,
        rates: Rates,
        mean_w: float | None,
    ) -> None:
        for phase, ratio in phases:
            key = phase, device.id, method
            row = self.rows.get(key)
            if row is None:
                row = self.rows[key] = OpenRow(device.component, rates.intensity)
            row.energy_j += joules * ratio
            row.emissions_g += joules * ratio * rates.grams
            row.duration_s += seconds * ratio
            row.intensity = rates.intensity
            if mean_w is None:
                continue
            if row.low_w is None or row.high_w is None:
                row.low_w = row.high_w = mean_w
            elif mean_w < row.low_w:
                row.low_w = mean_w
            elif mean_w > row.high_w:
                row.high_w = mean_w

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
