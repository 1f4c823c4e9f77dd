"""Checks passwords against bcrypt hashes: a right one is remembered, wrong ones cost a bounded CPU time.

bcrypt is slow on purpose (some 60 ms at cost 10) and releases Python's lock meanwhile. One check runs at a
time. What is remembered of a right password is a keyed hash, whose key this process alone has.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from carbonmon_exporters.endpoint.limits import Buckets
from carbonmon_exporters.endpoint.terms import Rate
from carbonmon_exporters.endpoint.yamlfile import needed

_log = logging.getLogger(__name__)

FAILURES = Rate(1 / 5, 10)
"""Wrong passwords of one address: ten at once, then one in five seconds."""

CPU = Rate(0.1, 2.0)
"""Seconds of CPU time that wrong passwords of everybody may cost: a tenth of one CPU, 2 s at once."""

MAX_REMEMBERED = 256
_COMPLAINT_S = 60.0
_BCRYPT_BYTES = 72  # bcrypt knows no more of a password; some releases of the library refuse a longer one


class TooManyAttemptsError(Exception):
    """Nothing was checked: there were too many wrong passwords. `wait_s` says when to try again."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"try again in {wait_s:.0f} s")
        self.wait_s = wait_s


class Passwords:
    """Remembers right passwords, and who gave wrong ones, for as long as the process lives."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        max_remembered: int = MAX_REMEMBERED,
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._max_remembered = max_remembered
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._remembering = threading.Lock()
        self._checking = threading.Lock()
        self._failures = Buckets(clock)
        self._cpu = Buckets(clock)
        self._complained_s = -math.inf

    def check(self, users: Mapping[bytes, bytes], authorization: str | None, address: str) -> bool:
        """Whether an Authorization header names a user with the right password.

        Raises TooManyAttemptsError when the address, or everybody, gave too many wrong ones: only what is
        remembered as right is let in then.
        """
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        user, password = credentials
        stored = users.get(user)
        # An unknown name takes the time of some user's: which one depends on the name alone.
        hashed = stored or self._decoy(user, users)
        mark = self._mark(user, password, hashed)
        if self._remembers(mark):
            return True
        with self._checking:
            if self._remembers(mark):  # another request with it was first
                return True
            wait_s = max(self._failures.wait_s(address, FAILURES, 1.0), self._cpu.wait_s("", CPU, 0.0))
            if wait_s > 0.0:
                self._complain(address)
                raise TooManyAttemptsError(wait_s)
            begin_s = self._cpu_clock()
            try:
                matches = needed("bcrypt", "bcrypt").checkpw(password[:_BCRYPT_BYTES], hashed)
            except ValueError:  # what some releases say to a password with a zero byte
                matches = False
            if matches and stored is not None:
                self._remember(mark)
                return True
            self._cpu.spend("", CPU, self._cpu_clock() - begin_s)
            self._failures.spend(address, FAILURES, 1.0)
            return False

    def _mark(self, *parts: bytes) -> bytes:
        """A keyed hash of texts and of where each begins; it holds for a stored hash as long as that one."""
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _remembers(self, mark: bytes) -> bool:
        # A dictionary may compare as it likes: without the key nobody can make marks that are near others.
        with self._remembering:
            if mark not in self._right:
                return False
            self._right.move_to_end(mark)
            return True

    def _remember(self, mark: bytes) -> None:
        with self._remembering:
            self._right[mark] = None
            if len(self._right) > self._max_remembered:
                self._right.popitem(last=False)

    def _decoy(self, user: bytes, users: Mapping[bytes, bytes]) -> bytes:
        """A hash that no password has, with the cost of one of the users'."""
        costs = sorted(stored[4:6] for stored in users.values())
        chosen = costs[int.from_bytes(self._mark(user), "big") % len(costs)]
        return b"$2b$" + chosen + b"$" + b"." * 53

    def _complain(self, address: str) -> None:
        if self._clock() - self._complained_s >= _COMPLAINT_S:
            self._complained_s = self._clock()
            _log.warning(
                "too many wrong passwords for the metrics, the last from %s: it has to wait", address
            )


def _credentials(authorization: str | None) -> tuple[bytes, bytes] | None:
    """User and password of a Basic Authorization header (RFC 7617), None if it is none."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(value.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None
