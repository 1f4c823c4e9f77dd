"""When a job is paused: above a limit, not again for a while, and never by what nobody knows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.pauses import LEAST_RUN_S, PauseClock, PauseRule

LIMIT = 300.0


def test_a_job_stands_still_above_the_limit_and_goes_on_at_it():
    rule = PauseRule(LIMIT)
    assert [rule.look(at_s, g) for at_s, g in enumerate((300.0, 300.1, 900.0, 300.0))] == [
        False, True, True, False,
    ]  # fmt: skip


def test_what_is_not_known_pauses_nothing_and_ends_a_pause():
    rule = PauseRule(LIMIT)
    assert not rule.look(0.0, None)
    assert rule.look(1.0, 400.0)
    assert not rule.look(2.0, None)


def test_an_intensity_around_the_limit_does_not_stop_a_job_again_for_five_minutes():
    rule = PauseRule(LIMIT)
    assert rule.look(0.0, 301.0)
    assert not rule.look(10.0, 299.0)
    assert not rule.look(10.0 + LEAST_RUN_S - 0.1, 301.0)
    assert rule.look(10.0 + LEAST_RUN_S, 301.0)


def test_a_job_that_is_to_end_is_not_paused_any_more():
    rule = PauseRule(LIMIT)
    assert rule.look(0.0, 301.0)
    rule.release(1.0, for_good=True)
    assert not rule.look(1e6, 900.0)


@given(st.lists(st.tuples(st.floats(0.0, 600.0), st.one_of(st.none(), st.floats(0.0, 900.0))), max_size=40))
def test_a_job_runs_for_five_minutes_between_two_pauses(steps: list[tuple[float, float | None]]):
    rule, now_s, was_paused, went_on_s = PauseRule(LIMIT), 0.0, False, None
    for seconds, g_per_kwh in steps:
        now_s += seconds
        is_paused = rule.look(now_s, g_per_kwh)
        assert not (is_paused and (g_per_kwh is None or g_per_kwh <= LIMIT))
        if is_paused and not was_paused and went_on_s is not None:
            assert now_s - went_on_s >= LEAST_RUN_S
        if was_paused and not is_paused:
            went_on_s = now_s
        was_paused = is_paused


def test_pauses_are_counted_and_timed_also_those_of_an_earlier_monitor():
    clock = PauseClock()
    assert clock.state(5.0) is None, "of a run that nobody pauses"
    clock.begin(LIMIT)
    clock.change(10.0, True)
    clock.change(11.0, True)
    state = clock.state(14.0)
    assert state == (LIMIT, 1, 4.0, True)
    clock.change(16.0, False)
    assert clock.state(99.0) == (LIMIT, 1, 6.0, False)
    later = PauseClock(state)
    later.begin(200.0)
    assert later.state(1000.0) == (200.0, 1, 4.0, False), "who resumes it has it running"
