"""One connection to the monitor's socket: credentials, received bytes and unsent answers."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from carbonmon.client.protocol import MAX_ANSWER_BYTES, MAX_MESSAGE_BYTES, encode
from carbonmon.core.pacing import TokenBucket

MAX_QUEUE_BYTES = 1 << 20
RATE_HZ, BURST = 1000.0, 2000.0
_CHUNK_BYTES = 1 << 16


class RateExceeded(Exception):
    """The peer sends more than its bucket allows; what was received is kept for later."""


class Peer:
    """A connected process. `state` belongs to the handler; `pid` is 0 in another pid namespace.

    `send` may be called from any thread; all the rest is the control thread's.
    """

    def __init__(
        self,
        connection: socket.socket,
        credentials: tuple[int, int, int],
        shared: TokenBucket,
        on_output: Callable[[Peer], None],
    ) -> None:
        self.pid, self.uid, self.gid = credentials
        self.state: Any = None
        self.connection = connection
        self.pidfd: int | None = None
        self.events = 0
        self.paused = False
        self.closed = False
        self._on_output = on_output
        self._lock = threading.Lock()
        self._received = bytearray()
        self._skipping = False
        self._own, self._shared = TokenBucket(RATE_HZ, BURST, time.monotonic()), shared
        self._unsent = bytearray()
        self._overrun = False
        self._cannot_send = False

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; nothing happens once the connection is closed. Raises `ProtocolError`."""
        line = encode(message, MAX_ANSWER_BYTES)
        with self._lock:
            if self.closed or self._cannot_send:
                return
            if len(self._unsent) + len(line) > MAX_QUEUE_BYTES:
                self._overrun = True
            else:
                self._unsent += line
        self._on_output(self)

    def receive(self) -> int | None:
        """Receive: the number of bytes, 0 at the end, None if there are none; `next_line` returns them."""
        try:
            data = self.connection.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return None
        except OSError:  # reset: it closed without reading our answers
            return 0
        self._received += data
        return len(data)

    def next_line(self) -> bytes | None:
        """The next whole message, None if there is none yet; raises `RateExceeded`.

        Of a message that is too long more than MAX_MESSAGE_BYTES are returned, once; the rest is skipped.
        """
        end = self._received.find(b"\n")
        size = len(self._received) if end < 0 else end + 1
        too_long = size > MAX_MESSAGE_BYTES
        if size == 0 or (end < 0 and not too_long and not self._skipping):
            return None
        cost = max(1.0, size / 1024)  # a token is a message, or a KiB of a long one
        now_s = time.monotonic()
        if self._own.take(now_s, cost) or self._shared.take(now_s, cost):
            raise RateExceeded
        line = bytes(self._received[:size])
        del self._received[:size]
        skipped, self._skipping = self._skipping, end < 0
        if skipped:
            return None if end < 0 else self.next_line()
        return line

    @property
    def incomplete_bytes(self) -> int:
        """The bytes of a received message without its end."""
        return 0 if self._skipping else len(self._received)

    @property
    def is_behind(self) -> bool:
        """Whether answers wait for the peer to read."""
        return bool(self._unsent)

    def flush(self) -> bool:
        """Send what can be sent without waiting; False if the peer has not read for too long."""
        with self._lock:
            try:
                while self._unsent and not self.closed:
                    del self._unsent[: self.connection.send(self._unsent[:_CHUNK_BYTES])]
            except BlockingIOError:
                pass
            except OSError:  # it no longer reads, but its earlier messages are still to be handled
                self._cannot_send = True
                self._unsent.clear()
            return not self._overrun

    def close(self) -> None:
        with self._lock:
            self.closed = True
            self._unsent.clear()
            self.connection.close()
            if self.pidfd is not None:
                os.close(self.pidfd)
                self.pidfd = None
