"""An HTTP server for few and simple requests that no client can slow down, fill up or keep alive.

The server of the standard library has no read timeout and no cap on connections, wakes up twice a
second, asks the name service for its own host's name and writes to stderr. This one keeps its parser
and its WSGI handler, and replaces the rest.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import socketserver
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 65536
READ_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 32
_STACK_BYTES = 512 * 1024
_BACKOFF_S = 1.0
_CLOSE_S = 0.5


class HeadTooLargeError(Exception):
    """The request's head is longer than anything that asks for metrics."""


class MetricsServer(WSGIServer):
    """Serves one WSGI application; listens once made, answers once started.

    One thread blocks in accept and wakes for nothing else; each connection has a short-lived thread.
    All are daemons, so that no client holds up the exit.
    """

    allow_reuse_address = True
    allow_reuse_port = False  # else a taken port would not be noticed
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        app: WSGIApplication,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        host, port = address
        family, _, _, _, bound = socket.getaddrinfo(
            # A host in bytes spares Python's IDNA tables, a quarter of a megabyte.
            (host.encode() if host.isascii() else host) or None,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
        self.address_family = family
        self.read_timeout_s = read_timeout_s
        self._max_connections = max_connections
        # Connections in order of arrival; True while the client still owes a part of its request.
        self._open: dict[socket.socket, bool] = {}
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="carbonmon-metrics", daemon=True)
        super().__init__((str(bound[0]), port), _Handler)  # bound[1] would be cut to 16 bits, not refused
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's name, which may ask a name server and hang."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def start(self) -> None:
        self._acceptor.start()

    def close(self) -> None:
        """Stop listening, let the answers under way be sent, cut everything else; may be repeated."""
        if self._closing.is_set():
            return
        self._closing.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # on Linux this ends a blocking accept
        if self._acceptor.ident is not None:
            self._acceptor.join(timeout=_CLOSE_S)
        self.server_close()
        with self._changed:
            for connection, is_waiting in self._open.items():
                if is_waiting:
                    _cut(connection)
            self._changed.wait_for(lambda: not self._open, timeout=_CLOSE_S)
            for connection in self._open:
                _cut(connection)

    def begin_answer(self, connection: socket.socket) -> bool:
        """Note that the whole request is here; False if the connection was given up meanwhile."""
        with self._changed:
            if connection not in self._open:
                return False
            self._open[connection] = False
            return True

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self.socket.accept()
            except OSError as error:
                if self._closing.is_set():
                    return
                _log.debug("accepting a connection failed: %s", error)
                self._closing.wait(_BACKOFF_S)  # out of file descriptors: do not spin
                continue
            if self._admit(connection):
                self._spawn(connection, peer)
            else:
                _refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE)
                connection.close()

    def _admit(self, connection: socket.socket) -> bool:
        """Make room if there is none: the oldest client that owes its request loses its place."""
        with self._changed:
            if len(self._open) >= self._max_connections:
                idle = next((other for other, is_waiting in self._open.items() if is_waiting), None)
                if idle is None:
                    return False
                del self._open[idle]
                _cut(idle)
            self._open[connection] = True
            return True

    def _spawn(self, connection: socket.socket, peer: Any) -> None:
        thread = threading.Thread(
            target=self._serve, args=(connection, peer), name="carbonmon-scrape", daemon=True
        )
        usual = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError as error:  # the limit of threads is reached
            _log.debug("no thread for a connection: %s", error)
            self._forget(connection)
        finally:
            threading.stack_size(usual)

    def _serve(self, connection: socket.socket, peer: Any) -> None:
        try:
            _Handler(connection, peer, self)
        except OSError as error:  # slow, gone or cut
            _log.debug("a connection ended early: %s", error)
        # A bug in the handling of one request costs that request, never the job's terminal.
        except Exception:  # noqa: BLE001
            _log.debug("a request failed", exc_info=True)
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()


class _Handler(WSGIRequestHandler):
    """Reads one request under a deadline, answers it in memory, and sends the answer under another."""

    server: MetricsServer

    def setup(self) -> None:
        self.connection: socket.socket = self.request

    def handle(self) -> None:
        try:
            head = read_head(self.connection, self.server.read_timeout_s)
        except HeadTooLargeError:
            _refuse(self.connection, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        if not self.server.begin_answer(self.connection):
            return
        answer = io.BytesIO()
        self.rfile, self.wfile = io.BytesIO(head), answer
        super().handle()
        self.connection.settimeout(self.server.read_timeout_s)  # sendall takes it for the whole answer
        self.connection.sendall(answer.getbuffer())

    def finish(self) -> None:
        """Nothing is left to do: the answer was sent whole."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request without repeating it and without naming versions."""
        self.wfile.write(_refusal(HTTPStatus(code)))

    def log_message(self, *_: Any) -> None:
        """Log nothing: stderr is the job's."""

    def get_stderr(self) -> io.StringIO:
        return io.StringIO()


def read_head(connection: socket.socket, timeout_s: float) -> bytes:
    """Return what came up to the blank line after the headers, and perhaps some of the body.

    Raises TimeoutError when the whole has not come in time, however steadily the bytes trickle in;
    ConnectionError when the client left; HeadTooLargeError.
    """
    deadline_s = time.monotonic() + timeout_s
    head = bytearray()
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the request did not come in time")
        connection.settimeout(left_s)
        chunk = connection.recv(8192)
        if not chunk:
            raise ConnectionError("the client left")
        searched = max(0, len(head) - 3)
        head += chunk
        if head.find(b"\r\n\r\n", searched) >= 0 or head.find(b"\n\n", searched) >= 0:
            return bytes(head)
        if len(head) >= MAX_HEAD_BYTES:
            raise HeadTooLargeError


def _refusal(status: HTTPStatus) -> bytes:
    text = f"{status.value} {status.phrase}"
    body = f"{text}\n"
    return (
        f"HTTP/1.0 {text}\r\nServer: carbonmon\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode("ascii")


def _refuse(connection: socket.socket, status: HTTPStatus) -> None:
    """Say why in the moment before the connection is closed; never waits."""
    with contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(_refusal(status))
        connection.shutdown(socket.SHUT_WR)


def _cut(connection: socket.socket) -> None:
    """End a connection of another thread, whose blocked read or write returns at once."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
