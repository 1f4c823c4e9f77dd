"""A run's series at a glance: power, phases, emissions and intensity in a few hundred steps; pure.

However long the run was, there are at most `MAX_STEPS`, all of one length: when there are more, two become
one. Energy and time are added up, the lowest and the highest power are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from carbonmon.core.model import MEASURED_METHODS, Component, IntensityKind
from carbonmon.core.records import NamedTuple
from carbonmon.runs.series_rows import SeriesRow

MAX_STEPS = 360
"""A plot of a thousand pixels shows no more."""

FIRST_STEP_S = 1.0
"""The rows of a young run are a second long (`series_file`)."""


class Step(NamedTuple):
    """What one device drew in one step: joules, and the mean power of the seconds in which it is known.

    The lowest and the highest power are None where they are not known. `measured_ratio` is the part of its
    energy that a sensor measured, None where there is no energy.
    """

    power_w: float | None
    low_w: float | None
    high_w: float | None
    measured_ratio: float | None
    energy_j: float = 0.0

    @property
    def lowest_w(self) -> float | None:
        """The lowest power, or the mean of a step that is too short to have one."""
        return self.power_w if self.low_w is None else self.low_w

    @property
    def highest_w(self) -> float | None:
        """The highest power, or the mean."""
        return self.power_w if self.high_w is None else self.high_w

    @property
    def measured_w(self) -> float:
        """The part of the mean power that a sensor measured; 0 where the power is not known."""
        return (self.power_w or 0.0) * (1.0 if self.measured_ratio is None else self.measured_ratio)


class GridStep(NamedTuple):
    """What a step's energy emitted, PUE included, and the intensities that were in force.

    The mean is weighted by the time of the rows; `kinds` are the intensities' kinds.
    """

    emissions_g: float
    mean_g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    kinds: frozenset[IntensityKind]


class Glance(NamedTuple):
    """The steps of a run from `begin_s` to `end_s` (Unix times), each `step_s` long.

    `devices` and `phases` hold a value for each step: of a device what it drew, None where nothing is known,
    of a phase its part of the step. `components` are those of the devices, where the series says them. `grid`
    holds a value for each step, None where nothing is known.
    """

    begin_s: float
    end_s: float
    step_s: float
    devices: dict[str, list[Step | None]]
    components: dict[str, Component | None]
    phases: dict[str, list[float]]
    grid: list[GridStep | None]


class _Sum:
    """What is known of one device in one step."""

    __slots__ = ("energy_j", "high_w", "low_w", "measured_j", "seconds")

    def __init__(self) -> None:
        self.energy_j = self.measured_j = self.seconds = 0.0
        self.low_w: float | None = None
        self.high_w: float | None = None

    def see(self, low_w: float | None, high_w: float | None) -> None:
        if low_w is not None and (self.low_w is None or low_w < self.low_w):
            self.low_w = low_w
        if high_w is not None and (self.high_w is None or high_w > self.high_w):
            self.high_w = high_w

    def add(self, other: _Sum) -> None:
        self.energy_j += other.energy_j
        self.measured_j += other.measured_j
        self.seconds += other.seconds
        self.see(other.low_w, other.high_w)

    def step(self) -> Step | None:
        if self.seconds <= 0.0 and self.energy_j <= 0.0:
            return None
        measured_ratio = min(1.0, self.measured_j / self.energy_j) if self.energy_j > 0.0 else None
        power_w = self.energy_j / self.seconds if self.seconds > 0.0 else None
        return Step(power_w, self.low_w, self.high_w, measured_ratio, self.energy_j)


class _GridSum:
    """What is known of the emissions and the intensity of one step."""

    __slots__ = ("emissions_g", "high", "kinds", "low", "product", "weight")

    def __init__(self, low: float, high: float) -> None:
        self.emissions_g = self.product = self.weight = 0.0
        self.low, self.high = low, high
        self.kinds: set[IntensityKind] = set()

    def see(self, low: float, high: float) -> None:
        self.low = min(self.low, low)
        self.high = max(self.high, high)

    def add(self, other: _GridSum) -> None:
        self.emissions_g += other.emissions_g
        self.product += other.product
        self.weight += other.weight
        self.kinds |= other.kinds
        self.see(other.low, other.high)

    def step(self) -> GridStep:
        mean = self.product / self.weight if self.weight else (self.low + self.high) / 2.0
        return GridStep(self.emissions_g, mean, self.low, self.high, frozenset(self.kinds))


class Downsampler:
    """Takes the rows of a series in their order; memory does not grow with their number."""

    def __init__(self) -> None:
        self._begin_s: float | None = None
        self._end_s = 0.0
        self._step_s = FIRST_STEP_S
        self._devices: dict[str, dict[int, _Sum]] = {}
        self._components: dict[str, Component | None] = {}
        self._phases: dict[str, dict[int, float]] = {}
        self._grid: dict[int, _GridSum] = {}
        self._moment: list[SeriesRow] = []

    def add(self, rows: Iterable[SeriesRow]) -> None:
        for row in rows:
            if self._moment and row.at_s != self._moment[0].at_s:
                self._close()
            self._moment.append(row)

    def glance(self) -> Glance | None:
        """What was added until now; None if that is nothing."""
        self._close()
        if self._begin_s is None:
            return None
        steps = 1 + max(step for known in self._devices.values() for step in known)
        return Glance(
            self._begin_s,
            self._end_s,
            self._step_s,
            {
                device: [known[step].step() if step in known else None for step in range(steps)]
                for device, known in self._devices.items()
            },
            dict(self._components),
            {phase: self._parts(known, steps) for phase, known in self._phases.items()},
            [self._grid[step].step() if step in self._grid else None for step in range(steps)],
        )

    def _parts(self, known: dict[int, float], steps: int) -> list[float]:
        all_s = [sum(phase.get(step, 0.0) for phase in self._phases.values()) for step in range(steps)]
        return [known.get(step, 0.0) / all_s[step] if all_s[step] else 0.0 for step in range(steps)]

    def _close(self) -> None:
        """Spread the rows of one moment over the time that they are about.

        In which order a device was in several phases is not known: they share that time.
        """
        rows, self._moment = self._moment, []
        if not rows:
            return
        lengths_s: dict[str, float] = {}
        phases_s: dict[str, dict[str, float]] = {}
        for row in rows:
            lengths_s[row.device] = lengths_s.get(row.device, 0.0) + row.duration_s
            of_phase = phases_s.setdefault(row.phase, {})
            of_phase[row.device] = of_phase.get(row.device, 0.0) + row.duration_s
        longest_s, end_s = max(lengths_s.values()), rows[0].at_s
        self._end_s = max(self._end_s, end_s)
        if self._begin_s is None:
            self._begin_s = end_s - longest_s
        while end_s - self._begin_s > self._step_s * MAX_STEPS:
            self._widen()
        spreads = {length_s: self._spread(end_s, length_s) for length_s in {*lengths_s.values(), longest_s}}
        for row in rows:
            self._components[row.device] = row.component or self._components.get(row.device)
            known = self._devices.setdefault(row.device, {})
            is_measured = row.method in MEASURED_METHODS
            intensity = row.intensity_g_per_kwh
            for step, part in spreads[lengths_s[row.device]]:
                total = known.get(step)
                if total is None:
                    total = known[step] = _Sum()
                total.energy_j += row.energy_j * part
                total.seconds += row.duration_s * part
                if is_measured:
                    total.measured_j += row.energy_j * part
                total.see(row.power_min_w, row.power_max_w)
                grid = self._grid.get(step)
                if grid is None:
                    grid = self._grid[step] = _GridSum(intensity, intensity)
                elif intensity < grid.low or intensity > grid.high:
                    grid.see(intensity, intensity)
                grid.emissions_g += row.emissions_g * part
                grid.product += intensity * row.duration_s * part
                grid.weight += row.duration_s * part
                grid.kinds.add(row.intensity_kind)
        for phase, seconds in phases_s.items():
            of_steps = self._phases.setdefault(phase, {})
            phase_s = max(seconds.values())
            for step, part in spreads[longest_s]:
                of_steps[step] = of_steps.get(step, 0.0) + phase_s * part

    def _spread(self, end_s: float, length_s: float) -> list[tuple[int, float]]:
        """The steps that a stretch of time touches, with their parts of it; all before is in the first."""
        assert self._begin_s is not None
        end = min(max(0.0, end_s - self._begin_s) / self._step_s, float(MAX_STEPS))
        begin = max(0.0, end - length_s / self._step_s)
        first, last = int(begin), min(int(end), MAX_STEPS - 1)
        if first >= last or end <= begin:
            return [(min(first, last), 1.0)]
        parts = [
            (step, (min(end, step + 1.0) - max(begin, float(step))) / (end - begin))
            for step in range(first, last + 1)
        ]
        return [(step, part) for step, part in parts if part > 0.0]

    def _widen(self) -> None:
        """Make the steps twice as wide."""
        self._step_s *= 2.0
        for device, known in self._devices.items():
            self._devices[device] = _paired(known)
        self._grid = _paired(self._grid)
        for phase, seconds in self._phases.items():
            of_steps: dict[int, float] = {}
            for step, phase_s in seconds.items():
                of_steps[step // 2] = of_steps.get(step // 2, 0.0) + phase_s
            self._phases[phase] = of_steps


class _Addable(Protocol):
    def add(self, other: Any) -> None: ...


_S = TypeVar("_S", bound=_Addable)


def _paired(known: dict[int, _S]) -> dict[int, _S]:
    """Two steps become one, with their sums."""
    wider: dict[int, _S] = {}
    for step, total in known.items():
        if step // 2 in wider:
            wider[step // 2].add(total)
        else:
            wider[step // 2] = total
    return wider
