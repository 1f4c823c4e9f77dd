"""A thread of its own: what is closed and used again at once."""

from __future__ import annotations

import threading

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


def test_where_no_thread_may_be_started_the_call_is_made_in_place(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OwnThread, "are_allowed", False)
    called_in: list[threading.Thread] = []
    assert OwnThread("driver").run(lambda: called_in.append(threading.current_thread()))
    assert called_in == [threading.current_thread()]
    assert not OwnThread("meter", wait_s=0.0).run(lambda: called_in.clear()), "never waited for: not called"
    assert called_in
