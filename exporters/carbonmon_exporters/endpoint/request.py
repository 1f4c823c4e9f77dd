"""Handles one connection: a handshake, then requests: head, access check, an answer from memory."""

from __future__ import annotations

import io
import re
import select
import ssl
from collections.abc import Iterable, MutableMapping
from email.message import Message
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.headers import Headers
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.connections import OpenConnections
from carbonmon_exporters.endpoint.plain_get import answered, plain_environ
from carbonmon_exporters.endpoint.settings import NotAllowedError
from carbonmon_exporters.endpoint.stream import (
    ClearTextError,
    Data,
    Deadline,
    InvalidRequestError,
    PlainStream,
    Stream,
    TlsStream,
    drain,
    read_head,
)

if TYPE_CHECKING:
    import socket

    from _typeshed.wsgi import WSGIApplication

Header = tuple[str, str]

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


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


class Handler(WSGIRequestHandler):
    """Reads each request within a deadline, answers it in memory, and sends the answer within another.

    The connection stays open for the next request of HTTP/1.1 after one that was answered with 200, and is
    closed after every other.
    """

    server: RequestServer  # type: ignore[assignment]  # no server of the standard library
    protocol_version = "HTTP/1.1"

    def __init__(self, connection: socket.socket, peer: Any, server: RequestServer) -> None:
        super().__init__(connection, peer, server)  # type: ignore[arg-type]  # as above

    def setup(self) -> None:
        self.connection: socket.socket = self.request
        self._memory: dict[str, Any] = {}
        self._identity = Connection()

    def handle(self) -> None:
        self._settings = self.server.policy.current_settings()
        deadline = Deadline(self.server.read_timeout_s)  # for the handshake and the first head together
        try:
            stream = self._open(deadline)
        except ClearTextError:
            text = "this port uses TLS: use https"
            self._send(PlainStream(self.connection), refusal(400, text=text))
            self._end(PlainStream(self.connection), may_have_unread=True)
            return
        except (ssl.SSLError, NotAllowedError):
            drain(self.connection)
            raise
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

    def _open(self, deadline: Deadline) -> Stream:
        if self._settings.context is None:
            return PlainStream(self.connection)
        stream = TlsStream(self.connection, self._settings.context)
        tls = self._settings.config.tls
        try:
            stream.do_handshake(deadline, () if tls is None else tls.client_allowed_sans)
        except NotAllowedError:
            stream.end()
            raise
        return stream

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
        if self.close_connection:
            self._end(stream, has_more or self._has_body())
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
        """The answer to a request; `close_connection` then says whether another one may follow."""
        plain = None if has_more else self._plain_answer(head)
        if plain is not None:
            return plain
        answer = io.BytesIO()
        self.rfile, self.wfile = io.BytesIO(head), answer
        self.raw_requestline = self.rfile.readline()
        if self.parse_request():
            is_last = self.request_version < self.protocol_version or has_more or self._has_body()
            self.close_connection = self.close_connection or is_last
            self._respond(answer)
        else:
            self.close_connection = True
        self.rfile = self.wfile = io.BytesIO()  # nothing of it is kept while the connection is idle
        return answer.getbuffer()

    def _plain_answer(self, head: bytes) -> Data | None:
        """The answer to what scrapers ask; None where the standard library is to read the request."""
        if self._settings.config.headers:
            return None
        address = self.client_address[0]
        environ = plain_environ(head, self.server.base_environ, address, self.server_version)
        if environ is None:
            return None
        self.headers = Message()  # of an earlier request they may say that there is a body
        refused = self.server.policy.check_request(self._settings, address, ())
        if refused is not None:
            self.close_connection = True
            return refusal(refused.status, refused.headers)
        self.close_connection = False
        if _has_closed(self.connection):
            environ[GONE] = True
        environ[MEMORY], environ[CONNECTION] = self._memory, self._identity
        answer, self.close_connection = answered(self.server.app, environ, CLOSES)
        return answer

    def _respond(self, answer: io.BytesIO) -> None:
        authorization = self.headers.get_all("authorization", ())
        refused = self.server.policy.check_request(self._settings, self.client_address[0], authorization)
        if refused is not None:
            self.close_connection = True
            headers = (*refused.headers, *self._settings.config.headers)
            answer.write(refusal(refused.status, headers, has_body=self.command != "HEAD"))
            return
        absolute = _ABSOLUTE.match(self.path)
        if absolute:  # the form for proxies, which every server has to accept (RFC 9112, 3.2.2)
            target = self.path[absolute.end() :]
            self.path = target if target.startswith("/") else f"/{target}"
        environ = self.get_environ()
        if _has_closed(self.connection):
            environ[GONE] = True
        if not self.close_connection:
            environ[MEMORY], environ[CONNECTION] = self._memory, self._identity
        handler = _Response(io.BytesIO(), answer, self.get_stderr(), environ, multithread=True)
        handler.request_handler = self
        handler.more_headers = self._settings.config.headers
        handler.run(self.server.app)

    def _has_body(self) -> bool:
        headers: Message | None = getattr(self, "headers", None)  # none where the first line was malformed
        return headers is not None and (
            "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        )

    def handle_expect_100(self) -> bool:
        """Go on without `100 Continue`: no request needs a body."""
        return True

    def finish(self) -> None:
        """Nothing is left to do: the answer was sent."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request without repeating it and without naming versions."""
        self.wfile.write(refusal(code, self._settings.config.headers))

    def log_message(self, *_: Any) -> None:
        """Log nothing: stderr belongs to the job."""

    def get_stderr(self) -> io.StringIO:
        return io.StringIO()


class _Response(ServerHandler):
    """The standard library's WSGI handler, without this process's environment in the request's environ."""

    os_environ: MutableMapping[str, str] = {}  # noqa: RUF012 (never changed: each request copies it)
    http_version = "1.1"
    more_headers: Iterable[Header] = ()
    request_handler: Handler

    def cleanup_headers(self) -> None:
        super().cleanup_headers()
        headers: Headers = self.headers  # type: ignore[attr-defined]  # unknown to typeshed
        for name, value in self.more_headers:
            headers[name] = value
        closes = CLOSES in self.environ  # type: ignore[attr-defined]  # unknown to typeshed
        if closes or not str(self.status).startswith("200"):  # type: ignore[attr-defined]  # likewise
            self.request_handler.close_connection = True
        if self.request_handler.close_connection:
            headers["Connection"] = "close"


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
