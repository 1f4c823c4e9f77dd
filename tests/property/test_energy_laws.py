"""Laws of the meter that hold for every history of readings."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core import energy
from carbonmon.core.energy import Limits
from carbonmon.core.model import Device, Failure, Interval, Meter, Reading, Spec, Uncertainty

LIMITS = Limits(hold_s=3.0, max_gap_s=10.0)
SPEC = Spec(300.0, Uncertainty(0.5, 1.0, "test"), "test")
RANGE_UJ = 65_532_610_987

POWER_W = st.floats(0.0, 400.0)
STEP_S = st.floats(0.01, 2.0)
SAID = st.sampled_from(["all", "no counter", "utilisation", "nothing"])


def device(range_uj: int | None) -> Device:
    return Device(
        "d",
        "gpu",
        "d",
        methods=("counter", "power", "tdp"),
        counter_range_uj=range_uj,
        max_power_w=400.0,
        spec=SPEC,
    )


def play(
    metered: Device, steps: list[tuple[float, float, str]], start_uj: int, range_uj: int | None
) -> tuple[list[Interval], float, Meter]:
    """Meter a history of (duration s, power W, what is said); the intervals, the true joules, the last meter.

    The last reading says everything, so that a counter has the last word.
    """
    true_j, at_s = 0.0, 100.0
    meter = energy.start(metered, reading(metered, start_uj, 0.0, "all", range_uj, 0.0), at_s)
    intervals: list[Interval] = []
    for number, (step_s, power_w, said) in enumerate(steps):
        at_s += step_s
        true_j += step_s * power_w
        last = number == len(steps) - 1
        meter, interval = energy.advance(
            meter,
            metered,
            reading(metered, start_uj, true_j, "all" if last else said, range_uj, power_w),
            at_s,
            LIMITS,
        )
        if interval is not None:
            intervals.append(interval)
    end = energy.finish(meter, metered, at_s)
    return intervals + ([end] if end is not None else []), true_j, meter


def reading(
    metered: Device, start_uj: int, true_j: float, said: str, range_uj: int | None, power_w: float
) -> Reading | Failure:
    counter_uj = start_uj + round(true_j * 1e6)
    if range_uj is not None:
        counter_uj %= range_uj + 1
    if said == "nothing":
        return Failure(metered.id, "test")
    if said == "utilisation":
        return Reading(metered.id, utilization_ratio=0.4)
    if said == "no counter":
        return Reading(metered.id, power_w=power_w, utilization_ratio=0.4)
    return Reading(metered.id, counter_uj, power_w, None, power_w / 1e4)


STEPS = st.lists(st.tuples(STEP_S, POWER_W, SAID), min_size=1, max_size=60)


@given(STEPS, st.integers(0, RANGE_UJ))
def test_a_surviving_counter_s_total_is_the_truth_plus_what_the_lower_rungs_still_owe(
    steps: list[tuple[float, float, str]], start_uj: int
):
    intervals, true_j, last = play(device(None), steps, start_uj, None)
    total_j = sum(interval.energy_j for interval in intervals)
    lower_j = sum(interval.power_j + interval.tdp_j for interval in intervals)
    assert abs(total_j - true_j - last.ahead_j) < 1e-3, "no joule is lost, and none is counted twice"
    assert 0.0 <= last.ahead_j <= lower_j + 1e-3, "only lower rungs that were too high owe anything"
    assert sum(interval.unobserved_s for interval in intervals) == 0.0


@given(st.lists(st.tuples(STEP_S, POWER_W), min_size=1, max_size=60), st.integers(0, RANGE_UJ))
def test_a_counter_may_wrap_at_any_point(steps: list[tuple[float, float]], start_uj: int):
    history = [(step_s, power_w, "all") for step_s, power_w in steps]
    intervals, true_j, _ = play(device(RANGE_UJ), history, start_uj, RANGE_UJ)
    assert abs(sum(interval.energy_j for interval in intervals) - true_j) < 1e-3
    assert all(interval.resets == 0 and interval.jumps == 0 for interval in intervals)


@given(STEPS, st.integers(0, RANGE_UJ))
def test_intervals_are_never_negative_and_follow_one_another_without_a_hole(
    steps: list[tuple[float, float, str]], start_uj: int
):
    intervals, _, _ = play(device(RANGE_UJ), steps, start_uj, RANGE_UJ)
    at_s = 100.0
    for interval in intervals:
        assert min(interval.counter_j, interval.power_j, interval.tdp_j, interval.unobserved_s) >= 0.0
        assert interval.start_s == at_s
        assert interval.end_s >= interval.start_s
        at_s = interval.end_s


@given(
    st.lists(st.tuples(st.floats(0.02, 2.0), POWER_W), min_size=1, max_size=20),
    st.integers(2, 5),
    st.sampled_from(["counter", "power", "tdp"]),
)
def test_splitting_an_interval_changes_nothing(steps: list[tuple[float, float]], parts: int, method: str):
    """Reading more often, while power stays the same, gives the same energy by every method."""

    def total(pieces: int) -> float:
        metered = device(None)
        at_s, true_j = 0.0, 0.0
        power_w = steps[0][1]
        meter = energy.start(metered, said(0.0, power_w), at_s)
        energy_j = 0.0
        for step_s, power_w in steps:
            meter = meter._replace(
                fallback=meter.fallback._replace(last_w=power_w if method == "power" else None)
            )
            for _ in range(pieces):
                at_s += step_s / pieces
                true_j += power_w * step_s / pieces
                meter, interval = energy.advance(meter, metered, said(true_j, power_w), at_s, LIMITS)
                if interval is not None:
                    energy_j += interval.energy_j
        return energy_j

    def said(true_j: float, power_w: float) -> Reading:
        if method == "counter":
            return Reading("d", round(true_j * 1e6))
        if method == "power":
            return Reading("d", power_w=power_w)
        return Reading("d", utilization_ratio=power_w / SPEC.tdp_w)

    assert abs(total(1) - total(parts)) < 1e-3


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=40))
def test_no_sequence_of_counter_values_lets_a_total_fall_or_exceed_what_is_plausible(values: list[int]):
    metered = device(None)
    meter = energy.start(metered, Reading("d", values[0]), 0.0)
    for second, value in enumerate(values[1:], 1):
        before_s = meter.settled_s
        meter, interval = energy.advance(meter, metered, Reading("d", value), float(second), LIMITS)
        if interval is not None:
            assert 0.0 <= interval.energy_j <= 400.0 * (second - before_s + 1.0)


GLITCHES = st.lists(
    st.tuples(st.integers(2, 58), st.integers(1, 2), st.floats(5000.0, 1e7), st.booleans()), max_size=3
)


@given(st.lists(st.floats(20.0, 400.0), min_size=60, max_size=60), GLITCHES, st.booleans())
def test_glitches_of_a_counter_change_no_joule_and_each_is_counted(
    powers_w: list[float], glitches: list[tuple[int, int, float, bool]], wraps: bool
):
    """A glitch is up to two values below the line, or one above it."""
    metered = device(RANGE_UJ if wraps else None)
    offsets_uj = {}
    for begin, values, offset_j, is_jump in glitches:
        odd = range(begin, begin + (1 if is_jump else values))
        if not any(at in offsets_uj for at in range(odd.start - 3, odd.stop + 3)):
            offsets_uj.update(dict.fromkeys(odd, round(offset_j * 1e6) * (1 if is_jump else -1)))
    start_uj = 2 * 10**13
    true_j, meter = 0.0, energy.start(metered, Reading("d", start_uj), 0.0)
    intervals: list[Interval] = []
    for second, power_w in enumerate(powers_w, 1):
        true_j += power_w
        value = max(0, start_uj + round(true_j * 1e6) + offsets_uj.get(second, 0))
        meter, interval = energy.advance(meter, metered, Reading("d", value), float(second), LIMITS)
        intervals += [interval] if interval is not None else []
    if 60 not in offsets_uj:
        assert sum(interval.counter_j for interval in intervals) == pytest.approx(true_j, abs=1e-3)
        assert sum(interval.unobserved_s for interval in intervals) == 0.0
        counted = sum(interval.step_backs + interval.jumps for interval in intervals)
        assert counted == len(offsets_uj)
        assert sum(interval.resets for interval in intervals) == 0


@given(st.lists(st.tuples(st.floats(0.0, 160.0), st.booleans()), min_size=12, max_size=60))
def test_a_counter_that_stands_still_while_the_device_works_never_lets_a_joule_be_counted_twice(
    steps: list[tuple[float, bool]],
):
    """Whatever it stands still for, the total stays between what the counter says and all that was drawn."""
    metered = device(None)
    counter_j = true_j = 0.0
    meter = energy.start(metered, Reading("d", 0, 100.0, None, 0.5), 0.0)
    total_j = 0.0
    for second, (power_w, moves) in enumerate(steps, 1):
        true_j += power_w
        counter_j = true_j if moves else counter_j
        said = Reading("d", round(counter_j * 1e6), power_w, None, 0.5)
        meter, interval = energy.advance(meter, metered, said, float(second), LIMITS)
        total_j += interval.energy_j if interval is not None else 0.0
    end = energy.finish(meter, metered, float(len(steps)))
    total_j += end.energy_j if end is not None else 0.0
    trapezoid_error_j = sum(abs(a - b) for (a, _), (b, _) in pairwise([(100.0, True), *steps]))
    assert total_j >= counter_j - 1e-3
    assert total_j <= true_j + trapezoid_error_j + 1e-3
