"""The energy of stretches of a run's time while it goes on, and how exactly their edges are known; pure.

A window is asked for by training code (`run.phase`). Its energy is what the run's devices drew in it: the
intervals inside, and of the two over its edges the part inside. Neither edge is known exactly:

- an interval over an edge is split by the driver's power samples, else by time: the energy of the seconds
  between two samples, or of the shorter side, may be on the other side of the edge;
- a counter's value is up to `REFRESH_S` old, so what was drawn so long before an edge may count behind it.

The window's range is what these seconds can be at the most that the device draws: the highest power of the
samples, else the bound of `plausibility.py`. At the device's mean power they are the joules in doubt. A
figure with more than `INTERPOLATED_RATIO` of its joules in doubt is called interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from carbonmon.core.curves import between, edge_s, part_between
from carbonmon.core.model import Component, Curve, Device, Interval
from carbonmon.core.records import NamedTuple

REFRESH_S: Mapping[Component, float] = {"gpu": 0.1, "module": 0.1, "cpu": 0.001, "dram": 0.001}
"""How old a counter's value may be, in seconds. NVML does not tell; 20 to 100 ms were found (Yang et al.,
"Part-time Power Measurements", arXiv 2312.02741), and the longest is taken. RAPL's are refreshed about every
millisecond (Intel SDM vol. 3, "RAPL Interfaces")."""

INTERPOLATED_RATIO = 0.03

MAX_WINDOWS = 1024
"""Windows that a run keeps; of more the oldest ones that have ended are forgotten."""

LATE_S = 1.0
"""A begin or an end that is told so much later still finds the intervals that it divides."""

ABSENT_S = 10.0
"""A device that has said nothing for so much longer than the others is not waited for."""

Key = tuple[int, int]
"""Who has a window, and its number there."""


class Marks(NamedTuple):
    """The windows that begin and end at a change of phase, and those that nobody will ask for."""

    begun: Key | None = None
    ended: Key | None = None
    forgotten: Sequence[Key] = ()


class Amount(NamedTuple):
    """Joules with the range of their edges, and the joules in doubt at the mean power."""

    energy_j: float = 0.0
    low_j: float = 0.0
    high_j: float = 0.0
    doubt_j: float = 0.0

    def plus(self, other: Amount) -> Amount:
        return Amount(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Amount()


class Windows:
    """The windows of one run. Times are seconds on the injected clock."""

    __slots__ = ("_all", "_foreseen", "_last", "_waiting")

    def __init__(self) -> None:
        self._all: dict[Key, _Window] = {}
        self._waiting: dict[Key, _Window] = {}
        self._last: dict[str, tuple[Device, list[Interval]]] = {}
        self._foreseen: dict[str, tuple[Curve, float]] = {}

    def mark(self, at_s: float, marks: Marks) -> None:
        """Windows begin and end at a moment, which may be a little ago."""
        for key in marks.forgotten:
            self._all.pop(key, None)
            self._waiting.pop(key, None)
        if marks.ended in self._all:
            self._all[marks.ended].close(at_s)
        if marks.begun is not None:
            if len(self._all) >= MAX_WINDOWS:
                self._forget_oldest()
            window = self._all[marks.begun] = self._waiting[marks.begun] = _Window(at_s)
            for device, parts in self._last.values():  # ticks may have come before the word of the begin
                for part in parts:
                    window.add(device, part)

    def add(self, device: Device, part: Interval) -> None:
        """Add the run's part of an interval to the windows that it is in."""
        device_id = device.id
        if self._foreseen:
            self._foreseen.pop(device_id, None)
        known = self._last.get(device_id)
        if known is None:
            self._last[device_id] = (device, [part])
        else:
            parts, oldest_s = known[1], part.end_s - LATE_S
            while parts and parts[0].end_s <= oldest_s:
                del parts[0]
            parts.append(part)
        if self._waiting:
            for key, window in list(self._waiting.items()):
                window.add(device, part)
                if window.end_s is not None and not self._unsettled(window.end_s):
                    del self._waiting[key]

    def figures(
        self, key: Key, now_s: float, power_w: Mapping[str, float | None]
    ) -> dict[str, float | bool] | None:
        """What is known of a window now, None of one that is not kept.

        What a device drew since its energy was settled last is reckoned with the power samples that were
        foreseen, else with its last power, `power_w`.
        """
        window = self._all.get(key)
        if window is None:
            return None
        end_s = now_s if window.end_s is None else window.end_s
        amount = window.amount()
        unsettled = self._unsettled(end_s)
        for device, settled_s in unsettled:
            begin_s = max(window.start_s, settled_s)
            seconds = end_s - begin_s
            joules = self._foreseen_j(device.id, begin_s, end_s)
            if joules is None:
                joules = (power_w.get(device.id) or 0.0) * seconds
            most_j = (device.max_power_w or 0.0) * seconds
            amount = amount.plus(Amount(joules, 0.0, max(joules, most_j), joules))
        return {
            "energy_j": amount.energy_j,
            "low_j": max(0.0, amount.low_j),
            "high_j": amount.high_j,
            "duration_s": end_s - window.start_s,
            "is_interpolated": amount.doubt_j > INTERPOLATED_RATIO * amount.energy_j,
            "is_settled": window.end_s is not None and not unsettled,
        }

    def foresee(self, device_id: str, curve: Curve, ratio: float) -> None:
        """What a device seems to have drawn since its energy was settled, and the run's part of it."""
        self._foreseen[device_id] = curve, ratio

    def _foreseen_j(self, device_id: str, begin_s: float, end_s: float) -> float | None:
        curve, ratio = self._foreseen.get(device_id, (None, 0.0))
        if curve is None or curve.times_s[-1] < end_s:
            return None
        return between(curve, begin_s, end_s) * ratio

    def keys_of(self, owner: int) -> list[Key]:
        """The windows of one owner."""
        return [key for key in self._all if key[0] == owner]

    def _unsettled(self, at_s: float) -> list[tuple[Device, float]]:
        """The devices whose energy is not settled until a moment, and since when."""
        newest_s = max((parts[-1].end_s for _, parts in self._last.values()), default=at_s)
        return [
            (device, parts[-1].end_s)
            for device, parts in self._last.values()
            if newest_s - ABSENT_S < parts[-1].end_s < at_s
        ]

    def _forget_oldest(self) -> None:
        """Forget a window that has ended, else the one that began first."""
        ended = (key for key, window in self._all.items() if window.end_s is not None)
        key = next(ended, next(iter(self._all)))
        del self._all[key]
        self._waiting.pop(key, None)


class _Window:
    """Sums by device; its newest intervals are kept apart, for an end that is told a little late."""

    __slots__ = ("_devices", "end_s", "start_s")

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.end_s: float | None = None
        self._devices: dict[str, tuple[Amount, Device, list[tuple[Interval, Amount]]]] = {}

    def add(self, device: Device, part: Interval) -> None:
        piece = piece_of(device, part, self.start_s, self.end_s)
        if piece is NOTHING:
            return
        total, _, newest = self._devices.get(device.id, (NOTHING, device, []))
        newest = [*newest, (part, piece)]
        while newest[0][0].end_s < part.end_s - LATE_S:
            total = total.plus(newest.pop(0)[1])
        self._devices[device.id] = total, device, newest

    def close(self, at_s: float) -> None:
        self.end_s = end_s = max(at_s, self.start_s)
        for device_id, (total, device, newest) in list(self._devices.items()):
            again = [(part, piece_of(device, part, self.start_s, end_s)) for part, _ in newest]
            self._devices[device_id] = total, device, again

    def amount(self) -> Amount:
        total = NOTHING
        for before, _, newest in self._devices.values():
            total = total.plus(before)
            for _, piece in newest:
                total = total.plus(piece)
        return total


def piece_of(device: Device, part: Interval, start_s: float, end_s: float | None) -> Amount:
    """The part of an interval that is inside a window; without an end it goes on."""
    begin_s = max(part.start_s, start_s)
    until_s = part.end_s if end_s is None else min(part.end_s, end_s)
    whole_s = part.end_s - part.start_s
    if begin_s >= until_s:
        return NOTHING
    energy_j = part.energy_j
    inside_j = energy_j * part_between(part.curve, part.start_s, part.end_s, begin_s, until_s)
    edges = [start_s] if part.start_s <= start_s else []
    if end_s is not None and end_s <= part.end_s:
        edges.append(end_s)
    if not edges:
        return Amount(inside_j, inside_j, inside_j)
    refresh_s = REFRESH_S[device.component] if part.counter_j else 0.0
    split_s = sum(edge_s(part.start_s, part.end_s, part.curve, at_s) for at_s in edges)
    peak_w = _peak_w(device, part)
    low_j, high_j = max(0.0, inside_j - peak_w * split_s), min(energy_j, inside_j + peak_w * split_s)
    if part.start_s <= start_s:  # a value from before the edge: what is counted may have been drawn before it
        low_j -= peak_w * refresh_s
    if end_s is not None and end_s <= part.end_s:
        high_j += peak_w * refresh_s
    doubt_j = min(inside_j, energy_j / whole_s * (split_s + refresh_s * len(edges)))
    return Amount(inside_j, low_j, high_j, doubt_j)


def _peak_w(device: Device, part: Interval) -> float:
    """The most that the run's part of a device drew in an interval, as far as anything says."""
    mean_w = part.energy_j / (part.end_s - part.start_s)
    curve = part.curve
    if curve is None or curve.joules[-1] <= 0.0:
        return max(mean_w, device.max_power_w or 0.0)
    points = pairwise(zip(curve.times_s, curve.joules, strict=True))
    slopes = [(after[1] - at[1]) / (after[0] - at[0]) for at, after in points if after[0] > at[0]]
    slope = max(slopes, default=0.0)
    return max(mean_w, slope * part.energy_j / curve.joules[-1])
