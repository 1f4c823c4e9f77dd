"""A client's bytes in TLS. Loaded where TLS is used: OpenSSL is 6 MB.

It uses memory buffers instead of a wrapped socket: then all waiting is in this code, and another thread can
always shut down the connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from carbonmon_exporters.endpoint.settings import NotAllowedError, WebConfig
from carbonmon_exporters.endpoint.stream import (
    CHUNK_BYTES,
    TLS_HANDSHAKE,
    Data,
    Deadline,
    PlainStream,
    drain,
)

Value = TypeVar("Value")

_SLICE_BYTES = 65536


class ClearTextError(Exception):
    """The client does not use TLS."""


def open_tls(
    connection: socket.socket, context: ssl.SSLContext, config: WebConfig, deadline: Deadline
) -> TlsStream:
    """The stream after a handshake; raises ClearTextError, ssl.SSLError, NotAllowedError, TimeoutError."""
    stream = TlsStream(connection, context)
    try:
        stream.do_handshake(deadline, () if config.tls is None else config.tls.client_allowed_sans)
    except NotAllowedError:
        stream.end()
        drain(connection)
        raise
    except ssl.SSLError:
        drain(connection)
        raise
    return stream


class TlsStream:
    """A TLS connection, server side."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = PlainStream(connection)
        self._connection = connection
        self._context = context

    def do_handshake(self, deadline: Deadline, allowed_names: tuple[str, ...] = ()) -> None:
        """Raises ClearTextError, ssl.SSLError (the client got an alert), NotAllowedError."""
        first = self._plain.receive(deadline)
        if first[0] != TLS_HANDSHAKE:
            raise ClearTextError
        # Made only now: a client that connects and sends nothing uses no memory of OpenSSL.
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(first)
        self._do(self._tls.do_handshake, deadline)
        if allowed_names:
            from carbonmon_exporters.endpoint.certificates import check_names

            check_names(self._tls.getpeercert(), allowed_names)

    def receive(self, deadline: Deadline) -> bytes:
        chunk: bytes = self._do(partial(self._tls.read, CHUNK_BYTES), deadline)
        if not chunk:
            raise ConnectionError("the client closed the connection")
        return chunk

    def send(self, data: Data, deadline: Deadline) -> None:
        view = memoryview(data)
        while view:
            part = view[:_SLICE_BYTES]  # so that the encrypted buffer stays small
            view = view[self._do(partial(self._tls.write, part), deadline) :]

    def end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # writes a close_notify, and would then wait for the client's
            self._connection.settimeout(0)
            self._connection.sendall(self._outgoing.read())
        self._plain.end()

    def _do(self, call: Callable[[], Value], deadline: Deadline) -> Value:
        """Call until it needs no more data from the client; its data for the client is sent each time."""
        while True:
            try:
                result = call()
            except ssl.SSLWantReadError:  # noqa: PERF203 (once for each received chunk)
                self._flush(deadline)
                self._incoming.write(self._plain.receive(deadline))
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush(deadline)  # an alert that says why
                raise
            else:
                self._flush(deadline)
                return result

    def _flush(self, deadline: Deadline) -> None:
        if self._outgoing.pending:
            self._plain.send(self._outgoing.read(), deadline)
