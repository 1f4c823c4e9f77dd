"""`run.should_stop`: what the monitor told last, asked for without waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import carbonmon
from carbonmon.client import part
from carbonmon.service.socket.peer import Peer
from carbonmon.service.socket.request import RequestError
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import Fake, until, warned


class Stopping(Fake):
    """A monitor that knows when training is to stop; None: it is of an earlier release."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: dict[str, Any] | None = {"stop": False, "stop_at_step": None}

    def handle(self, peer: Peer, message: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        super().handle(peer, message, answer)
        if message["op"] == "stopping" and not self.silent:
            if self.answer is None:
                raise RequestError("op 'stopping' is unknown")
            answer(self.answer)


@pytest.fixture
def fake() -> Stopping:
    return Stopping()


@pytest.fixture(autouse=True)
def asks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "STOP_S", 0.0)


def test_training_stops_at_the_step_that_the_monitor_named(server: ControlServer, fake: Stopping):
    with carbonmon.track() as run:
        run.progress(5)
        assert run.should_stop is False
        fake.answer = {"stop": True, "stop_at_step": 7}
        until(lambda: run.should_stop or run._part._joined.connection.heard.get("stop"), "the stop")  # type: ignore[union-attr]
        assert run.should_stop is False, "the step is to come"
        run.progress(7)
        assert run.should_stop is True
        run.progress(9)
        assert run.should_stop is True


def test_without_a_step_it_is_at_once(server: ControlServer, fake: Stopping):
    with carbonmon.track() as run:
        fake.answer = {"stop": True, "stop_at_step": None}
        until(lambda: run.should_stop, "the stop")
    assert run.should_stop is False, "the run is over"


def test_who_tells_steps_waits_for_the_step_to_be_named(server: ControlServer, fake: Stopping):
    with carbonmon.track() as run:
        run.progress(5)
        fake.answer = {"stop": True, "stop_at_step": None}
        until(lambda: run.should_stop or run._part._joined.connection.heard.get("stop"), "the stop")  # type: ignore[union-attr]
        assert run.should_stop is False, "else the ranks would stop at different steps"
        fake.answer = {"stop": True, "stop_at_step": 5}
        until(lambda: run.should_stop, "the named step")


def test_a_monitor_that_hangs_is_not_waited_for(server: ControlServer, fake: Stopping):
    with carbonmon.track() as run:
        fake.silent = True
        began_s = time.monotonic()
        for _ in range(1000):
            assert run.should_stop is False
        assert time.monotonic() - began_s < 1.0
        fake.silent = False


def test_a_monitor_of_an_earlier_release_never_stops_and_nobody_is_warned(
    server: ControlServer, fake: Stopping, caplog: pytest.LogCaptureFixture
):
    fake.answer = None
    with carbonmon.track() as run:
        assert run.should_stop is False
        until(lambda: fake.of("stopping"), "the question")
        until(lambda: not run.should_stop and run._part._joined.connection._asked_id is None, "the answer")  # type: ignore[union-attr]
    assert not [text for text in warned(caplog) if "stopping" in text]


@pytest.mark.usefixtures("clean")
def test_without_a_monitor_training_goes_on():
    with carbonmon.track() as run:
        assert run.should_stop is False


def test_it_is_asked_once_a_second(server: ControlServer, fake: Stopping, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(part, "STOP_S", 60.0)
    with carbonmon.track() as run:
        for _ in range(100):
            assert run.should_stop is False
    assert len(fake.of("stopping")) == 1


def test_what_a_snapshot_says_counts_too(server: ControlServer, fake: Stopping):
    with carbonmon.track() as run:
        run._part._learn({"stop": True, "stop_at_step": 3})
        run.progress(2)
        assert run.should_stop is False
        run.progress(3)
        assert run.should_stop is True
