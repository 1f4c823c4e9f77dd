"""Phases over time: nested, repeated, several at once, too many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import MAIN_PHASE, OTHER_PHASE
from carbonmon.core.phases import MAX_CHANGES, MAX_PHASES, Phases


def test_a_run_begins_in_main():
    phases = Phases(10.0)
    assert phases.now == ((MAIN_PHASE, 1.0),)
    assert phases.seconds(12.5) == ((MAIN_PHASE, 2.5),)


def test_an_interval_across_a_change_is_split_by_time():
    phases = Phases(0.0)
    phases.change(4.0, ["train"])
    assert dict(phases.split(0.0, 10.0)) == {MAIN_PHASE: pytest.approx(0.4), "train": pytest.approx(0.6)}
    assert phases.split(4.0, 10.0) == (("train", 1.0),)


def test_repeated_phases_add_up():
    phases = Phases(0.0)
    for begin_s in (1.0, 5.0):
        phases.change(begin_s, ["train"])
        phases.change(begin_s + 2.0, [])
    assert dict(phases.seconds(10.0)) == {MAIN_PHASE: 6.0, "train": 4.0}
    assert dict(phases.split(0.0, 10.0)) == {MAIN_PHASE: pytest.approx(0.6), "train": pytest.approx(0.4)}


def test_participants_in_different_phases_share_the_time():
    phases = Phases(0.0)
    phases.change(0.0, ["train", "train", "train", "eval"])
    assert dict(phases.split(0.0, 2.0)) == {"train": 0.75, "eval": 0.25}
    assert dict(phases.seconds(4.0)) == {MAIN_PHASE: 0.0, "train": 3.0, "eval": 1.0}


def test_beyond_64_names_everything_is_other():
    phases = Phases(0.0)
    for number in range(MAX_PHASES + 10):
        phases.change(float(number), [f"p{number}"])
    names = {name for name, _ in phases.seconds(100.0)}
    assert len(names - {MAIN_PHASE, OTHER_PHASE}) == MAX_PHASES
    assert phases.overflowed
    assert phases.now == ((OTHER_PHASE, 1.0),)
    phases.change(200.0, ["p3"])
    assert phases.now == (("p3", 1.0),), "a name that is known stays known"


def test_a_change_that_claims_to_be_older_than_the_last_is_as_old_as_it():
    phases = Phases(0.0)
    phases.change(5.0, ["a"])
    phases.change(3.0, ["b"])
    assert dict(phases.split(0.0, 10.0)) == {MAIN_PHASE: 0.5, "b": 0.5}


def test_durations_go_on_from_an_earlier_monitor_s():
    phases = Phases(100.0, "train")
    phases.restore([(MAIN_PHASE, 5.0), ("train", 7.0)])
    assert dict(phases.seconds(103.0)) == {MAIN_PHASE: 5.0, "train": 10.0}


def test_ten_thousand_changes_are_not_remembered_for_ever_and_lose_no_second():
    phases = Phases(0.0)
    for number in range(10 * MAX_CHANGES):
        phases.change(number * 0.001, [f"p{number % 7}"])
    assert sum(seconds for _, seconds in phases.seconds(50.0)) == pytest.approx(50.0)
    assert sum(ratio for _, ratio in phases.split(0.0, 50.0)) == pytest.approx(1.0)


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.lists(st.sampled_from("abc"), max_size=4)), max_size=20),
    st.floats(0.0, 60.0),
    st.floats(0.0, 60.0),
)
def test_the_parts_of_any_stretch_of_time_add_up_to_it(
    steps: list[tuple[float, list[str]]], one_s: float, other_s: float
):
    phases = Phases(0.0)
    at_s = 0.0
    for step_s, names in steps:
        at_s += step_s
        phases.change(at_s, names)
    begin_s, end_s = sorted((one_s, other_s))
    parts = phases.split(begin_s, end_s)
    assert sum(ratio for _, ratio in parts) == pytest.approx(1.0)
    assert all(ratio >= 0.0 for _, ratio in parts)
    assert sum(seconds for _, seconds in phases.seconds(at_s + 1.0)) == pytest.approx(at_s + 1.0)


@given(st.lists(st.floats(0.1, 3.0), min_size=1, max_size=10), st.floats(0.1, 0.9))
def test_splitting_an_interval_changes_no_phase_s_part(steps: list[float], where: float):
    phases = Phases(0.0)
    at_s = 0.0
    for number, step_s in enumerate(steps):
        at_s += step_s
        phases.change(at_s, ["ab"[number % 2]])
    middle_s = where * at_s
    whole = {name: ratio * at_s for name, ratio in phases.split(0.0, at_s)}
    halves: dict[str, float] = {}
    for begin_s, end_s in ((0.0, middle_s), (middle_s, at_s)):
        for name, ratio in phases.split(begin_s, end_s):
            halves[name] = halves.get(name, 0.0) + ratio * (end_s - begin_s)
    assert halves == {name: pytest.approx(seconds, abs=1e-9) for name, seconds in whole.items()}


def test_a_run_that_is_held_is_in_one_phase_and_then_in_those_that_were_told_meanwhile():
    phases = Phases(0.0)
    phases.change(1.0, ["train"])
    phases.hold(3.0, "paused")
    phases.change(4.0, ["eval"])
    assert phases.now == (("paused", 1.0),)
    phases.hold(6.0, None)
    assert phases.now == (("eval", 1.0),)
    assert dict(phases.seconds(10.0)) == {MAIN_PHASE: 1.0, "train": 2.0, "paused": 3.0, "eval": 4.0}


def test_a_run_that_was_held_before_anything_was_told_goes_on_in_main():
    phases = Phases(0.0)
    phases.hold(1.0, "paused")
    phases.hold(2.0, None)
    assert dict(phases.seconds(3.0)) == {MAIN_PHASE: 2.0, "paused": 1.0}
