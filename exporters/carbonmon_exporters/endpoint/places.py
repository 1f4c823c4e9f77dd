"""Which connections are open: so many in all, so many of one address, and who makes room for the next."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter


class _Place:
    __slots__ = ("address", "is_waiting")

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_waiting = True
        """Whether the client still owes a part of its request, or has its answer already."""


class Places:
    """The open connections in order of arrival; each is cut by whoever needs its place."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._open: dict[socket.socket, _Place] = {}
        self._changed = threading.Condition()

    def take(self, connection: socket.socket, address: str) -> bool:
        """Take a place; False if there is none. Nobody who is being answered loses his.

        An address with too many connections gives up its own oldest that waits. When all places are taken,
        it is the oldest of the address that has the most, so that a crowd from one place keeps no other out.
        """
        with self._changed:
            count = Counter(place.address for place in self._open.values())
            if count[address] >= self._most_of_one:
                leaving = self._oldest_waiting({address})
            elif len(self._open) >= self._most:
                waiting = {place.address for place in self._open.values() if place.is_waiting}
                most = max((count[other] for other in waiting), default=0)
                leaving = self._oldest_waiting({other for other in waiting if count[other] == most})
            else:
                leaving = connection
            if leaving is None:
                return False
            if leaving is not connection:
                del self._open[leaving]
                cut(leaving)
            self._open[connection] = _Place(address)
            return True

    def is_kept(self, connection: socket.socket) -> bool:
        """Keep a connection while it is answered; False if its place was given away meanwhile."""
        return self._mark(connection, is_waiting=False)

    def release(self, connection: socket.socket) -> None:
        """Its answer was sent: from now on it may be cut."""
        self._mark(connection, is_waiting=True)

    def leave(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()

    def clear(self, timeout_s: float) -> None:
        """Cut who waits, let the answers under way be sent, then cut everybody."""
        with self._changed:
            for connection, place in self._open.items():
                if place.is_waiting:
                    cut(connection)
            self._changed.wait_for(lambda: not self._open, timeout=timeout_s)
            for connection in self._open:
                cut(connection)

    def _mark(self, connection: socket.socket, is_waiting: bool) -> bool:
        with self._changed:
            place = self._open.get(connection)
            if place is not None:
                place.is_waiting = is_waiting
            return place is not None

    def _oldest_waiting(self, addresses: set[str]) -> socket.socket | None:
        return next(
            (
                connection
                for connection, place in self._open.items()
                if place.is_waiting and place.address in addresses
            ),
            None,
        )


def cut(connection: socket.socket) -> None:
    """End a connection of another thread, whose blocked read or write returns at once."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
