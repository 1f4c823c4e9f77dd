"""How much each user of a socket may use of it. Root and the monitor's own user have no limits of this kind.

Whose a connection is the kernel tells once it was accepted (SO_PEERCRED). From then on a refusal must cost
next to nothing: others wait in the same queue behind those who are refused.
"""

from __future__ import annotations

import os
import time

from carbonmon.client.protocol import encode
from carbonmon.core.pacing import TokenBucket
from carbonmon.service.socket.listener import MAX_CONNECTIONS
from carbonmon.service.socket.peer import BURST, RATE_HZ

CONNECTS_HZ, CONNECTS_BURST = 100.0, 2.0 * MAX_CONNECTIONS
"""Connections that a user may make a second, and at once: all ranks of a node, twice."""

_MESSAGE_FACTOR = 8.0
"""All connections of a user together may send so many times as much as one of them."""

_REMEMBERED = 1000
"""So many users are remembered at least. In a namespace of users (`newuidmap`) one account has 65,536."""


class User:
    """What a user's connections may do together."""

    __slots__ = ("connections", "connects", "messages", "too_often")

    def __init__(self, uid: int, now_s: float) -> None:
        self.connections = 0
        self.connects = TokenBucket(CONNECTS_HZ, CONNECTS_BURST, now_s)
        self.messages = TokenBucket(_MESSAGE_FACTOR * RATE_HZ, _MESSAGE_FACTOR * BURST, now_s)
        self.too_often = _refused(f"user {uid} makes more than {CONNECTS_HZ:.0f} connections a second: wait")


class Users:
    """Those who have come to a socket; `everyone`: not only the monitor's own user and root."""

    def __init__(self, everyone: bool) -> None:
        self._everyone = everyone
        self._own = os.geteuid()
        self._users: dict[int, User] = {}
        self._connections = self._of_others = 0

    def enter(self, uid: int, most: int) -> User | bytes:
        """Let a user in where the socket may have `most` connections; else the line that says why not."""
        is_own = uid in (self._own, 0)
        if not is_own and not self._everyone:
            return _refused(f"this monitor belongs to user {self._own}; user {uid} may not use it")
        user = self._users.get(uid) or self._meet(uid)
        if not is_own:
            if user.connects.take(time.monotonic()):
                return user.too_often
            if user.connections >= most // 2:
                return _refused(
                    f"user {uid} has {user.connections} connections to this monitor, and can have no more"
                )
            if self._of_others >= most - reserved(most):
                return _refused("the users of this node have all connections to this monitor: try again")
        if self._connections >= most:
            return _refused(f"this monitor has {most} connections, and can have no more")
        user.connections += 1
        self._connections += 1
        self._of_others += not is_own
        return user

    def leave(self, uid: int) -> None:
        """A connection that was let in is closed."""
        self._users[uid].connections -= 1
        self._connections -= 1
        self._of_others -= uid not in (self._own, 0)

    def _meet(self, uid: int) -> User:
        now_s = time.monotonic()
        if len(self._users) >= _REMEMBERED:
            self._users = {
                known: user
                for known, user in self._users.items()
                if user.connections or not user.connects.is_full(now_s)
            }
        user = self._users[uid] = User(uid, now_s)
        return user


def reserved(most: int) -> int:
    """How many of so many places are kept for root and the monitor's own user, whoever holds the others.

    A user's limit keeps that user from taking all; two accounts could do it together.
    """
    return -(-most // 8)


def _refused(text: str) -> bytes:
    return encode({"ok": False, "error": text})
