"""A monitor's socket that remembers what training code told it, and what tests of the client share."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from carbonmon.service.socket.peer import Peer
from carbonmon.service.socket.request import RequestError
from carbonmon.service.socket.server import ControlServer

DEADLINE_S = 20.0


class Fake:
    """A monitor that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.left: list[Peer] = []
        self.refuse_join: list[RequestError] = []
        self.silent = False
        self.energy_j = 12.5
        self.windows: dict[int, dict[str, Any]] = {}
        self.last_words: dict[str, Any] = {}

    def handle(self, peer: Peer, message: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        self.heard.append(message | {"pid": peer.pid})
        if message["op"] == "join" and self.refuse_join:
            raise self.refuse_join.pop(0)
        if self.silent:
            return
        if message["op"] == "join":
            answer({"run_id": message.get("run_id") or "made-up", "folder": "/runs/made-up", "places": []})
        elif message["op"] == "snapshot":
            answer({"energy_j": self.energy_j, "phase": "train"})
        elif message["op"] == "window":
            answer({"window": self.windows.get(message["window"])})
        elif message["op"] == "leave":
            answer({"last": True, **self.last_words})

    def on_disconnect(self, peer: Peer) -> None:
        self.left.append(peer)

    def of(self, op: str) -> list[dict[str, Any]]:
        return [message for message in self.heard if message["op"] == op]

    @property
    def phases(self) -> list[str | None]:
        return [message["name"] for message in self.of("phase")]


@contextmanager
def serving(path: Path, fake: Fake) -> Iterator[ControlServer]:
    server = ControlServer(path, fake)
    server.start()
    try:
        yield server
    finally:
        server.close()


def until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come"
        time.sleep(0.002)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def in_child(call: Callable[[], object]) -> int:
    """The exit code of a forked child that calls and ends: 0 if nothing was raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child starts no thread
        child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            call()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
