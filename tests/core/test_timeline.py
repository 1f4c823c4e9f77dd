"""Slots in time: what is in force, what is a gap, and the mean over a stretch."""

from __future__ import annotations

import math

import pytest

from carbonmon.core.timeline import Slot, Timeline
from tests.support.rows import for_each_row

HOUR_S = 3600.0
DAY = Timeline([Slot(0, HOUR_S, 100), Slot(HOUR_S, 2 * HOUR_S, 200), Slot(3 * HOUR_S, 4 * HOUR_S, 400)])


def unused(start_s: float, end_s: float) -> float:
    raise AssertionError(f"no gap from {start_s} to {end_s}")


@for_each_row(
    ("wall_s", "value"),
    [(-1, None), (0, 100), (3599.999, 100), (3600, 200), (7200, None), (10_800, 400), (14_400, None)],
)
def test_a_slot_is_in_force_from_its_start_until_right_before_its_end(wall_s: float, value: float | None):
    slot = DAY.at(wall_s)
    assert (None if slot is None else slot.value) == value


def test_before_and_after_name_the_neighbours_of_a_moment():
    assert DAY.before(-1) is None
    assert DAY.before(8000) == DAY.slots[1]
    assert DAY.after(8000) == DAY.slots[2]
    assert DAY.after(0) == DAY.slots[1]
    assert DAY.after(10_800) is None
    assert Timeline().before(0) is Timeline().after(0) is None


def test_the_mean_weighs_each_slot_by_its_part_of_the_stretch():
    assert DAY.mean(1800, 2 * HOUR_S, unused) == pytest.approx((100 * 1800 + 200 * 3600) / 5400)


def test_within_one_slot_the_mean_is_its_value_to_the_last_bit():
    timeline = Timeline([Slot(0, 1e9, 0.1)])
    assert timeline.mean(1 / 3, 1e9 / 7, unused) == 0.1


def test_the_mean_of_no_time_is_what_is_in_force():
    assert DAY.mean(3600, 3600, unused) == 200
    assert DAY.mean(7200, 7200, lambda *_: 5.0) == 5.0


def test_each_hole_is_asked_for_once_with_its_bounds():
    asked = []

    def otherwise(start_s: float, end_s: float) -> float:
        asked.append((start_s, end_s))
        return 0.0

    mean = DAY.mean(-10, 5 * HOUR_S, otherwise)
    assert asked == [(-10, 0), (7200, 10_800), (14_400, 18_000)] == DAY.gaps(-10, 5 * HOUR_S)
    assert mean == pytest.approx(700 * HOUR_S / (5 * HOUR_S + 10))


def test_a_timeline_without_slots_is_one_hole():
    assert Timeline().mean(0, 10, lambda *_: 7.0) == 7.0
    assert Timeline().gaps(0, 10) == [(0, 10)]
    assert Timeline().gaps(10, 10) == []


@pytest.mark.parametrize(
    "slots",
    [
        [Slot(10, 10, 1)],
        [Slot(10, 5, 1)],
        [Slot(0, 10, 1), Slot(5, 15, 1)],
        [Slot(10, 20, 1), Slot(0, 10, 1)],
        [Slot(math.nan, 10, 1)],
        [Slot(0, math.inf, 1)],
    ],
)
def test_slots_that_are_out_of_order_overlap_or_have_no_bounds_are_refused(slots: list[Slot]):
    with pytest.raises(ValueError, match="out of order, overlaps or is empty"):
        Timeline(slots)


def test_newer_slots_take_the_place_of_what_they_overlap_and_leave_the_rest():
    merged = DAY.merged([Slot(1800, 5400, 7, "forecast")])
    assert merged.slots == (
        Slot(0, 1800, 100),
        Slot(1800, 5400, 7, "forecast"),
        Slot(5400, 7200, 200),
        Slot(10_800, 14_400, 400),
    )


def test_slots_that_ended_before_the_given_time_are_dropped_when_merging():
    assert DAY.merged([], since_s=3600).slots == DAY.slots[1:]


def test_the_same_slot_twice_is_once_and_two_different_ones_at_a_time_are_refused():
    assert Timeline().merged([Slot(0, 1, 5), Slot(0, 1, 5)]).slots == (Slot(0, 1, 5),)
    with pytest.raises(ValueError, match="overlaps"):
        Timeline().merged([Slot(0, 1, 5), Slot(0, 1, 6)])
