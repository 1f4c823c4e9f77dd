"""The training process's end of the socket: it tells without waiting, and asks with a time-out.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from carbonmon.client.protocol import encode
from carbonmon.client.rendezvous import connect

log = logging.getLogger("carbonmon")

ANSWER_S = 30.0
"""How long a command waits for an answer: the end of a run is answered when its summary is written."""

RETRY_S = 10.0
"""After a lost connection the monitor is looked for at most so often …"""
RECONNECT_S = 0.05
"""… and for no longer than this."""

_warned: set[str] = set()


def warn_once(kind: str, text: str, *values: object) -> None:
    """Warn of each kind of trouble once in a process: a training loop meets the same one at every step."""
    if kind not in _warned:
        _warned.add(kind)
        log.warning(text, *values)


class Refused(Exception):
    """The monitor answered that it will not; `retry` if it soon will."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("error") or "no reason was given"))
        self.retry = bool(answer.get("retry"))


class Link:
    """A connection to the monitor at `path`, made again if it is lost; for any thread.

    `join` is what a new connection begins with, and `resume` tells what is to follow it after a loss.
    Two locks: one for sending, held for microseconds, and one for whoever waits for an answer.
    """

    def __init__(self, path: Path, connection: socket.socket, join: dict[str, Any]) -> None:
        self.path = path
        self.join = join
        self.resume: Callable[[], list[dict[str, Any]]] = list
        connection.setblocking(False)
        self._socket: socket.socket | None = connection
        self._sending = threading.RLock()  # re-entrant: a signal handler may change the phase
        self._asking = threading.RLock()
        self._ids = itertools.count(1)
        self._heard = bytearray()
        self._tail = b""
        self._tried_s = -math.inf
        self._join_id = 0

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    def tell(self, message: dict[str, Any]) -> bool:
        """Send a message without waiting for anything; whether it went. Raises `ProtocolError`."""
        line = encode(message)
        with self._sending:
            if not self._ready():
                return False
            try:
                self._send(line)
                self._listen()
            except BlockingIOError:
                warn_once("full", "the monitor is behind: a message to it was dropped")
                return False
            except OSError as error:
                self._lose(error)
                return self._ready()  # a new connection begins with the state that we are in
            return self._socket is not None

    def ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to a request; raises OSError (TimeoutError, …), `Refused` and `ProtocolError`."""
        deadline_s = time.monotonic() + timeout_s
        if not self._asking.acquire(timeout=timeout_s):
            raise TimeoutError("the monitor is being asked by another thread")
        try:
            request_id = next(self._ids)
            line = encode({**message, "id": request_id})
            while not self._try_send(line):
                self._poll(select.POLLOUT, deadline_s)
            while True:
                for answer in self._lines():
                    if answer.get("id") == request_id:
                        if answer.get("ok") is not True:
                            raise Refused(answer)
                        return answer
                    self._note(answer)
                self._poll(select.POLLIN, deadline_s)
                self._receive()
        except TimeoutError:
            raise
        except OSError as error:
            with self._sending:
                self._lose(error)
            raise
        finally:
            self._asking.release()

    def close(self) -> None:
        with self._sending:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            self._tried_s = math.inf

    def _ready(self) -> bool:
        """Whether there is a connection, by now."""
        if self._socket is not None:
            return True
        now_s = time.monotonic()
        if now_s - self._tried_s < RETRY_S or not self._asking.acquire(blocking=False):
            return False
        try:
            self._tried_s = now_s
            self._heard.clear()
            self._tail = b""
            self._socket = connect(self.path, RECONNECT_S)
            self._socket.setblocking(False)
            self._join_id = next(self._ids)
            self._send(encode({**self.join, "id": self._join_id}))
            for message in self.resume():
                self._send(encode(message))
        except OSError as error:
            self._lose(error)
            return False
        finally:
            self._asking.release()
        log.info("the monitor at %s is there again", self.path)
        return True

    def _lose(self, error: OSError) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        warn_once("lost", "the monitor at %s is lost (%s); the training goes on", self.path, error)

    def _send(self, line: bytes) -> None:
        """Send a line after what is left of the last one; BlockingIOError if there is no room for it."""
        assert self._socket is not None
        data = self._tail + line
        # MSG_NOSIGNAL: a program may have given SIGPIPE back its default, which is death
        self._tail = data[self._socket.send(data, socket.MSG_NOSIGNAL) :]

    def _try_send(self, line: bytes) -> bool:
        with self._sending:
            if not self._ready():
                raise ConnectionError("there is no monitor")
            try:
                self._send(line)
            except BlockingIOError:
                return False
            return True

    def _poll(self, events: int, deadline_s: float) -> None:
        connection = self._socket
        left_s = deadline_s - time.monotonic()
        if left_s <= 0.0:
            raise TimeoutError("the monitor does not answer")
        if connection is not None:
            poll = select.poll()  # select(2) knows no descriptors above 1023
            try:
                poll.register(connection, events)
            except ValueError:
                raise ConnectionError("the connection was lost meanwhile") from None
            poll.poll(math.ceil(left_s * 1000))

    def _listen(self) -> None:
        """Take note of what the monitor says by itself, unless somebody is waiting for an answer."""
        if self._asking.acquire(blocking=False):
            try:
                self._receive()
                for answer in self._lines():
                    self._note(answer)
            finally:
                self._asking.release()

    def _receive(self) -> None:
        connection = self._socket
        if connection is None:
            raise ConnectionError("the connection was lost meanwhile")
        with suppress(BlockingIOError):
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the monitor has ended")
            self._heard += data

    def _lines(self) -> list[dict[str, Any]]:
        *lines, rest = self._heard.split(b"\n")
        if not lines:
            return []
        self._heard = rest
        answers = []
        for line in lines:
            with suppress(ValueError):  # not JSON: not from a monitor
                answers.append(json.loads(line))
        return [answer for answer in answers if isinstance(answer, dict)]

    def _note(self, answer: dict[str, Any]) -> None:
        """An answer that nobody waits for: to a message without an id, or to one that took too long."""
        if answer.get("ok") is False:
            warn_once("refused", "the monitor: %s", answer.get("error"))
            if answer.get("id") == self._join_id:
                raise ConnectionAbortedError("it knows nothing of this run")
