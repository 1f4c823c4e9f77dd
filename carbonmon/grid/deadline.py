"""Connections of urllib3 on which everything together ends at one moment, not each wait by itself.

Time-outs of urllib3 and of sockets count anew with every piece that comes: who sends a byte a second could
hold a request for ever. Here the look-up of the name, each address, the TLS handshake, the headers and the
body are waited for against the same deadline.
"""

from __future__ import annotations

import io
import queue
import socket
import threading
import time
from typing import Any


class Deadline(threading.local):
    """When a thread's request must be over."""

    end_s = 0.0

    def start(self, limit_s: float) -> None:
        self.end_s = time.monotonic() + limit_s

    def left_s(self) -> float:
        """Seconds that are left; raises TimeoutError if none are."""
        left_s = self.end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time is over")
        return left_s


def pools(deadline: Deadline) -> dict[str, Any]:
    """urllib3's pools by scheme, with connections that keep to the deadline, for a `PoolManager`."""
    import http.client

    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
            super().__init__(sock, *args, **named)
            self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, deadline))

    class Plain(HTTPConnection):
        response_class = Response

        def _new_conn(self) -> socket.socket:
            return _connected(self._dns_host, self.port or 80, deadline)

    class Tls(HTTPSConnection):
        response_class = Response

        def _new_conn(self) -> socket.socket:
            return _connected(self._dns_host, self.port or 443, deadline)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}


class _Timed(io.RawIOBase):
    """The reading end of a socket, on which each wait ends with the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _connected(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to the first address that answers; each gets its part of the time that is left."""
    addresses = _addresses(host, port, deadline)
    failure: OSError = OSError("it has no address")
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left_s() / (len(addresses) - place))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(deadline.left_s())  # which bounds the whole TLS handshake
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _addresses(host: str, port: int, deadline: Deadline) -> list[Any]:
    """The addresses of a name, by a thread: nobody can tell the system's resolver how long it may take."""
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except (OSError, ValueError):  # UnicodeError for a label that is too long
            found.put(OSError("it has no address"))

    threading.Thread(target=look, name="carbonmon-resolver", daemon=True).start()
    try:
        answer = found.get(timeout=deadline.left_s())
    except queue.Empty:
        raise TimeoutError("the resolver does not answer") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
