"""Reads and writes a client's bytes, with deadlines for whole requests and answers; TLS: `tls_stream.py`."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from http import HTTPStatus
from typing import Protocol

Data = bytes | memoryview

MAX_HEAD_BYTES = 65536
CHUNK_BYTES = 8192
TLS_HANDSHAKE = 0x16
"""The first byte of a TLS handshake (RFC 8446, 5.1); no HTTP request begins with it."""

_REQUEST_LINE = re.compile(rb"[^\x00-\x20]+ [^\x00-\x20]+ HTTP/[0-9]\.[0-9]\r?")

_DRAIN_S = 1.0
_DRAIN_BYTES = 4 << 20


class InvalidRequestError(Exception):
    """The bytes are no valid request; `status` is the answer."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Deadline:
    """A moment by which an operation must be complete."""

    def __init__(self, timeout_s: float) -> None:
        self._end_s = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds until then; raises TimeoutError when there are none."""
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the client was too slow")
        return left_s


class Stream(Protocol):
    """A connection to read from and write to; raises OSError when it has ended."""

    def receive(self, deadline: Deadline) -> bytes:
        """At least one byte; raises ConnectionError when the client has closed the connection."""
        ...

    def send(self, data: Data, deadline: Deadline) -> None: ...

    def end(self) -> None:
        """Tell the client that no more data follows; never waits."""
        ...


class PlainStream:
    """A connection in clear text."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self, deadline: Deadline) -> bytes:
        self._connection.settimeout(deadline.left_s())
        chunk = self._connection.recv(CHUNK_BYTES)
        if not chunk:
            raise ConnectionError("the client closed the connection")
        return chunk

    def send(self, data: Data, deadline: Deadline) -> None:
        self._connection.settimeout(deadline.left_s())  # sendall applies it to the whole
        self._connection.sendall(data)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)


def read_head(stream: Stream, deadline: Deadline, begin: bytes = b"") -> tuple[bytes, bool]:
    """The bytes up to the blank line after the headers, and whether more bytes have come after it.

    `begin` are its first bytes where some were received before. Raises TimeoutError after the deadline,
    ConnectionError when the client closed the connection, and InvalidRequestError for a head that is too long
    or no request of HTTP/1.
    """
    head = bytearray()
    received = 0
    is_request = False
    while True:
        chunk, begin = begin or stream.receive(deadline), b""
        received += len(chunk)
        searched = max(0, len(head) - 3)
        head += chunk
        if not is_request:
            if head[0] in b"\r\n":  # blank lines before a request are to be ignored (RFC 9112, 2.2)
                head = head.lstrip(b"\r\n")
                searched = 0
            is_request = _has_request_line(head)
        for blank in (b"\r\n\r\n", b"\n\n"):
            end = head.find(blank, searched)
            if end >= 0:
                return bytes(head), len(head) > end + len(blank)
        if received >= MAX_HEAD_BYTES:
            status = (
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if is_request else HTTPStatus.REQUEST_URI_TOO_LONG
            )
            raise InvalidRequestError(status)


def _has_request_line(head: bytearray) -> bool:
    """Whether the first line is complete; raises InvalidRequestError as soon as it cannot be HTTP/1."""
    if head and head[0] == TLS_HANDSHAKE:
        raise InvalidRequestError(HTTPStatus.BAD_REQUEST)
    end = head.find(b"\n", 0, MAX_HEAD_BYTES)
    if end < 0:
        return False
    if _REQUEST_LINE.fullmatch(head, 0, end) is None:  # HTTP/0.9 as well: its answers would have no status
        raise InvalidRequestError(HTTPStatus.BAD_REQUEST)
    return True


def drain(connection: socket.socket) -> None:
    """Read for a moment what the client still sends after the answer.

    Closing a connection with unread bytes resets it, and the answer might be lost.
    """
    deadline = Deadline(_DRAIN_S)
    received = 0
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        while received < _DRAIN_BYTES:
            connection.settimeout(deadline.left_s())
            chunk = connection.recv(65536)
            if not chunk:
                return
            received += len(chunk)
