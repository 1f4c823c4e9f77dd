"""A request that is no plain GET (`plain_get.py`), read and answered by the standard library.

Loaded with the first one: with its server the library loads OpenSSL and a parser of e-mail, 7 MB.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any
from wsgiref.headers import Headers
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from carbonmon_exporters.endpoint.plain_get import SOFTWARE
from carbonmon_exporters.endpoint.request import CLOSES, Header, RequestServer, refusal
from carbonmon_exporters.endpoint.settings import ConnectionSettings

if TYPE_CHECKING:
    from email.message import Message

_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class LibraryRequest(WSGIRequestHandler):
    """One request whose head has been received; `answer` is what to send.

    `close_connection` says whether it is the last one of its connection, `has_body` whether the client
    sends more after its head.
    """

    server: RequestServer  # type: ignore[assignment]  # no server of the standard library
    protocol_version = "HTTP/1.1"
    server_version = SOFTWARE

    def __init__(
        self,
        head: bytes,
        has_more: bool,
        server: RequestServer,
        peer: Any,
        settings: ConnectionSettings,
        of_connection: Callable[[bool], dict[str, Any]],
    ) -> None:
        """`of_connection` tells what the environ has of the connection, by whether that stays open."""
        # The base class's would read the request from a socket.
        self.server, self.client_address = server, peer
        self._settings, self._of_connection = settings, of_connection
        answer = io.BytesIO()
        self.rfile, self.wfile = io.BytesIO(head), answer
        self.raw_requestline = self.rfile.readline()
        is_request = self.parse_request()
        headers: Message | None = getattr(self, "headers", None)  # none where the first line was malformed
        self.has_body = headers is not None and (
            "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        )
        if is_request:
            is_last = self.request_version < self.protocol_version or has_more or self.has_body
            self.close_connection = self.close_connection or is_last
            self._respond(answer)
        else:
            self.close_connection = True
        self.answer = answer.getbuffer()

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
        environ = self.get_environ() | self._of_connection(not self.close_connection)
        handler = _Response(io.BytesIO(), answer, self.get_stderr(), environ, multithread=True)
        handler.request_handler = self
        handler.more_headers = self._settings.config.headers
        handler.run(self.server.app)

    def handle_expect_100(self) -> bool:
        """Go on without `100 Continue`: no request needs a body."""
        return True

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
    request_handler: LibraryRequest

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
