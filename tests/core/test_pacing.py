"""How often something may be done, and when to try again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.pacing import Backoff, TokenBucket


def test_a_bucket_is_full_at_first_and_fills_again_with_time():
    bucket = TokenBucket(2.0, 3.0, now_s=10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert bucket.take(10.25) == pytest.approx(0.25), "what is refused costs nothing"
    assert bucket.take(10.5) == 0.0


def test_a_large_take_leaves_a_debt_that_is_waited_for():
    bucket = TokenBucket(1.0, 2.0, now_s=0.0)
    assert bucket.take(0.0, 5.0) == 0.0
    assert bucket.take(0.0) == pytest.approx(4.0)


@given(st.lists(st.floats(0.0, 10.0), max_size=50))
def test_no_more_than_the_burst_and_the_rate_is_ever_given(pauses_s: list[float]):
    bucket, now_s, taken = TokenBucket(3.0, 5.0, 0.0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        while not bucket.take(now_s):
            taken += 1
        assert taken <= 5.0 + 3.0 * now_s + 1e-6


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_success():
    backoff = Backoff(1.0, 5.0)
    assert [backoff.wait_s() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    backoff.reset()
    assert backoff.at_s == float("-inf")
    backoff.schedule(100.0)
    assert backoff.at_s == 101.0
    backoff.schedule(101.0)
    assert backoff.at_s == 103.0
