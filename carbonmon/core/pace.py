"""What a step of a training takes in seconds and joules, and what is left to come; pure.

Steps are not alike: the first ones are slow (files are read, kernels compiled), an evaluation or a checkpoint
stands between two of them every so often, and a busy machine slows some down. So three things are kept apart:
steps, kept as blocks of equally many; pauses between steps, by their length; and how the steps went lately.
Memory is bounded: when there are many blocks, two become one. A report costs the same at all times.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from carbonmon.core.evaluations import Evaluations
from carbonmon.core.records import NamedTuple

MAX_BLOCKS = 64
"""So many blocks of steps at most: enough to see the end of a warm-up, of a tenth of a run, in that tenth."""

RECENT = 31
"""Reports of which the median is what a step takes now. A pause is told from slow steps by it."""

FIRST = 8
"""After so many reports there is a median to compare with, and enough for a forecast."""

PAUSE_RATIO = 1.5
"""Steps that took so many times as long as steps do had a pause among them, unless those before them did too:
then they are slow."""

ALIKE_RATIO = 2.0
"""Pauses whose lengths differ by less are of one kind."""

MAX_KINDS = 4
EVEN_RATIO = 1.5
"""Pauses are periodic if the longest distance between two is less than so many times the shortest."""

CONFIDENCE = 1.645
"""Standard errors on each side of a mean that hold 90 % of a normal distribution."""

RESERVE_LOW, RESERVE_HIGH = 0.02, 0.06
"""What steps that nobody has seen may take less or more than those that were: a slowdown in a later tenth of
the run that makes its steps dearer by half is 5 %. A choice, tried on the runs of the tests."""


class Range(NamedTuple):
    """A figure that is not known yet: what is expected, and between what it lies."""

    low: float
    expected: float
    high: float

    def plus(self, known: float) -> Range:
        return Range(self.low + known, self.expected + known, self.high + known)

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.expected * factor, self.high * factor)


class Pace:
    """Told of each report of a training's progress; says what the steps that are left will take.

    All times are on one clock that never jumps. A step below the last one is a training that went back to a
    checkpoint: what its steps take is still known. `seen` are the steps that were seen.
    """

    __slots__ = (
        *("_blocks", "_evaluations", "_had_pause", "_kinds", "_last", "_recent", "_reports", "_size", "seen"),
    )

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._blocks: list[list[float]] = []
        self._kinds: list[_Pauses] = []
        self._evaluations: Evaluations | None = None
        self._size = 0.0
        self._had_pause = False
        self._reports = 0
        self.seen = 0.0

    @property
    def dearest_pause(self) -> tuple[float, float]:
        """Seconds and joules of the dearest kind of pause, an evaluation mostly; 0 if none was seen."""
        kinds: list[_Pauses | Evaluations] = [*self._kinds]
        if self._evaluations is not None:
            kinds.append(self._evaluations)
        dearest = max(kinds, key=lambda kind: kind.mean(1), default=None)
        return (0.0, 0.0) if dearest is None else (dearest.mean(0), dearest.mean(1))

    @property
    def step(self) -> tuple[float, float]:
        """Seconds and joules that a step takes now; 0 before the first."""
        if not self._recent:
            return 0.0, 0.0
        from statistics import median  # with what it needs, 3 ms that a run without steps does not pay

        seconds, joules = map(median, zip(*self._recent, strict=True))
        return seconds, joules

    def announce(self, every: float, steps: float | None) -> None:
        """An evaluation follows each `every` steps; `steps` of training have as many samples as it has."""
        known = self._evaluations
        if known is not None and known.every == every:
            known.steps = steps
            return
        self._evaluations = Evaluations(every, steps)
        self._kinds = []  # some of the pauses may have been evaluations

    def see(self, at_s: float, energy_j: float, step: float) -> None:
        """At `at_s` so many steps were done, and the run had drawn so much."""
        last, self._last = self._last, (at_s, energy_j, step)
        if last is None or step < last[2]:
            return
        steps, seconds, joules = step - last[2], at_s - last[0], energy_j - last[1]
        if steps <= 0.0 or seconds <= 0.0:  # nothing is done since: the next report has it all
            self._last = last
            return
        self._recent.append((seconds / steps, joules / steps))
        self._reports += 1
        self.seen += steps
        if self._reports > FIRST:
            usual_s, usual_j = (each * steps for each in self.step)
            evaluations = self._evaluations
            number = 0.0 if evaluations is None else evaluations.between(last[2], step)
            if evaluations is not None and number:
                evaluations.see(number, seconds - usual_s, joules - usual_j)
                self._add(steps, usual_s, usual_j)
                return
            had_pause, self._had_pause = self._had_pause, seconds > PAUSE_RATIO * usual_s
            if self._had_pause and not had_pause:
                self._pause(step, seconds - usual_s, max(0.0, joules - usual_j))
                seconds, joules = usual_s, min(joules, usual_j)
        self._add(steps, seconds, joules)

    def left(self, steps: float) -> tuple[Range, Range] | None:
        """Seconds and joules of the next `steps`; None as long as too little was seen."""
        if self._reports < FIRST or self._last is None:
            return None
        seconds, joules = (self._left(quantity, steps) for quantity in (0, 1))
        return seconds, joules

    def _left(self, quantity: int, steps: float) -> Range:
        low, expected, high = _per_step([(block[0], block[1 + quantity]) for block in self._blocks])
        low, high = low * (1.0 - RESERVE_LOW), high * (1.0 + RESERVE_HIGH)
        pauses = [kind.left(quantity, self._last[2], steps, self.seen) for kind in self._kinds]  # type: ignore[index]
        if self._evaluations is not None:
            of_a_step = self.step[quantity]
            pauses.append(Range(*self._evaluations.left(quantity, self._last[2], steps, of_a_step)))  # type: ignore[index]
        between = sum(pause.expected for pause in pauses)
        # Kinds err independently of one another.
        below = math.hypot(*(pause.expected - pause.low for pause in pauses))
        above = math.hypot(*(pause.high - pause.expected for pause in pauses))
        return Range(
            max(0.0, low * steps + between - below),
            expected * steps + between,
            high * steps + between + above,
        )

    def _add(self, steps: float, seconds: float, joules: float) -> None:
        blocks = self._blocks
        if blocks and blocks[-1][0] < self._size:
            block = blocks[-1]
            block[0] += steps
            block[1] += seconds
            block[2] += joules
            return
        if len(blocks) == MAX_BLOCKS:
            pairs = zip(blocks[::2], blocks[1::2], strict=True)
            self._blocks = blocks = [[a + b for a, b in zip(*pair, strict=True)] for pair in pairs]
            self._size = 2.0 * max(self._size, steps)
        blocks.append([steps, seconds, joules])

    def _pause(self, step: float, seconds: float, joules: float) -> None:
        kinds = self._kinds
        alike = min(kinds, key=lambda kind: kind.unlike(seconds), default=None)
        if alike is None or (alike.unlike(seconds) > ALIKE_RATIO and len(kinds) < MAX_KINDS):
            alike = _Pauses()
            kinds.append(alike)
        alike.add(step, seconds, joules)


class _Pauses:
    """Pauses of one kind: their seconds and joules beyond those of the steps, and where they came."""

    __slots__ = ("_count", "_first", "_last", "_longest", "_shortest", "_squares", "_sums")

    def __init__(self) -> None:
        self._count = 0
        self._sums, self._squares = [0.0, 0.0], [0.0, 0.0]
        self._first = self._last = 0.0
        self._shortest, self._longest = math.inf, 0.0

    def add(self, step: float, seconds: float, joules: float) -> None:
        if self._count:
            distance = step - self._last
            self._shortest, self._longest = min(self._shortest, distance), max(self._longest, distance)
        else:
            self._first = step
        self._last = step
        self._count += 1
        for quantity, amount in enumerate((seconds, joules)):
            self._sums[quantity] += amount
            self._squares[quantity] += amount * amount

    def mean(self, quantity: int) -> float:
        return self._sums[quantity] / self._count

    def unlike(self, seconds: float) -> float:
        """How many times as long, or as short, as these a pause is."""
        ratio = seconds / self.mean(0)
        return max(ratio, 1.0 / ratio)

    def left(self, quantity: int, step: float, steps: float, seen: float) -> Range:
        """What those take that come among the next `steps` after `step`, of which `seen` had these."""
        mean, count = self.mean(quantity), self._count
        if count > 1 and 0.0 < self._longest <= EVEN_RATIO * self._shortest:
            period = (self._last - self._first) / (count - 1)
            expected = max(0.0, step + steps - self._last) / period
            doubt = 1.0  # the last one may come with the last step, or just not any more
        else:
            expected = count * steps / seen
            doubt = (1.0 + math.sqrt(count)) * steps / seen  # more even than by chance
        spread = math.sqrt(max(0.0, self._squares[quantity] / count - mean * mean) / count)
        error = mean * doubt + CONFIDENCE * spread * expected
        return Range(mean * expected - error, mean * expected, mean * expected + error)


def _per_step(blocks: Sequence[tuple[float, float]]) -> Range:
    """What a step takes, of blocks of (steps, amount): from the end of the warm-up on, and as of late.

    The range spans the mean, the median and the last quarter: of a slowdown nobody knows how long it stays.
    """
    rates = [amount / steps for steps, amount in blocks]
    first = _end_of_warm_up(rates)
    blocks, rates = blocks[first:], rates[first:]
    mean = sum(amount for _, amount in blocks) / sum(steps for steps, _ in blocks)
    from statistics import fmean, median, stdev

    middles = sorted((mean, median(rates), fmean(rates[-max(1, len(rates) // 4) :])))
    spread = stdev(rates) if len(rates) > 1 else mean
    error = (CONFIDENCE + 4.0 / len(rates)) * spread / math.sqrt(len(rates))  # wider while they are few
    return Range(max(0.0, middles[0] - error), middles[1], middles[2] + error)


def _end_of_warm_up(rates: Sequence[float]) -> int:
    """The first block that is like those of the last quarter: within their spread."""
    start = len(rates) - len(rates) // 4
    latest = rates[start:]
    if len(latest) < 2:
        return 0
    from statistics import fmean, stdev

    usual = fmean(latest)
    limit = max(CONFIDENCE * stdev(latest), 0.01 * usual)
    return next((i for i in range(start) if abs(rates[i] - usual) <= limit), start)
