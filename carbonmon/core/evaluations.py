"""Evaluations that training code has announced: what they take, also before one was seen; pure."""

from __future__ import annotations

import math

FORWARD_RATIO, DOUBT_TIMES = 1.0 / 3.0, 2.0
"""What a sample takes in an evaluation, as a part of what it takes in training, before one was seen. The
forward pass is two of the six FLOPs for each parameter and token (Kaplan et al., "Scaling Laws for Neural
Language Models", arXiv:2001.08361, section 2.1). Larger batches make it less, data that has to be read and
metrics more: the range is from half to twice as much, a choice."""

EARLY_RATIO = 0.25
"""That of all may differ from the first one by so much, from that of four by a quarter of it. A choice."""

CONFIDENCE = 1.645
"""As in `pace.py`."""


class Evaluations:
    """One follows after each `every` steps. `steps` is how many steps of training have as many samples as an
    evaluation; None: nobody says."""

    __slots__ = ("_count", "_squares", "_sums", "every", "steps")

    def __init__(self, every: float, steps: float | None) -> None:
        self.every, self.steps = every, steps
        self._count = 0.0
        self._sums, self._squares = [0.0, 0.0], [0.0, 0.0]

    def between(self, step: float, next_step: float) -> float:
        """How many follow steps from `step` on, and before `next_step`."""
        return max(0.0, math.ceil(next_step / self.every) - self._first(step))

    def see(self, number: float, seconds: float, joules: float) -> None:
        """So many together took so much beyond the steps that were about them; noise may make it negative."""
        self._count += number
        for quantity, amount in enumerate((seconds, joules)):
            self._sums[quantity] += amount
            self._squares[quantity] += amount * amount / number

    def mean(self, quantity: int) -> float:
        """Of one that was seen; 0 where none was."""
        return max(0.0, self._sums[quantity] / self._count) if self._count else 0.0

    def left(self, quantity: int, step: float, steps: float, of_a_step: float) -> tuple[float, float, float]:
        """What those take that follow `step` and the next `steps`: low, expected, high.

        `of_a_step` is what a step of training takes. One that comes with the last step may be left out.
        """
        number = max(0.0, math.floor((step + steps) / self.every) - self._first(step) + 1.0)
        least = max(0.0, number - ((step + steps) % self.every == 0.0))
        if self._count:
            mean = self.mean(quantity)
            variance = max(0.0, self._squares[quantity] / self._count - mean * mean)
            error = EARLY_RATIO * mean / self._count + CONFIDENCE * math.sqrt(variance / self._count)
            return max(0.0, mean - error) * least, mean * number, (mean + error) * number
        expected = FORWARD_RATIO * of_a_step * (self.steps or 0.0)
        return expected / DOUBT_TIMES * least, expected * number, expected * DOUBT_TIMES * number

    def _first(self, step: float) -> float:
        return max(1.0, math.ceil(step / self.every))
