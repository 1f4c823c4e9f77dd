"""Checks passwords against bcrypt hashes: right ones are cached, wrong ones use bounded CPU time.

bcrypt is slow on purpose (some 60 ms at cost 10) and releases Python's lock meanwhile. One check runs at a
time. The cache holds keyed hashes of right passwords; only this process has the key.
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

from carbonmon_exporters.endpoint.rate_limits import TokenBuckets
from carbonmon_exporters.endpoint.settings import Rate
from carbonmon_exporters.endpoint.yaml_file import import_extra

_log = logging.getLogger(__name__)

FAILURE_RATE = Rate(1 / 5, 10)
"""Wrong passwords of one client: ten at once, then one in five seconds."""

CPU_RATE = Rate(0.1, 2.0)
"""Seconds of CPU time that wrong passwords of all clients may use: a tenth of one CPU, 2 s at once."""

MAX_CACHED = 256
_WARNING_PERIOD_S = 60.0
_BCRYPT_BYTES = 72  # bcrypt uses no more of a password; some releases of the library refuse a longer one


class TooManyAttemptsError(Exception):
    """Nothing was checked: there were too many wrong passwords. `wait_s` says when to try again."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"try again in {wait_s:.0f} s")
        self.wait_s = wait_s


class Passwords:
    """Caches right passwords and counts wrong ones by client, while the process runs."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        max_cached: int = MAX_CACHED,
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._max_cached = max_cached
        self._key = os.urandom(32)
        self._cached: OrderedDict[bytes, None] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._check_lock = threading.Lock()
        self._failures = TokenBuckets(clock)
        self._cpu = TokenBuckets(clock)
        self._warned_s = -math.inf

    def check(self, users: Mapping[bytes, bytes], authorization: str | None, client: str) -> bool:
        """Whether an Authorization header names a user with the right password.

        Raises TooManyAttemptsError when the client, or all clients, gave too many wrong ones: only cached
        passwords are accepted then.
        """
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        user, password = credentials
        stored = users.get(user)
        # An unknown name takes the same time as one of the users: which one depends on the name alone.
        hashed = stored or self._dummy_hash(user, users)
        key = self._keyed_hash(user, password, hashed)
        if self._is_cached(key):
            return True
        with self._check_lock:
            if self._is_cached(key):  # another request with it was first
                return True
            failures_wait_s = self._failures.wait_s(client, FAILURE_RATE, 1.0)
            wait_s = max(failures_wait_s, self._cpu.wait_s("", CPU_RATE, 0.0))
            if wait_s > 0.0:
                self._warn_once_a_minute(client)
                raise TooManyAttemptsError(wait_s)
            begin_s = self._cpu_clock()
            try:
                matches = import_extra("bcrypt", "bcrypt").checkpw(password[:_BCRYPT_BYTES], hashed)
            except ValueError:  # some releases raise it for a password with a zero byte
                matches = False
            if matches and stored is not None:
                self._cache(key)
                return True
            self._cpu.spend("", CPU_RATE, self._cpu_clock() - begin_s)
            self._failures.spend(client, FAILURE_RATE, 1.0)
            return False

    def _keyed_hash(self, *parts: bytes) -> bytes:
        """A keyed hash of texts with their lengths; with the stored hash in it, so that a change ends it."""
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _is_cached(self, key: bytes) -> bool:
        # A dictionary compares in variable time; without the secret key nobody can make a similar hash.
        with self._cache_lock:
            if key not in self._cached:
                return False
            self._cached.move_to_end(key)
            return True

    def _cache(self, key: bytes) -> None:
        with self._cache_lock:
            self._cached[key] = None
            if len(self._cached) > self._max_cached:
                self._cached.popitem(last=False)

    def _dummy_hash(self, user: bytes, users: Mapping[bytes, bytes]) -> bytes:
        """A hash that matches no password, with the cost of one of the users' hashes."""
        costs = sorted(stored[4:6] for stored in users.values())
        chosen = costs[int.from_bytes(self._keyed_hash(user), "big") % len(costs)]
        return b"$2b$" + chosen + b"$" + b"." * 53

    def _warn_once_a_minute(self, client: str) -> None:
        if self._clock() - self._warned_s >= _WARNING_PERIOD_S:
            self._warned_s = self._clock()
            _log.warning("too many wrong passwords for the metrics, the last from %s: it has to wait", client)


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
