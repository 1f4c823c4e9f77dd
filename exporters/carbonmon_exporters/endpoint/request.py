"""Handles one connection with one request: handshake, head, access check, answer made in memory and sent."""

from __future__ import annotations

import io
import re
import ssl
from collections.abc import Iterable, MutableMapping
from email.message import Message
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from wsgiref.headers import Headers
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.connections import OpenConnections
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


class RequestServer(WSGIServer):
    """What a request handler uses of its server."""

    app: WSGIApplication
    policy: AccessPolicy
    connections: OpenConnections
    read_timeout_s: float


class Handler(WSGIRequestHandler):
    """Reads one request within a deadline, answers it in memory, and sends the answer within another."""

    server: RequestServer

    def setup(self) -> None:
        self.connection: socket.socket = self.request

    def handle(self) -> None:
        self._settings = self.server.policy.current_settings()
        deadline = Deadline(self.server.read_timeout_s)  # for the handshake and the head together
        try:
            stream = self._open(deadline)
        except ClearTextError:
            text = "this port uses TLS: use https"
            self._send(PlainStream(self.connection), refusal(HTTPStatus.BAD_REQUEST, text=text), True)
            return
        except (ssl.SSLError, NotAllowedError):
            drain(self.connection)
            raise
        try:
            head, has_more = read_head(stream, deadline)
        except InvalidRequestError as error:
            self._send(stream, refusal(error.status, self._settings.config.headers), True)
            return
        if self.server.connections.begin_answer(self.connection):
            self._send(stream, self._answer(head), has_more or self._has_body())

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

    def _send(self, stream: Stream, answer: Data, may_have_unread: bool) -> None:
        """`may_have_unread`: the client may have sent more than was read."""
        stream.send(answer, Deadline(self.server.read_timeout_s))
        stream.end()
        if may_have_unread:
            self.server.connections.end_answer(self.connection)
            drain(self.connection)

    def _answer(self, head: bytes) -> Data:
        answer = io.BytesIO()
        self.rfile, self.wfile = io.BytesIO(head), answer
        self.raw_requestline = self.rfile.readline()
        if self.parse_request():
            self._respond(answer)
        return answer.getbuffer()

    def _respond(self, answer: io.BytesIO) -> None:
        authorization = self.headers.get_all("authorization", ())
        refused = self.server.policy.check_request(self._settings, self.client_address[0], authorization)
        if refused is not None:
            headers = (*refused.headers, *self._settings.config.headers)
            answer.write(refusal(HTTPStatus(refused.status), headers, has_body=self.command != "HEAD"))
            return
        absolute = _ABSOLUTE.match(self.path)
        if absolute:  # the form for proxies, which every server has to accept (RFC 9112, 3.2.2)
            target = self.path[absolute.end() :]
            self.path = target if target.startswith("/") else f"/{target}"
        handler = _Response(io.BytesIO(), answer, self.get_stderr(), self.get_environ(), multithread=True)
        handler.request_handler = self  # type: ignore[attr-defined]  # which it calls to log
        handler.more_headers = self._settings.config.headers
        handler.run(self.server.app)

    def _has_body(self) -> bool:
        headers: Message | None = getattr(self, "headers", None)  # none where the first line was malformed
        return headers is not None and (
            "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        )

    def finish(self) -> None:
        """Nothing is left to do: the answer was sent."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request without repeating it and without naming versions."""
        self.wfile.write(refusal(HTTPStatus(code), self._settings.config.headers))

    def log_message(self, *_: Any) -> None:
        """Log nothing: stderr belongs to the job."""

    def get_stderr(self) -> io.StringIO:
        return io.StringIO()


class _Response(ServerHandler):
    """The standard library's WSGI handler, without this process's environment in the request's environ."""

    os_environ: MutableMapping[str, str] = {}  # noqa: RUF012 (never changed: each request copies it)
    more_headers: Iterable[Header] = ()

    def cleanup_headers(self) -> None:
        super().cleanup_headers()
        headers: Headers = self.headers  # type: ignore[attr-defined]  # unknown to typeshed
        for name, value in self.more_headers:
            headers[name] = value


def refusal(
    status: HTTPStatus, headers: Iterable[Header] = (), *, text: str = "", has_body: bool = True
) -> bytes:
    """A whole answer with a status and a short text."""
    body = f"{text or f'{status.value} {status.phrase}'}\n"
    lines = (
        f"HTTP/1.0 {status.value} {status.phrase}",
        "Server: carbonmon",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    )
    return "\r\n".join((*lines, "", body if has_body else "")).encode("ascii")
