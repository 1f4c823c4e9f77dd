"""The open connections: limits in all and for each client, and which one is closed for a new one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter


class _Connection:
    __slots__ = ("client", "is_waiting")

    def __init__(self, client: str) -> None:
        self.client = client
        self.is_waiting = True
        """Whether the request is not complete yet, or the answer was sent already."""


class OpenConnections:
    """The open connections in order of arrival: at most `limit`, and `limit_per_client` of one client."""

    def __init__(self, limit: int, limit_per_client: int) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._open: dict[socket.socket, _Connection] = {}
        self._changed = threading.Condition()

    def add(self, connection: socket.socket, client: str) -> bool:
        """Add a connection; False if the limit is reached. A connection that is being answered stays.

        If the client is at its limit, its own oldest waiting connection is closed. If the limit in all is
        reached, the oldest waiting one of the client with the most connections is closed, so that many
        connections of one client keep no other client out.
        """
        with self._changed:
            count = Counter(other.client for other in self._open.values())
            if count[client] >= self._limit_per_client:
                to_close = self._oldest_waiting({client})
            elif len(self._open) >= self._limit:
                waiting = {other.client for other in self._open.values() if other.is_waiting}
                most = max((count[other] for other in waiting), default=0)
                to_close = self._oldest_waiting({other for other in waiting if count[other] == most})
            else:
                to_close = connection
            if to_close is None:
                return False
            if to_close is not connection:
                del self._open[to_close]
                shut_down(to_close)
            self._open[connection] = _Connection(client)
            return True

    def begin_answer(self, connection: socket.socket) -> bool:
        """Keep a connection open while it is answered; False if it was closed for another one meanwhile."""
        return self._set_waiting(connection, is_waiting=False)

    def end_answer(self, connection: socket.socket) -> None:
        """The answer was sent: from now on the connection may be closed for another one."""
        self._set_waiting(connection, is_waiting=True)

    def remove(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()

    def close_all(self, timeout_s: float) -> None:
        """Close waiting connections, wait for the answers in progress, then close all others."""
        with self._changed:
            for connection, state in self._open.items():
                if state.is_waiting:
                    shut_down(connection)
            self._changed.wait_for(lambda: not self._open, timeout=timeout_s)
            for connection in self._open:
                shut_down(connection)

    def _set_waiting(self, connection: socket.socket, is_waiting: bool) -> bool:
        with self._changed:
            state = self._open.get(connection)
            if state is not None:
                state.is_waiting = is_waiting
            return state is not None

    def _oldest_waiting(self, clients: set[str]) -> socket.socket | None:
        return next(
            (
                connection
                for connection, state in self._open.items()
                if state.is_waiting and state.client in clients
            ),
            None,
        )


def shut_down(connection: socket.socket) -> None:
    """End a connection of another thread, whose blocked read or write returns at once."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
