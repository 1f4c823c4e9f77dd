"""Handles one connection: a handshake, then requests: head, access check, an answer from memory."""

from __future__ import annotations

import select
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.connections import OpenConnections
from carbonmon_exporters.endpoint.plain_get import answered, asks_to_close, plain_environ
from carbonmon_exporters.endpoint.stream import (
    Data,
    Deadline,
    InvalidRequestError,
    PlainStream,
    Stream,
    drain,
    read_head,
)

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import WSGIApplication

Header = tuple[str, str]

MEMORY = "carbonmon.memory"
"""In the environ of a request whose connection is kept open: a dictionary of the application's own, which is
the same for each request of the connection."""


CONNECTION = "carbonmon.connection"
"""In the same environ: the `Connection`, which lives as long as the connection is open."""


CLOSES = "carbonmon.closes"
"""The application sets it in the environ of a request after whose answer the connection is to be closed."""


GONE = "carbonmon.gone"
"""In the environ of a request whose client has closed its side already: it may have given up."""


class Connection:
    """An object to know an open connection by."""

    __slots__ = ("__weakref__",)


class RequestServer(Protocol):
    """What a request handler uses of its server; `base_environ` is what all requests have (PEP 3333)."""

    app: WSGIApplication
    policy: AccessPolicy
    connections: OpenConnections
    read_timeout_s: float
    idle_timeout_s: float
    base_environ: dict[str, str]


class Handler:
    """Reads each request within a deadline, answers it in memory, and sends the answer within another.

    The connection stays open for the next request of HTTP/1.1 after one that was answered with 200, and is
    closed after every other.
    """

    def __init__(self, connection: socket.socket, peer: Any, server: RequestServer) -> None:
        self.connection = connection
        self.peer = peer
        self.server = server
        self._settings = server.policy.current_settings()
        self._memory: dict[str, Any] = {}
        self._identity = Connection()
        self._closes = True
        self._has_body = False

    def handle(self) -> None:
        """Answer all requests of the connection. Raises OSError where it ended early."""
        deadline = Deadline(self.server.read_timeout_s)  # for the handshake and the first head together
        stream = self._open(deadline)
        if stream is None:
            return
        begin = b""
        while self._exchange(stream, begin, deadline):
            try:
                begin = stream.receive(Deadline(self.server.idle_timeout_s))
            except (TimeoutError, ConnectionError):  # either side has waited for long enough
                break
            deadline = Deadline(self.server.read_timeout_s)
            if not self._renew_settings():
                break
        else:
            return
        stream.end()

    def _open(self, deadline: Deadline) -> Stream | None:
        """The client's stream; None where TLS is asked for and the client has been told so."""
        if self._settings.context is None:
            return PlainStream(self.connection)
        from carbonmon_exporters.endpoint.tls_stream import ClearTextError, open_tls

        try:
            return open_tls(self.connection, self._settings.context, self._settings.config, deadline)
        except ClearTextError:
            stream = PlainStream(self.connection)
            self._send(stream, refusal(400, text="this port uses TLS: use https"))
            self._end(stream, may_have_unread=True)
            return None

    def _exchange(self, stream: Stream, begin: bytes, deadline: Deadline) -> bool:
        """Answer one request, whose first bytes may be there; whether the connection stays open."""
        try:
            head, has_more = read_head(stream, deadline, begin)
        except InvalidRequestError as error:
            self._send(stream, refusal(error.status, self._settings.config.headers))
            self._end(stream, may_have_unread=True)
            return False
        connections = self.server.connections
        if not connections.begin_answer(self.connection):
            return False
        self._send(stream, self._answer(head, has_more))
        if self._closes:
            self._end(stream, has_more or self._has_body)
            return False
        if not connections.end_answer(self.connection):
            stream.end()
            return False
        return True

    def _renew_settings(self) -> bool:
        """Apply a web config that has changed; False where it may not allow this connection any more.

        The client's certificate was checked in the handshake. A client whose connection is closed before an
        answer opens another one and asks again (RFC 9112, 9.3.1).
        """
        settings = self.server.policy.current_settings()
        is_same = settings is self._settings
        self._settings = settings
        return is_same or settings.context is None

    def _send(self, stream: Stream, answer: Data) -> None:
        stream.send(answer, Deadline(self.server.read_timeout_s))

    def _end(self, stream: Stream, may_have_unread: bool) -> None:
        """Nothing more is answered; `may_have_unread`: the client may have sent more than was read."""
        stream.end()
        if may_have_unread:
            self.server.connections.end_answer(self.connection)
            drain(self.connection)

    def _answer(self, head: bytes, has_more: bool) -> Data:
        """The answer to a request; `_closes` then says whether it is the last one of the connection."""
        plain = None if has_more else self._plain_answer(head)
        if plain is not None:
            return plain
        from carbonmon_exporters.endpoint.library_request import LibraryRequest

        request = LibraryRequest(head, has_more, self.server, self.peer, self._settings, self._of_connection)
        self._closes, self._has_body = request.close_connection, request.has_body
        return request.answer

    def _plain_answer(self, head: bytes) -> Data | None:
        """The answer to what scrapers ask; None where the standard library is to read the request."""
        if self._settings.config.headers:
            return None
        environ = plain_environ(head, self.server.base_environ, self.peer[0])
        if environ is None:
            return None
        self._has_body = False
        refused = self.server.policy.check_request(self._settings, self.peer[0], ())
        if refused is not None:
            self._closes = True
            return refusal(refused.status, refused.headers)
        environ |= self._of_connection(not asks_to_close(environ))
        answer, self._closes = answered(self.server.app, environ, CLOSES)
        return answer

    def _of_connection(self, stays_open: bool) -> dict[str, Any]:
        """What the environ of a request has of its connection."""
        known: dict[str, Any] = {}
        if stays_open:
            known |= {MEMORY: self._memory, CONNECTION: self._identity}
        if _has_closed(self.connection):
            known[GONE] = True
        return known


def _has_closed(connection: socket.socket) -> bool:
    """Whether the other side sends no more; what it has sent may still be unread."""
    closed = select.poll()
    closed.register(connection, select.POLLRDHUP)
    return bool(closed.poll(0))


def refusal(code: int, headers: Iterable[Header] = (), *, text: str = "", has_body: bool = True) -> bytes:
    """A whole answer with a status and a short text."""
    status = HTTPStatus(code)
    body = f"{text or f'{status.value} {status.phrase}'}\n"
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Server: carbonmon",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    )
    return "\r\n".join((*lines, "", body if has_body else "")).encode("ascii")
