"""Generated trainings, for forecasts: each is fixed by its seed.

Warm-up over 0 to 10 % of the steps, an evaluation every k steps, checkpoint pauses, noise of ±10 % on the
time and the power of each step, and one slowdown in a fifth of them. Those with `rare` evaluations have 2 to
8 of them, none in the first tenth, each up to 15 % of the time between two.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple


class Report(NamedTuple):
    """So many steps of `total` are done, `at_s` seconds and `energy_j` joules after the start."""

    step: int
    total: int
    at_s: float
    energy_j: float
    evaluates_each: int
    evaluation_steps: float
    """Steps that have as many samples as an evaluation, which takes a fifth to a half of their time."""


def training(seed: int, rare: bool = False) -> Iterator[Report]:
    """The reports of one training, one for each step; the last one is its end."""
    chance = random.Random(seed)
    total = chance.randrange(300, 6000)
    step_s, watts = 10 ** chance.uniform(-0.7, 0.7), chance.uniform(200.0, 3000.0)
    warm_up, warm_up_times = int(total * chance.uniform(0.0, 0.1)), chance.uniform(1.3, 3.0)
    evaluates_each = max(2, total // chance.randrange(20, 100))
    evaluation_s = chance.uniform(0.02, 0.15) * evaluates_each * step_s
    if rare:
        evaluates_each = total // chance.randrange(2, 9)
        evaluation_s = chance.uniform(0.02, 0.15) * evaluates_each * step_s
    evaluation_w = chance.uniform(0.5, 1.0) * watts
    saves_each, save_s = max(2, total // chance.randrange(5, 40)), chance.uniform(2.0, 10.0) * step_s
    is_slowed = chance.random() < 0.2
    slow_from = chance.randrange(total)
    slow_to = slow_from + int(total * chance.uniform(0.05, 0.2))
    slow_times, slow_power = chance.uniform(1.2, 2.0), chance.uniform(0.6, 0.95)
    evaluation_steps = evaluation_s / step_s / random.Random(-seed).uniform(0.2, 0.5)
    at_s = energy_j = 0.0
    for step in range(1, total + 1):
        seconds, power_w = step_s * chance.uniform(0.9, 1.1), watts * chance.uniform(0.9, 1.1)
        if step <= warm_up:
            seconds *= 1.0 + (warm_up_times - 1.0) * (1.0 - step / warm_up)
        if is_slowed and slow_from <= step < slow_to:
            seconds *= slow_times
            power_w *= slow_power
        at_s += seconds
        energy_j += seconds * power_w
        yield Report(step, total, at_s, energy_j, evaluates_each, evaluation_steps)
        if step % evaluates_each == 0:
            at_s += evaluation_s
            energy_j += evaluation_s * evaluation_w
        if step % saves_each == 0:
            at_s += save_s
            energy_j += save_s * 0.3 * watts
