"""One connection and its one request: hands shaken, head read, door asked, answer made in memory and sent."""

from __future__ import annotations

import io
import re
import ssl
from collections.abc import Iterable, MutableMapping
from email.message import Message
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from wsgiref.headers import Headers
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from carbonmon_exporters.endpoint.stream import (
    ClearTextError,
    Data,
    Deadline,
    PlainStream,
    RefusedError,
    Stream,
    TlsStream,
    drain,
    read_head,
)
from carbonmon_exporters.endpoint.terms import NotAllowedError

if TYPE_CHECKING:
    import socket

    from carbonmon_exporters.endpoint.server import MetricsServer

Header = tuple[str, str]

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class Handler(WSGIRequestHandler):
    """Reads one request under a deadline, answers it in memory, and sends the answer under another."""

    server: MetricsServer

    def setup(self) -> None:
        self.connection: socket.socket = self.request

    def handle(self) -> None:
        self._terms = self.server.door.look()
        deadline = Deadline(self.server.read_timeout_s)  # for the handshake and the head together
        try:
            stream = self._open(deadline)
        except ClearTextError:
            text = "this port speaks TLS: use https"
            self._send(PlainStream(self.connection), refusal(HTTPStatus.BAD_REQUEST, text=text), True)
            return
        except (ssl.SSLError, NotAllowedError):
            drain(self.connection)
            raise
        try:
            head, has_more = read_head(stream, deadline)
        except RefusedError as refused:
            self._send(stream, refusal(refused.status, self._terms.config.headers), True)
            return
        if self.server.places.is_kept(self.connection):
            self._send(stream, self._answer(head), has_more or self._announces_body())

    def _open(self, deadline: Deadline) -> Stream:
        if self._terms.context is None:
            return PlainStream(self.connection)
        stream = TlsStream(self.connection, self._terms.context)
        tls = self._terms.config.tls
        try:
            stream.shake_hands(deadline, () if tls is None else tls.client_allowed_sans)
        except NotAllowedError:
            stream.end()
            raise
        return stream

    def _send(self, stream: Stream, answer: Data, lingers: bool) -> None:
        """`lingers`: the client may be sending still."""
        stream.send(answer, Deadline(self.server.read_timeout_s))
        stream.end()
        if lingers:
            self.server.places.release(self.connection)
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
        refused = self.server.door.check(self._terms, self.client_address[0], authorization)
        if refused is not None:
            headers = (*refused.headers, *self._terms.config.headers)
            answer.write(refusal(HTTPStatus(refused.status), headers, has_body=self.command != "HEAD"))
            return
        absolute = _ABSOLUTE.match(self.path)
        if absolute:  # the form for proxies, which every server has to take (RFC 9112, 3.2.2)
            target = self.path[absolute.end() :]
            self.path = target if target.startswith("/") else f"/{target}"
        handler = _Response(io.BytesIO(), answer, self.get_stderr(), self.get_environ(), multithread=True)
        handler.request_handler = self  # type: ignore[attr-defined]  # where it asks to log
        handler.more_headers = self._terms.config.headers
        handler.run(self.server.app)

    def _announces_body(self) -> bool:
        headers: Message | None = getattr(self, "headers", None)  # none where the first line was malformed
        return headers is not None and (
            "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        )

    def finish(self) -> None:
        """Nothing is left to do: the answer was sent whole."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request without repeating it and without naming versions."""
        self.wfile.write(refusal(HTTPStatus(code), self._terms.config.headers))

    def log_message(self, *_: Any) -> None:
        """Log nothing: stderr is the job's."""

    def get_stderr(self) -> io.StringIO:
        return io.StringIO()


class _Response(ServerHandler):
    """The standard library's WSGI side, without this process's environment in a request's."""

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
    """A whole answer that says no more than its status and, perhaps, a few words of ours."""
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
