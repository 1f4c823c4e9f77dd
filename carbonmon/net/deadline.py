"""Connections on which everything together ends at one moment, not each wait by itself.

Time-outs of sockets count anew with every piece that comes, and resolvers know none: who sends a byte a
second could hold a request for ever. Here the look-up of the name, each address, the TLS handshake, the
sending, the head and the body of the answer are waited for against the same deadline.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from typing import Any

from carbonmon.net.address import ip_of

_PIECE_BYTES = 1 << 16
_MOST_LOOKUPS = threading.BoundedSemaphore(8)
"""A resolver that hangs keeps its thread: so many of them wait at a time."""


class Deadline:
    """The moment when an exchange must be over, `limit_s` seconds from now."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end_s = time.monotonic() + limit_s

    def left_s(self) -> float:
        """Seconds that are left; raises TimeoutError if none are."""
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time is over")
        return left_s


def connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    """A connection to the first address that answers; each gets its part of the time that is left."""
    addresses = _addresses(host, port, deadline)
    failure: OSError = OSError("it has no address")
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left_s() / (len(addresses) - place))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def send(sock: socket.socket, data: bytes, deadline: Deadline) -> None:
    """Send all of it; over TLS each piece would have a time of its own."""
    view = memoryview(data)
    while view:
        sock.settimeout(deadline.left_s())
        view = view[sock.send(view[:_PIECE_BYTES]) :]


def _addresses(host: str, port: int, deadline: Deadline) -> list[Any]:
    """The addresses of a name, by a thread: nobody can tell the system's resolver how long it may take."""
    if ip_of(host) is not None:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            found.put(error)
        except ValueError:  # UnicodeError for a label that is empty or too long
            found.put(OSError("it has no address"))
        finally:
            _MOST_LOOKUPS.release()

    if not _MOST_LOOKUPS.acquire(timeout=deadline.left_s()):
        raise TimeoutError("the resolver does not answer")
    try:
        threading.Thread(target=look, name="carbonmon-resolver", daemon=True).start()
    except RuntimeError as error:  # no more threads for this user
        _MOST_LOOKUPS.release()
        raise OSError(str(error)) from None
    try:
        answer = found.get(timeout=deadline.left_s())
    except queue.Empty:
        raise TimeoutError("the resolver does not answer") from None
    if isinstance(answer, OSError):
        raise answer
    return answer
