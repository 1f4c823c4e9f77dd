"""One request to the monitor: checked, handled, and answered once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from carbonmon.client.protocol import ProtocolError, decode
from carbonmon.service.socket.peer import Peer

log = logging.getLogger(__name__)

OWN_FAULT = "a fault of carbonmon's own; the monitor's log has the details"


class RequestError(Exception):
    """What a handler will not do; the text is fit for the sender's eyes, `more` is added to the answer."""

    def __init__(self, text: str, **more: Any) -> None:
        super().__init__(text)
        self.more = more


class Handler(Protocol):
    """What the requests mean. Both are called on the control thread, which serves nobody meanwhile."""

    def handle(self, peer: Peer, message: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        """Do what `message["op"]` asks for. `answer` may be called once, now or later, from any thread.

        May raise `RequestError`, which becomes the answer.
        """

    def gone(self, peer: Peer) -> None:
        """The connection is closed, or the process at its other end has ended. Called once for each peer."""


class Faults:
    """Logs a fault of our own with its traceback the first time, and quietly from then on."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def note(self, error: Exception) -> None:
        name = type(error).__name__
        level = logging.DEBUG if name in self._known else logging.ERROR
        self._known.add(name)
        log.log(level, "the control socket met a fault of carbonmon's own", exc_info=error)


class _Answer:
    """The way back to one request: the first answer counts."""

    def __init__(self, peer: Peer, request_id: Any, faults: Faults) -> None:
        self._peer = peer
        self._request_id = request_id
        self._faults = faults
        self._unanswered = threading.Lock()

    def __call__(self, message: dict[str, Any]) -> None:
        if not self._unanswered.acquire(blocking=False) or self._request_id is None:
            return
        try:
            self._peer.send({"id": self._request_id, "ok": True, **message})
        except ProtocolError as error:  # the handler's answer is too long or no JSON
            self._faults.note(error)
            complain(self._peer, OWN_FAULT, self._request_id)

    def fail(self, text: str, **more: Any) -> None:
        if self._unanswered.acquire(blocking=False):
            complain(self._peer, text, self._request_id, **more)


def serve(handler: Handler, peer: Peer, line: bytes, faults: Faults) -> None:
    """Check a line, let the handler do what it asks for, and answer what went wrong."""
    try:
        message = decode(line)
    except ProtocolError as error:
        complain(peer, str(error), error.request_id)
        return
    request_id = message.get("id")
    if request_id is not None and not _is_id(request_id):
        complain(peer, "the id of a message must be a whole number or a text")
        return
    if not isinstance(message.get("op"), str):
        complain(peer, "the message does not say what it wants: no op", request_id)
        return
    answer = _Answer(peer, request_id, faults)
    try:
        handler.handle(peer, message, answer)
    except RequestError as error:
        answer.fail(str(error), **error.more)
    # The handler's own bug must end neither the service nor the sampling.
    except Exception as error:  # noqa: BLE001
        faults.note(error)
        answer.fail(OWN_FAULT)


def complain(peer: Peer, text: str, request_id: Any = None, **more: Any) -> None:
    """Tell a peer what was wrong, also where it asked for no answer."""
    known = {"id": request_id} if _is_id(request_id) else {}
    peer.send({**known, "ok": False, "error": text, **more})


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)
