"""Who may come in: the web config in force, read again when its files change, and the limits for everybody.

A file that is broken, or that asks for less than the one in force (an editor may have written half of it),
changes nothing until it is mended or the monitor is started again.
"""

from __future__ import annotations

import logging
import math
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from carbonmon.core.errors import ConfigError
from carbonmon_exporters.endpoint.limits import Buckets, origin
from carbonmon_exporters.endpoint.terms import Rate, Refusal, Terms

if TYPE_CHECKING:
    from carbonmon_exporters.endpoint.passwords import Passwords

_log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often, at most, the files are looked at."""

REQUESTS = Rate(200.0, 400.0)
REQUESTS_OF_ONE = Rate(150.0, 300.0)
"""Requests of everybody who was let in, and requests of one address, unless the file has a rate_limit."""

MAX_SESSIONS = 1000
"""OpenSSL remembers clients of TLS 1.2 that want no tickets, 1.1 KB each and up to 20,000, and Python cannot
keep it from that; a new context has forgotten them."""

CHALLENGE = ("WWW-Authenticate", 'Basic realm="carbonmon"')

_Seen = dict[Path, tuple[int, int, int] | None]


class Door:
    """The web config in force. Without a path the door is open, with limits. Raises ConfigError."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = None if path is None else path.absolute()
        self._clock = clock
        self._looking = threading.Lock()
        self._looked_s = clock()
        self._trouble = ""
        self._warned_of: set[Path] = set()
        self._passwords: Passwords | None = None
        self._connections, self._requests, self._let_in = Buckets(clock), Buckets(clock), Buckets(clock)
        self._seen: _Seen = {}
        self._terms = Terms()
        if self._path is not None:
            from carbonmon_exporters.endpoint.passwords import Passwords

            self._passwords = Passwords(clock)
            self._terms = self._load(self._path)

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken: that never changes."""
        return self._terms.context is not None

    @property
    def authenticates(self) -> bool:
        return self._terms.config.authenticates

    def look(self) -> Terms:
        """What is in force, after a look at the files if the last one is some time ago; for any thread."""
        # Where somebody else is looking, perhaps at a file system that hangs, nobody waits.
        if self._path is not None and self._looking.acquire(blocking=False):
            try:
                if self._clock() - self._looked_s >= LOOK_S:
                    self._looked_s = self._clock()
                    self._renew(self._path)
            finally:
                self._looking.release()
        return self._terms

    def knock(self, host: str) -> bool:
        """Whether a connection is worth a thread: not where one address makes far more than are answered."""
        rate = self._terms.config.rate or REQUESTS_OF_ONE
        return self._connections.take(origin(host), Rate(2 * rate.per_s, 2 * rate.burst)) == 0.0

    def check(self, terms: Terms, host: str, authorization: Iterable[str]) -> Refusal | None:
        """Why a request is refused, None if it is not; `authorization` are the headers of that name."""
        rate, address = terms.config.rate, origin(host)
        wait_s = self._requests.take(address, rate or REQUESTS_OF_ONE)
        if wait_s > 0.0:
            return _later(wait_s)
        if terms.config.users:
            refused = self._identify(terms, address, list(authorization))
            if refused is not None:
                return refused
        # Strangers have spent nothing of this: they cannot keep out those who may come in.
        wait_s = self._let_in.take("", rate or REQUESTS)
        return _later(wait_s) if wait_s > 0.0 else None

    def _identify(self, terms: Terms, address: str, authorization: Sequence[str]) -> Refusal | None:
        from carbonmon_exporters.endpoint.passwords import TooManyAttemptsError

        assert self._passwords is not None  # users come from a file only
        header = authorization[0] if len(authorization) == 1 else None
        try:
            is_right = self._passwords.check(terms.config.users, header, address)
        except TooManyAttemptsError as error:
            return _later(error.wait_s)
        return None if is_right else Refusal(401, (CHALLENGE,))

    def _renew(self, path: Path) -> None:
        context = self._terms.context
        is_full = context is not None and context.session_stats()["number"] > MAX_SESSIONS
        # In trouble it is tried again and again: what mends it, a permission say, may leave no trace here.
        if _look_at(self._seen) == self._seen and not self._trouble and not is_full:
            return
        before = self._terms.config
        try:
            terms = self._load(path)
            gone = terms.config.opens(before)
            if gone:
                raise ConfigError(
                    f"{path}: without {gone} it would open the door: restart carbonmon for that"
                )
            if terms.config.tls is not None and before.tls is None:
                raise ConfigError(f"{path}: restart carbonmon to begin with tls_server_config")
        except ConfigError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.warning("the new web config is not taken, the old one stays in force: %s", error)
        else:
            level = logging.WARNING if self._trouble else logging.INFO
            self._trouble = ""
            self._terms = terms
            _log.log(level, "the web config was read again: %s", path)

    def _load(self, path: Path) -> Terms:
        from carbonmon_exporters.endpoint.certificates import make_context
        from carbonmon_exporters.endpoint.webconfig import read_web_config

        # What is looked at before it is read may change meanwhile, and that is noticed the next time.
        self._seen = own = _look_at((path,))
        config = read_web_config(path)
        self._seen = _look_at(config.files()) | own
        if config.tls is None:
            return Terms(config)
        context = make_context(config.tls, path)
        self._warn_of(config.tls.key_file)
        return Terms(config, context)

    def _warn_of(self, key: Path) -> None:
        with suppress(OSError):
            if key not in self._warned_of and key.stat().st_mode & stat.S_IROTH:
                self._warned_of.add(key)
                _log.warning("every user of this machine can read the private key %s: chmod o= it", key)


def _look_at(paths: Iterable[Path]) -> _Seen:
    """What tells whether files were changed or replaced: time, size and inode; None for what is not there."""
    return {path: _state(path) for path in paths}


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _later(wait_s: float) -> Refusal:
    return Refusal(429, (("Retry-After", str(max(1, math.ceil(wait_s)))),))
