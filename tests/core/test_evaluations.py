"""Announced evaluations: how many are still to come, and what they take before and after one was seen."""

from __future__ import annotations

import pytest

from carbonmon.core.evaluations import DOUBT_TIMES, FORWARD_RATIO, Evaluations
from carbonmon.core.pace import FIRST, Pace


@pytest.mark.parametrize(
    ("step", "next_step", "number"),
    [(0, 10, 0), (0, 11, 1), (10, 11, 1), (11, 20, 0), (10, 31, 3), (5, 5, 0)],
)
def test_an_evaluation_comes_behind_its_step_and_before_the_next_one(
    step: float, next_step: float, number: float
):
    assert Evaluations(10, None).between(step, next_step) == number


@pytest.mark.parametrize(("step", "steps", "number"), [(0, 35, 3), (10, 25, 3), (11, 24, 2), (36, 3, 0)])
def test_those_that_are_left_are_counted(step: float, steps: float, number: float):
    low, expected, high = Evaluations(10, 6.0).left(1, step, steps, of_a_step=100.0)
    assert expected == pytest.approx(number * 6.0 * 100.0 * FORWARD_RATIO)
    assert (low, high) == (pytest.approx(expected / DOUBT_TIMES), pytest.approx(expected * DOUBT_TIMES))


def test_one_that_comes_with_the_last_step_may_be_left_out():
    seen = Evaluations(10, None)
    seen.see(1, 2.0, 50.0)
    low, expected, _ = seen.left(1, 5, 25, of_a_step=100.0)
    assert (low, expected) == (pytest.approx(2 * 50.0 * 0.75), 3 * 50.0)


def test_without_a_length_nothing_is_invented_and_one_that_was_seen_tells_it():
    evaluations = Evaluations(10, None)
    assert evaluations.left(0, 0, 100, of_a_step=1.0) == (0.0, 0.0, 0.0)
    evaluations.see(2, 8.0, 100.0)
    low, expected, high = evaluations.left(0, 21, 14, of_a_step=1.0)
    assert low < expected == 4.0 < high


def test_the_pace_takes_an_announced_evaluation_for_no_slow_step():
    def trained(*, announced: bool) -> Pace:
        pace, at_s, energy_j = Pace(), 0.0, 0.0
        if announced:
            pace.announce(30, 24.0)
        for step in range(41):
            pace.see(at_s, energy_j, step)
            at_s, energy_j = at_s + 1.0, energy_j + 100.0
            if step == 30:
                at_s, energy_j = at_s + 8.0, energy_j + 400.0
        return pace

    pace = trained(announced=True)
    left = pace.left(60)  # behind the steps 60 and 90
    assert left is not None
    assert left[1].expected == pytest.approx(60 * 100.0 + 2 * 400.0)
    assert left[0].expected == pytest.approx(60.0 + 2 * 8.0)
    assert pace.dearest_pause == (8.0, 400.0)
    other = trained(announced=False).left(60)
    assert other is not None
    assert left[1].high - left[1].low < 0.5 * (other[1].high - other[1].low)


def test_an_announced_evaluation_is_in_the_forecast_before_it_was_seen():
    pace = Pace()
    pace.announce(50, 30.0)
    for step in range(FIRST + 2):
        pace.see(step, 100.0 * step, step)
    left = pace.left(100 - FIRST - 1)
    assert left is not None
    assert left[1].expected == pytest.approx((100 - FIRST - 1) * 100.0 + 2 * 10 * 100.0)


def test_an_evaluation_that_is_too_short_to_be_seen_is_not_counted_beside_its_steps():
    pace = Pace()
    pace.announce(5, 30.0)
    for step in range(41):
        pace.see(step, 100.0 * step, step)
    left = pace.left(60)
    assert left is not None
    assert left[1].expected == pytest.approx(60 * 100.0)


def test_what_is_announced_late_is_not_counted_twice():
    pace, at_s, energy_j = Pace(), 0.0, 0.0
    for step in range(61):
        pace.see(at_s, energy_j, step)
        if step == 25:
            pace.announce(20, None)
            pace.announce(20, 5.0)
        at_s, energy_j = at_s + 1.0, energy_j + 100.0
        if step and step % 20 == 0:
            at_s, energy_j = at_s + 10.0, energy_j + 500.0
    left = pace.left(40)  # behind the steps 60, 80 and 100
    assert left is not None
    assert left[1].expected == pytest.approx(40 * 100.0 + 3 * 500.0)
