"""An HTTP server on loopback that answers as a test tells it to, or fails in the ways that servers fail."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Request(NamedTuple):
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    method: str = "GET"
    body: bytes = b""


class Reply(NamedTuple):
    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}


Answer = Callable[[Request], Reply]
Fault = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One request: answered by the server's `fault` if there is one, else by its `answer`."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        grid = self.server.grid
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(url.path, dict(parse_qsl(url.query)), headers, self.command, body)
        grid.requests.append(request)
        if grid.fault is not None:
            self.close_connection = True
            with suppress(OSError):  # the client has had enough
                grid.fault(self)
            return
        reply = grid.answer(request)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.say(body, reply.status, reply.headers)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def do_CONNECT(self) -> None:
        """As a proxy: whatever the name, the way leads to `tunnel`; without one it is refused."""
        grid = self.server.grid
        grid.requests.append(Request(self.path, {}, {k.lower(): v for k, v in self.headers.items()}))
        self.close_connection = True
        if grid.tunnel is None:
            self.send_error(403)
            return
        with socket.create_connection(grid.tunnel) as upstream:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_copy, args=(upstream, self.connection))
            back.start()
            _copy(self.connection, upstream)
            back.join()

    def say(self, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def wait(self, seconds: float = 20.0) -> bool:
        """Whether the server is still to go on after so many seconds."""
        return not self.server.grid.ending.wait(seconds)


class _Server(ThreadingHTTPServer):
    grid: GridServer
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients break off here, and some refuse the certificate


class GridServer:
    """Answers on loopback until the end of a `with`; `requests` are those that came."""

    def __init__(self, answer: Answer | None = None, context: ssl.SSLContext | None = None) -> None:
        self.answer = answer or (lambda request: Reply({}, 404))
        self.fault: Fault | None = None
        self.tunnel: tuple[str, int] | None = None
        self.requests: list[Request] = []
        self.ending = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.grid = self
        if context is not None:
            # The handshake belongs into the thread of the connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.address = ("127.0.0.1", self._server.server_address[1])
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def __enter__(self) -> GridServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()  # waits for the threads of requests

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


def _copy(from_sock: socket.socket, to_sock: socket.socket) -> None:
    with suppress(OSError):
        while data := from_sock.recv(65536):
            to_sock.sendall(data)
    with suppress(OSError):
        to_sock.shutdown(socket.SHUT_WR)


# The ways to fail. A server that fails may tell what it was asked with: `SECRET` is in all of their answers.

SECRET = "s3cret-4711-token"


def html(handler: Handler) -> None:
    handler.say(f"<html><h1>Welcome, {SECRET}</h1></html>".encode(), headers={"Content-Type": "text/html"})


def error_body(handler: Handler) -> None:
    handler.say(json.dumps({"status": "error", "message": f"no plan for {SECRET}"}).encode())


def bare_error_body(handler: Handler) -> None:
    handler.say(json.dumps({"error": f"no plan for {SECRET}"}).encode())


def status(code: int, **headers: str) -> Fault:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.say(json.dumps({"message": f"sorry, {SECRET}"}).encode(), code, sent)


def garbage(handler: Handler) -> None:
    handler.say(json.dumps([SECRET, {"zone": SECRET}]).encode())


def not_a_number(handler: Handler) -> None:
    handler.say(b'{"zone": "DE", "carbonIntensity": NaN, "token": "%s"}' % SECRET.encode())


def too_large_a_number(handler: Handler) -> None:
    handler.say(b'{"zone": "DE", "carbonIntensity": 1e999, "token": "%s"}' % SECRET.encode())


def deep(handler: Handler) -> None:
    handler.say(b"[" * 200_000)


def redirect(handler: Handler) -> None:
    handler.say(b"", 302, {"Location": f"http://localhost:{handler.server.grid.address[1]}/?key={SECRET}"})


def redirect_for_ever(handler: Handler) -> None:
    handler.say(b"", 307, {"Location": handler.path})


def broken_redirect(handler: Handler) -> None:
    handler.say(b"", 301, {"Location": f"http://[::{SECRET}"})


def announced(handler: Handler) -> None:
    handler.say(b'["' + SECRET.encode(), headers={"Content-Length": str(100 << 20)})
    handler.wait()


def endless(handler: Handler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n["')
    while handler.wait(0):
        handler.wfile.write(b"0" * (1 << 16))


def endless_chunks(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while handler.wait(0):
        handler.wfile.write(b"8000\r\n" + b"0" * 0x8000 + b"\r\n")


def endless_heads(handler: Handler) -> None:
    while handler.wait(0):
        head = b"HTTP/1.1 100 Continue\r\nX-Padding: " + b"0" * 2000 + b"\r\n\r\n"
        handler.wfile.write(head * 50)


def endless_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while handler.wait(0):
        handler.wfile.write(b"X-Padding: " + b"0" * 60_000 + b"\r\n")


def endless_header(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
    while handler.wait(0):
        handler.wfile.write(b"0" * (1 << 16))


def endless_trailer(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    while handler.wait(0):
        handler.wfile.write(b"X-Padding: " + b"0" * 60_000 + b"\r\n")


def chunk_of_no_size(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" + SECRET.encode())


def chunk_of_less_than_nothing(handler: Handler) -> None:
    """A size of -1 is what Python's own reader takes for "all that comes"."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
    while handler.wait(0):
        handler.wfile.write(b"0" * (1 << 16))


def bomb(handler: Handler) -> None:
    handler.say(_bomb(), headers={"Content-Encoding": "gzip"})


@cache
def _bomb() -> bytes:
    """A hundred megabytes in half a one."""
    return gzip.compress(b'["' + b"0" * (100 << 20), 1)


def endless_bomb(handler: Handler) -> None:
    """A kilobyte is a megabyte, without an end, whatever the client said that it takes."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    while handler.wait(0):
        handler.wfile.write(packer.compress(b"0" * (1 << 20)))


def damaged_gzip(handler: Handler) -> None:
    handler.say(b"\x1f\x8b" + SECRET.encode(), headers={"Content-Encoding": "gzip"})


def unknown_encoding(handler: Handler) -> None:
    handler.say(b"{}", headers={"Content-Encoding": "br"})


def byte_a_second(handler: Handler) -> None:
    body = json.dumps({"token": SECRET}).encode()
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    _drip(handler, body)


def header_a_second(handler: Handler) -> None:
    _drip(handler, b"HTTP/1.1 200 OK\r\nX: " + SECRET.encode())


def _drip(handler: Handler, data: bytes) -> None:
    for position in range(len(data)):
        handler.wfile.write(data[position : position + 1])
        if not handler.wait(0.05):  # twenty of these "seconds" make one
            return
    handler.wait()


def silent(handler: Handler) -> None:
    handler.wait()


def cut(handler: Handler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n["' + SECRET.encode())


def cut_chunk(handler: Handler) -> None:
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n["' + SECRET.encode())


def closed(handler: Handler) -> None:
    pass


def reset(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def nonsense(handler: Handler) -> None:
    handler.wfile.write(b"220 smtp.example ESMTP " + SECRET.encode() + b"\r\n")


FAULTS: dict[str, tuple[Fault, str]] = {
    "html": (html, "not_json"),
    "error_body": (error_body, "error_body"),
    "bare_error_body": (bare_error_body, "error_body"),
    "unauthorized": (status(401), "http_401"),
    "forbidden": (status(403), "http_403"),
    "not_found": (status(404), "http_404"),
    "too_often": (status(429, Retry_After="120"), "http_429"),
    "server_error": (status(500), "http_500"),
    "bad_gateway": (status(502), "http_502"),
    "no_content": (status(204), "http_204"),
    "garbage": (garbage, "garbage"),
    "not_a_number": (not_a_number, "not_json"),
    "too_large_a_number": (too_large_a_number, "not_json"),
    "deep": (deep, "not_json"),
    "redirect": (redirect, "redirect"),
    "redirect_for_ever": (redirect_for_ever, "redirect"),
    "broken_redirect": (broken_redirect, "redirect"),
    "announced": (announced, "too_large"),
    "endless": (endless, "too_large"),
    "endless_chunks": (endless_chunks, "too_large"),
    "bomb": (bomb, "too_large"),
    "endless_bomb": (endless_bomb, "too_large"),
    "endless_heads": (endless_heads, "too_large"),
    "endless_headers": (endless_headers, "too_large"),
    "endless_header": (endless_header, "too_large"),
    "endless_trailer": (endless_trailer, "too_large"),
    "chunk_of_no_size": (chunk_of_no_size, "connect"),
    "chunk_of_less_than_nothing": (chunk_of_less_than_nothing, "too_large"),
    "damaged_gzip": (damaged_gzip, "not_json"),
    "unknown_encoding": (unknown_encoding, "not_json"),
    "byte_a_second": (byte_a_second, "timeout"),
    "header_a_second": (header_a_second, "timeout"),
    "silent": (silent, "timeout"),
    "cut": (cut, "connect"),
    "cut_chunk": (cut_chunk, "connect"),
    "closed": (closed, "connect"),
    "reset": (reset, "connect"),
    "nonsense": (nonsense, "connect"),
}
"""What a server does, and the reason that a source tells for it."""
