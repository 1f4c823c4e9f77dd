"""Power as a function of time and its integral in closed form: the truth that tests compare with.

`profile.h` is the same in C. Times are seconds since the profile came into force; before that (negative
times) a periodic shape simply goes on. The unit is that of the levels: watts give joules, percent of
utilisation gives percent seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Protocol


class Profile(Protocol):
    """A shape; `shape` and `parameters` are what the control file holds of it."""

    shape: ClassVar[int]

    @property
    def parameters(self) -> tuple[float, ...]: ...

    def value(self, t_s: float) -> float: ...

    def integral(self, t_s: float) -> float:
        """From 0 to `t_s`."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    level: float
    shape: ClassVar[int] = 0

    @property
    def parameters(self) -> tuple[float, ...]:
        return (self.level,)

    def value(self, t_s: float) -> float:
        return self.level

    def integral(self, t_s: float) -> float:
        return self.level * t_s


@dataclass(frozen=True, slots=True)
class Square:
    """Each period begins with `duty` × period at `high`; the rest is at `low`."""

    low: float
    high: float
    period_s: float
    duty: float = 0.5
    shape: ClassVar[int] = 1

    @property
    def parameters(self) -> tuple[float, ...]:
        return (self.low, self.high, self.period_s, self.duty)

    def value(self, t_s: float) -> float:
        rest_s = t_s - math.floor(t_s / self.period_s) * self.period_s
        return self.high if rest_s < self.duty * self.period_s else self.low

    def integral(self, t_s: float) -> float:
        periods = math.floor(t_s / self.period_s)
        rest_s = t_s - periods * self.period_s
        high_s = self.duty * self.period_s
        whole = periods * (self.high * high_s + self.low * (self.period_s - high_s))
        if rest_s < high_s:
            return whole + self.high * rest_s
        return whole + (self.high * high_s + self.low * (rest_s - high_s))


@dataclass(frozen=True, slots=True)
class Sine:
    """`mean` + `amplitude` × sin(2π t / period)."""

    mean: float
    amplitude: float
    period_s: float
    shape: ClassVar[int] = 2

    @property
    def parameters(self) -> tuple[float, ...]:
        return (self.mean, self.amplitude, self.period_s)

    def value(self, t_s: float) -> float:
        return self.mean + self.amplitude * math.sin(math.tau * t_s / self.period_s)

    def integral(self, t_s: float) -> float:
        wave = 1 - math.cos(math.tau * t_s / self.period_s)
        return self.mean * t_s + self.amplitude * self.period_s / math.tau * wave


@dataclass(frozen=True, slots=True)
class Ramp:
    """From `start` to `end` in a straight line, then `end`; a duration of 0 is a step."""

    start: float
    end: float
    duration_s: float
    shape: ClassVar[int] = 3

    @property
    def parameters(self) -> tuple[float, ...]:
        return (self.start, self.end, self.duration_s)

    def value(self, t_s: float) -> float:
        if t_s < 0:
            return self.start
        if t_s < self.duration_s:
            return self.start + (self.end - self.start) * t_s / self.duration_s
        return self.end

    def integral(self, t_s: float) -> float:
        if t_s < 0:
            return self.start * t_s
        if t_s < self.duration_s:
            return self.start * t_s + (self.end - self.start) * t_s * t_s / (2 * self.duration_s)
        return (self.start + self.end) * self.duration_s / 2 + self.end * (t_s - self.duration_s)


@dataclass(slots=True)
class History:
    """The profiles that were in force one after the other: (since, integral until then, profile) each."""

    since_s: float
    first: Profile
    pieces: list[tuple[float, float, Profile]] = field(init=False)

    def __post_init__(self) -> None:
        self.pieces = [(self.since_s, 0.0, self.first)]

    def change(self, since_s: float, profile: Profile) -> float:
        """Another profile from `since_s` on, which is not before the last change; the integral until then."""
        if since_s < self.pieces[-1][0]:
            raise ValueError("a profile cannot begin before the one it replaces")
        base = self.integral(since_s)
        self.pieces.append((since_s, base, profile))
        return base

    def _piece(self, at_s: float) -> tuple[float, float, Profile]:
        for piece in reversed(self.pieces):
            if piece[0] <= at_s:
                return piece
        return self.pieces[0]

    def value(self, at_s: float) -> float:
        since_s, _, profile = self._piece(at_s)
        return profile.value(at_s - since_s)

    def integral(self, at_s: float) -> float:
        since_s, base, profile = self._piece(at_s)
        return base + profile.integral(at_s - since_s)

    def between(self, start_s: float, end_s: float) -> float:
        return self.integral(end_s) - self.integral(start_s)
