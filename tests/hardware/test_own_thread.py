"""A thread of its own: what is closed and used again at once."""

from __future__ import annotations

import pytest

from carbonmon.hardware.own_thread import OwnThread


def test_a_thread_that_is_closed_may_be_used_again_at_once_and_makes_each_call_once():
    calls: list[int] = []
    own = OwnThread("test", wait_s=30.0)
    for number in range(500):
        assert own.run(lambda number=number: calls.append(number))  # type: ignore[misc]
        own.close()
    assert calls == list(range(500))


def test_a_call_that_fails_is_over_and_the_next_one_is_made(caplog: pytest.LogCaptureFixture):
    own = OwnThread("test", wait_s=30.0)
    assert own.run(lambda: 1 / 0)
    calls: list[str] = []
    assert own.run(lambda: calls.append("next"))
    own.close()
    assert calls == ["next"]
    assert "a call of test failed" in caplog.text
