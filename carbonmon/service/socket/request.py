"""Checks one request to the monitor, lets the handler do it, and answers once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from carbonmon.client.protocol import ProtocolError, decode
from carbonmon.service.socket.peer import Peer

log = logging.getLogger(__name__)

INTERNAL_ERROR = "an internal error of carbonmon; the monitor's log has the details"


class RequestError(Exception):
    """A handler refuses a request; the text can be shown to the sender, `more` is added to the answer."""

    def __init__(self, text: str, **more: Any) -> None:
        super().__init__(text)
        self.more = more


class Handler(Protocol):
    """Does what requests ask for. Both methods are called on the control thread, which waits for them."""

    def handle(self, peer: Peer, message: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        """Do what `message["op"]` asks for. `answer` may be called once, now or later, from any thread.

        May raise `RequestError`, which becomes the answer.
        """

    def on_disconnect(self, peer: Peer) -> None:
        """The connection is closed, or the process at its other end has ended. Called once for each peer."""


class LateHandler:
    """A handler that is made when the first request comes: most jobs never ask, and need none of its code."""

    def __init__(self, make: Callable[[], Handler]) -> None:
        self._make = make
        self._made: Handler | None = None

    def handle(self, peer: Peer, message: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        if self._made is None:
            self._made = self._make()
        self._made.handle(peer, message, answer)

    def on_disconnect(self, peer: Peer) -> None:
        if self._made is not None:
            self._made.on_disconnect(peer)


class FaultLog:
    """Logs an internal error with its traceback: the first of each type as an error, others for debugging."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def log_error(self, error: Exception) -> None:
        name = type(error).__name__
        level = logging.DEBUG if name in self._known else logging.ERROR
        self._known.add(name)
        if isinstance(error, ImportError):  # no fault of the code: its files went while it runs
            log.log(level, "the control socket answers no more: carbonmon's files are gone (%s)", error)
        else:
            log.log(level, "an internal error of carbonmon at the control socket", exc_info=error)


class _Answer:
    """Sends the answer to one request: only the first call has an effect."""

    def __init__(self, peer: Peer, request_id: Any, fault_log: FaultLog) -> None:
        self._peer = peer
        self._request_id = request_id
        self._fault_log = fault_log
        self._unanswered = threading.Lock()

    def __call__(self, message: dict[str, Any]) -> None:
        if not self._unanswered.acquire(blocking=False) or self._request_id is None:
            return
        try:
            self._peer.send({"id": self._request_id, "ok": True, **message})
        except ProtocolError as error:  # the handler's answer is too long or no JSON
            self._fault_log.log_error(error)
            send_error(self._peer, INTERNAL_ERROR, self._request_id)

    def fail(self, text: str, **more: Any) -> None:
        if self._unanswered.acquire(blocking=False):
            send_error(self._peer, text, self._request_id, **more)


def handle_line(handler: Handler, peer: Peer, line: bytes, fault_log: FaultLog) -> None:
    """Check a line, let the handler do what it asks for, and answer with an error if that fails."""
    try:
        message = decode(line)
    except ProtocolError as error:
        send_error(peer, str(error), error.request_id)
        return
    request_id = message.get("id")
    if request_id is not None and not _is_id(request_id):
        send_error(peer, "the id of a message must be a whole number or a text")
        return
    if not isinstance(message.get("op"), str):
        send_error(peer, "the message has no op", request_id)
        return
    answer = _Answer(peer, request_id, fault_log)
    try:
        handler.handle(peer, message, answer)
    except RequestError as error:
        answer.fail(str(error), **error.more)
    # A bug in the handler must end neither the service nor the sampling.
    except Exception as error:  # noqa: BLE001
        fault_log.log_error(error)
        answer.fail(INTERNAL_ERROR)


def send_error(peer: Peer, text: str, request_id: Any = None, **more: Any) -> None:
    """Send a peer an error, also if it asked for no answer."""
    known = {"id": request_id} if _is_id(request_id) else {}
    peer.send({**known, "ok": False, "error": text, **more})


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)
