"""Power by device over time: the past from a run's series, then what was seen while somebody looks on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from carbonmon.core.records import NamedTuple
from carbonmon.top.document import Document

MOST_SEEN = 600
LONGEST_GAP_S = 120.0
"""Between two answers; behind a longer one nothing is known of the time between."""

MAIN_PART = 0.5
"""A step belongs to a phase that has at least so much of its time."""


class Power(NamedTuple):
    """Watts, and whether a sensor measured them."""

    watts: float
    is_measured: bool


class Step(NamedTuple):
    """A time in Unix seconds, what each device drew in it, and the part of it that each phase has."""

    begin_s: float
    end_s: float
    powers: Mapping[str, Power]
    phases: Mapping[str, float]


class History:
    """Of one run, or of a node: then it begins when somebody looks."""

    def __init__(self) -> None:
        self._past: list[Step] = []
        self._seen: list[Step] = []

    @property
    def is_due(self) -> bool:
        """Whether the series should be read (again)."""
        return not self._past or len(self._seen) >= MOST_SEEN

    @property
    def steps(self) -> list[Step]:
        return [*self._past, *self._seen]

    def load(self, series: Document) -> None:
        """Take an answer with a run's series."""
        self._past = list(_steps(series)) or self._past
        if self._past:
            end_s = self._past[-1].end_s
            self._seen = [step for step in self._seen if step.end_s > end_s]
            if self._seen and self._seen[0].begin_s - end_s <= LONGEST_GAP_S:
                self._seen[0] = self._seen[0]._replace(begin_s=end_s)

    def add(self, at_s: float, powers: Mapping[str, Power], phase: str, interval_s: float) -> None:
        """Take what was drawn at a moment; an earlier one is nothing new."""
        known = self._seen or self._past
        before_s = known[-1].end_s if known else at_s - interval_s
        if at_s <= before_s:
            return
        begin_s = before_s if at_s - before_s <= LONGEST_GAP_S else at_s - interval_s
        self._seen.append(Step(begin_s, at_s, powers, {phase: 1.0} if phase else {}))
        del self._seen[: -2 * MOST_SEEN]

    def span_s(self) -> float:
        steps = self.steps
        return steps[-1].end_s - steps[0].begin_s if steps else 0.0

    def bins(self, devices: Iterable[str], count: int, phase: str = "") -> list[Power | None]:
        """The mean power of some devices together in `count` equal parts of the time, those of a phase alone.

        It is measured where most of its joules are. None where none of the devices is known.
        """
        steps = self.steps
        if not steps or count < 1:
            return []
        begin_s, length_s = steps[0].begin_s, self.span_s() / count
        if length_s <= 0.0:
            return [None] * count
        wanted = set(devices)
        sums: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)] * count
        for step in steps:
            if phase and step.phases.get(phase, 0.0) < MAIN_PART:
                continue
            powers = [power for name, power in step.powers.items() if name in wanted]
            if not powers:
                continue
            watts = sum(power.watts for power in powers)
            measured_w = sum(power.watts for power in powers if power.is_measured)
            part = measured_w / watts if watts else float(any(power.is_measured for power in powers))
            first = int((step.begin_s - begin_s) / length_s)
            last = min(count - 1, int((step.end_s - begin_s) / length_s))
            for place in range(max(0, min(first, count - 1)), last + 1):
                start_s = begin_s + place * length_s
                seconds = min(step.end_s, start_s + length_s) - max(step.begin_s, start_s)
                if seconds > 0.0:
                    time_s, joules, balance_j = sums[place]
                    more_j = watts * seconds
                    sums[place] = time_s + seconds, joules + more_j, balance_j + more_j * (part - 0.5)
        return [
            Power(joules / time_s, balance_j >= 0.0) if time_s else None for time_s, joules, balance_j in sums
        ]


def drawn(bins: Iterable[Power | None], solid: str, dotted: str) -> str:
    """A character for each bin, of a height from 0 to the highest: `solid` where it is measured."""
    known = list(bins)
    highest = max((power.watts for power in known if power is not None), default=0.0)

    def sign(power: Power | None) -> str:
        if power is None:
            return " "
        heights = solid if power.is_measured else dotted
        ratio = max(0.0, power.watts) / highest if highest else 0.0
        return heights[min(len(heights) - 1, int(ratio * len(heights)))]

    return "".join(map(sign, known))


def _steps(series: Document) -> Iterable[Step]:
    begin_s, end_s, step_s = (series.number(key) for key in ("begin_s", "end_s", "step_s"))
    if begin_s is None or end_s is None or not step_s or step_s < 0.0:
        return
    devices = [
        (device.raw_text("id"), device.numbers("power_w"), device.numbers("measured_ratio"))
        for device in series.parts("devices")
    ]
    phases = [(phase.raw_text("name"), phase.numbers("time_ratio")) for phase in series.parts("phases")]
    for place in range(max((len(watts) for _, watts, _ in devices), default=0)):
        start_s = begin_s + place * step_s
        yield Step(
            start_s,
            min(start_s + step_s, end_s),
            {
                name: Power(power, power == 0.0 or (_at(measured, place) or 0.0) >= MAIN_PART)
                for name, watts, measured in devices
                if (power := _at(watts, place)) is not None
            },
            {name: part for name, parts in phases if (part := _at(parts, place))},
        )


def _at(values: list[float | None], place: int) -> float | None:
    return values[place] if place < len(values) else None
