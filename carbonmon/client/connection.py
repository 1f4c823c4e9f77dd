"""The client's connection to a monitor: sends messages without waiting, and requests with a time-out.

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
"""Time between two attempts to reconnect after the connection was lost."""
RECONNECT_S = 0.05
"""Time-out of each attempt."""

_warned: set[str] = set()


def warn_once(kind: str, text: str, *values: object) -> None:
    """Log a warning of each kind once in a process: a training loop may cause the same one at every step."""
    if kind not in _warned:
        _warned.add(kind)
        log.warning(text, *values)


class Refused(Exception):
    """The monitor refused a request; `retry`: it will soon accept it."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(str(answer.get("error") or "no reason was given"))
        self.retry = bool(answer.get("retry"))


class MonitorConnection:
    """A connection to the monitor at `path`, made again if it is lost; for any thread. `heard` is the newest
    answer to `ask`.

    A new connection begins with `join_message`, and after a loss with the messages of `state_messages`. Two
    locks: one for sending, held for microseconds, and one for the thread that waits for an answer.
    """

    def __init__(self, path: Path, connection: socket.socket, join_message: dict[str, Any]) -> None:
        self.path = path
        self.join_message = join_message
        self.state_messages: Callable[[], list[dict[str, Any]]] = list
        connection.setblocking(False)
        self._socket: socket.socket | None = connection
        self._send_lock = threading.RLock()  # re-entrant: a signal handler may change the phase
        self._request_lock = threading.RLock()
        self._ids = itertools.count(1)
        self._received = bytearray()
        self._unsent = b""
        self._attempted_s = -math.inf
        self._silent_s: float | None = None
        self._join_id = 0
        self._asked_id: int | None = None
        self._asked_before: set[int] = set()
        """Questions that were asked again before they were answered: nobody waits for those answers."""
        self.heard: dict[str, Any] = {}

    @property
    def is_connected(self) -> bool:
        return self._socket is not None

    def send(self, message: dict[str, Any]) -> bool:
        """Send a message without waiting; whether it was sent. Raises `ProtocolError`."""
        line = encode(message)
        with self._send_lock:
            if not self._ensure_connected():
                return False
            try:
                self._send(line)
                self._read_unrequested()
            except BlockingIOError:
                warn_once("full", "carbonmon's monitor is slow: a message to it was dropped")
                return False
            except OSError as error:
                self._disconnect(error)
                return self._ensure_connected()  # a new connection begins with the present state
            return self._socket is not None

    def ask(self, message: dict[str, Any]) -> None:
        """Ask something without waiting: `hear` finds the answer later. Raises `ProtocolError`."""
        if self._asked_id is not None:
            self._asked_before.add(self._asked_id)
        self._asked_id = next(self._ids)
        self.send({**message, "id": self._asked_id})

    def hear(self) -> None:
        """Look whether there is an answer to what was asked, if it is not there yet; without waiting."""
        if self._asked_id is not None:
            with self._send_lock:
                try:
                    if self._socket is not None:
                        self._read_unrequested()
                except OSError as error:
                    self._disconnect(error)

    def request(self, message: dict[str, Any], timeout_s: float, is_last: bool = False) -> dict[str, Any]:
        """The answer to a request; raises OSError (TimeoutError, …), `Refused` and `ProtocolError`.

        A monitor that did not answer is not waited for again until it says something; now and then it is
        asked for a moment. The last request is sent all the same, for when it wakes up.
        """
        deadline_s = time.monotonic() + timeout_s
        if not self._request_lock.acquire(timeout=timeout_s):
            raise TimeoutError("another thread waits for an answer of the monitor")
        try:
            request_id = next(self._ids)
            line = encode({**message, "id": request_id})
            if self._is_silent():
                now_s = time.monotonic()
                if now_s - (self._silent_s or now_s) < RETRY_S:
                    if is_last:
                        self._try_send(line)
                    raise TimeoutError("it does not answer")
                self._silent_s = now_s
                deadline_s = min(deadline_s, now_s + RECONNECT_S)
            while not self._try_send(line):
                self._poll(select.POLLOUT, deadline_s)
            while True:
                for answer in self._lines():
                    if answer.get("id") == request_id:
                        self._silent_s = None
                        if answer.get("ok") is not True:
                            raise Refused(answer)
                        return answer
                    self._on_unrequested(answer)
                self._poll(select.POLLIN, deadline_s)
                self._receive()
        except TimeoutError:
            self._silent_s = self._silent_s or time.monotonic()
            raise
        except OSError as error:
            with self._send_lock:
                self._disconnect(error)
            raise
        finally:
            self._request_lock.release()

    def _is_silent(self) -> bool:
        """Whether a request was not answered in time, and nothing has come since."""
        if self._silent_s is None:
            return False
        self._receive()
        for answer in self._lines():
            self._silent_s = None
            self._on_unrequested(answer)
        return self._silent_s is not None

    def abandon(self) -> None:
        """Close this process's copy of the socket without a word: after a fork it is the parent's."""
        if self._socket is not None:
            self._socket.close()

    def __del__(self) -> None:
        with suppress(Exception):  # the interpreter may be half gone
            self.abandon()

    def close(self) -> None:
        with self._send_lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            self._attempted_s = math.inf

    def _ensure_connected(self) -> bool:
        """Connect again if that is due; whether there is a connection."""
        if self._socket is not None:
            return True
        now_s = time.monotonic()
        if now_s - self._attempted_s < RETRY_S or not self._request_lock.acquire(blocking=False):
            return False
        try:
            self._attempted_s = now_s
            self._received.clear()
            self._unsent = b""
            self._socket = connect(self.path, RECONNECT_S)
            self._socket.setblocking(False)
            self._join_id = next(self._ids)
            self._send(encode({**self.join_message, "id": self._join_id}))
            for message in self.state_messages():
                self._send(encode(message))
        except OSError as error:
            self._disconnect(error)
            return False
        finally:
            self._request_lock.release()
        log.info("reconnected to carbonmon's monitor at %s", self.path)
        return True

    def _disconnect(self, error: OSError) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._silent_s = None
        text = "the connection to carbonmon's monitor at %s is lost (%s); the training goes on"
        warn_once("lost", text, self.path, error.strerror or error)

    def _send(self, line: bytes) -> None:
        """Send a line after the rest of the last one; BlockingIOError if the socket's buffer is full."""
        assert self._socket is not None
        data = self._unsent + line
        # MSG_NOSIGNAL: a program may have set SIGPIPE to its default, which ends the process
        self._unsent = data[self._socket.send(data, socket.MSG_NOSIGNAL) :]

    def _try_send(self, line: bytes) -> bool:
        with self._send_lock:
            if not self._ensure_connected():
                raise ConnectionError("there is no connection to the monitor")
            try:
                self._send(line)
            except BlockingIOError:
                return False
            return True

    def _poll(self, events: int, deadline_s: float) -> None:
        connection = self._socket
        left_s = deadline_s - time.monotonic()
        if left_s <= 0.0:
            raise TimeoutError("it does not answer")
        if connection is not None:
            poll = select.poll()  # select(2) does not support descriptors above 1023
            try:
                poll.register(connection, events)
            except ValueError:
                raise ConnectionError("the connection was lost meanwhile") from None
            poll.poll(math.ceil(left_s * 1000))

    def _read_unrequested(self) -> None:
        """Read messages that were not requested, unless a thread is waiting for an answer."""
        if self._request_lock.acquire(blocking=False):
            try:
                self._receive()
                for answer in self._lines():
                    self._on_unrequested(answer)
            finally:
                self._request_lock.release()

    def _receive(self) -> None:
        connection = self._socket
        if connection is None:
            raise ConnectionError("the connection was lost meanwhile")
        with suppress(BlockingIOError):
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the monitor has ended")
            self._received += data

    def _lines(self) -> list[dict[str, Any]]:
        *lines, rest = self._received.split(b"\n")
        if not lines:
            return []
        self._received = rest
        answers = []
        for line in lines:
            with suppress(ValueError):  # no JSON: not from a monitor
                answers.append(json.loads(line))
        return [answer for answer in answers if isinstance(answer, dict)]

    def _on_unrequested(self, answer: dict[str, Any]) -> None:
        """Handle an answer that no thread waits for: to `ask`, without an id, or after a time-out."""
        if self._asked_id is not None and answer.get("id") == self._asked_id:
            self._asked_id = None
            self.heard = (
                answer if answer.get("ok") is True else {}
            )  # one of an earlier release knows no such op
            return
        if answer.get("id") in self._asked_before:
            self._asked_before.discard(answer["id"])
            return
        if answer.get("ok") is False:
            warn_once("refused", "carbonmon's monitor says: %s", answer.get("error"))
            if answer.get("id") == self._join_id:
                raise ConnectionAbortedError("it does not know this run")
