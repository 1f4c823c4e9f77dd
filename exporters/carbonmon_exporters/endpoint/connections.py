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
        """Whether no request is complete: before the first one, between two, or after the last answer."""


class OpenConnections:
    """The open connections: at most `limit`, and `limit_per_client` of one client.

    They are in the order of their last answers, or of arrival where nothing was answered yet.
    """

    def __init__(self, limit: int, limit_per_client: int) -> None:
        self._limit = limit
        self._limit_per_client = limit_per_client
        self._open: dict[socket.socket, _Connection] = {}
        self._changed = threading.Condition()
        self._is_closing = False

    def add(self, connection: socket.socket, client: str) -> bool:
        """Add a connection; False if the limit is reached. A connection that is being answered stays.

        If the client is at its limit, that one of its own is closed that waits the longest. If the limit in
        all is reached, it is one of the client with the most connections, so that many connections of one
        client keep no other client out.
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
        with self._changed:
            state = self._open.get(connection)
            if state is not None:
                state.is_waiting = False
            return state is not None

    def end_answer(self, connection: socket.socket) -> bool:
        """The answer was sent: from now on the connection may be closed for another one; False if all are."""
        with self._changed:
            state = self._open.pop(connection, None)
            if state is not None:
                state.is_waiting = True
                self._open[connection] = state
            return not self._is_closing

    def remove(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()

    def close_all(self, timeout_s: float) -> None:
        """Close waiting connections, wait for the answers in progress, then close all others."""
        with self._changed:
            self._is_closing = True
            for connection, state in self._open.items():
                if state.is_waiting:
                    shut_down(connection)
            self._changed.wait_for(lambda: not self._open, timeout=timeout_s)
            for connection in self._open:
                shut_down(connection)

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
