"""What holds of every timeline, wherever its slots and gaps are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.timeline import Slot, Timeline

TIMES = st.integers(0, 400).map(float)
VALUES = st.floats(-500, 5000, allow_nan=False)


@st.composite
def slot_lists(draw: st.DrawFn) -> list[Slot]:
    """Slots in order that do not overlap; where two bounds are far apart there may be a gap."""
    bounds = sorted(draw(st.sets(TIMES, max_size=24)))
    kept = [pair for pair in pairwise(bounds) if draw(st.booleans())]
    return [Slot(start_s, end_s, draw(VALUES)) for start_s, end_s in kept]


TIMELINES = slot_lists().map(Timeline)
STRETCHES = st.tuples(TIMES, TIMES, TIMES).map(sorted)


def by_second(timeline: Timeline, start_s: float, end_s: float, otherwise: float) -> float:
    """The mean, by adding up second after second: all bounds are whole seconds."""
    total = 0.0
    for second in range(int(start_s), int(end_s)):
        slot = timeline.at(second)
        total += otherwise if slot is None else slot.value
    return total / (end_s - start_s)


@given(TIMELINES, STRETCHES, VALUES)
def test_the_mean_is_that_of_all_seconds(timeline: Timeline, stretch: list[float], otherwise: float):
    start_s, _, end_s = stretch
    if end_s > start_s:
        assert timeline.mean(start_s, end_s, lambda *_: otherwise) == pytest.approx(
            by_second(timeline, start_s, end_s, otherwise), abs=1e-6
        )


@given(TIMELINES, STRETCHES, VALUES)
def test_cutting_a_stretch_in_two_changes_nothing(timeline: Timeline, stretch: list[float], otherwise: float):
    a, b, c = stretch

    def sum_of(start_s: float, end_s: float) -> float:
        return timeline.mean(start_s, end_s, lambda *_: otherwise) * (end_s - start_s)

    assert sum_of(a, b) + sum_of(b, c) == pytest.approx(sum_of(a, c), abs=1e-6)


@given(TIMELINES, STRETCHES)
def test_the_pieces_of_a_stretch_are_all_of_it_and_holes_are_where_nothing_is_in_force(
    timeline: Timeline, stretch: list[float]
):
    start_s, _, end_s = stretch
    at_s = start_s
    for from_s, to_s, slot in timeline.pieces(start_s, end_s):
        assert from_s == at_s < to_s
        assert timeline.at(from_s) is slot
        assert timeline.at((from_s + to_s) / 2) is slot
        at_s = to_s
    assert at_s == end_s


@given(TIMELINES, slot_lists(), st.integers(-1, 401))
def test_after_merging_the_newer_slot_is_in_force_where_there_is_one_else_the_older(
    timeline: Timeline, newer: list[Slot], second: int
):
    wall_s = second + 0.5
    merged = timeline.merged(newer)
    expected = Timeline(newer).at(wall_s) or timeline.at(wall_s)
    found = merged.at(wall_s)
    assert (None if found is None else found.value) == (None if expected is None else expected.value)


@given(TIMELINES, slot_lists(), TIMES)
def test_merging_forgets_nothing_that_ends_later_than_it_was_told(
    timeline: Timeline, newer: list[Slot], since_s: float
):
    whole, short = timeline.merged(newer), timeline.merged(newer, since_s)
    assert list(short.slots) == [slot for slot in whole.slots if slot.end_s > since_s]


@given(TIMELINES)
def test_merging_a_timeline_with_itself_changes_nothing(timeline: Timeline):
    assert timeline.merged(timeline.slots).slots == timeline.slots
