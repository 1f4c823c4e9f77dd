"""Which clients may read the metrics: the web config, reloaded when its files change, and rate limits.

A file that is invalid, or that protects less than the one in force (an editor may have written half of it),
changes nothing until it is corrected or the monitor is restarted.
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
from carbonmon_exporters.endpoint.rate_limits import TokenBuckets, client_key
from carbonmon_exporters.endpoint.settings import ConnectionSettings, Rate, Refusal

if TYPE_CHECKING:
    from carbonmon_exporters.endpoint.passwords import Passwords

_log = logging.getLogger(__name__)

CHECK_PERIOD_S = 1.0
"""How often, at most, the files are checked for changes."""

REQUESTS = Rate(200.0, 400.0)
REQUESTS_PER_CLIENT = Rate(150.0, 300.0)
"""Accepted requests of all clients, and requests of one client, unless the file has a rate_limit."""

MAX_SESSIONS = 1000
"""OpenSSL keeps sessions of TLS 1.2 clients that want no tickets, 1.1 KB each and up to 20,000, and Python
cannot turn that off; a new context has none."""

CHALLENGE = ("WWW-Authenticate", 'Basic realm="carbonmon"')

_FileStates = dict[Path, tuple[int, int, int] | None]


class AccessPolicy:
    """The web config in force. Without a path all clients are allowed, within limits. Raises ConfigError."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = self._path = None if path is None else path.absolute()
        self._clock = clock
        self._reload_lock = threading.Lock()
        self._checked_s = clock()
        self._last_error = ""
        self._warned_of: set[Path] = set()
        self._passwords: Passwords | None = None
        self._connections, self._requests, self._accepted = (TokenBuckets(clock) for _ in range(3))
        self._files: _FileStates = {}
        self._settings = ConnectionSettings()
        if self._path is not None:
            from carbonmon_exporters.endpoint.passwords import Passwords

            self._passwords = Passwords(clock)
            self._settings = self._load(self._path)

    @property
    def is_tls(self) -> bool:
        """Whether the server uses TLS: that never changes."""
        return self._settings.context is not None

    @property
    def authenticates(self) -> bool:
        return self._settings.config.authenticates

    def current_settings(self) -> ConnectionSettings:
        """The settings in force, after a check for changed files if one is due; for any thread."""
        # While another thread checks, perhaps on a file system that hangs, this one does not wait.
        if self._path is not None and self._reload_lock.acquire(blocking=False):
            try:
                if self._clock() - self._checked_s >= CHECK_PERIOD_S:
                    self._checked_s = self._clock()
                    self._reload_if_changed(self._path)
            finally:
                self._reload_lock.release()
        return self._settings

    def allow_connection(self, host: str) -> bool:
        """Whether a connection gets a thread: not if its client makes far more than may be answered."""
        rate = self._settings.config.rate or REQUESTS_PER_CLIENT
        return self._connections.take(client_key(host), Rate(2 * rate.per_s, 2 * rate.burst)) == 0.0

    def check_request(
        self, settings: ConnectionSettings, host: str, authorization: Iterable[str]
    ) -> Refusal | None:
        """Why a request is refused, None if it is not; `authorization` are the headers of that name."""
        rate, client = settings.config.rate, client_key(host)
        wait_s = self._requests.take(client, rate or REQUESTS_PER_CLIENT)
        if wait_s > 0.0:
            return _too_many_requests(wait_s)
        if settings.config.users:
            refused = self._check_password(settings, client, list(authorization))
            if refused is not None:
                return refused
        # Refused requests take nothing from this bucket, so they cannot keep accepted clients out.
        wait_s = self._accepted.take("", rate or REQUESTS)
        return _too_many_requests(wait_s) if wait_s > 0.0 else None

    def _check_password(
        self, settings: ConnectionSettings, client: str, authorization: Sequence[str]
    ) -> Refusal | None:
        from carbonmon_exporters.endpoint.passwords import TooManyAttemptsError

        assert self._passwords is not None  # users come from a file only
        header = authorization[0] if len(authorization) == 1 else None
        try:
            is_right = self._passwords.check(settings.config.users, header, client)
        except TooManyAttemptsError as error:
            return _too_many_requests(error.wait_s)
        return None if is_right else Refusal(401, (CHALLENGE,))

    def _reload_if_changed(self, path: Path) -> None:
        context = self._settings.context
        is_full = context is not None and context.session_stats()["number"] > MAX_SESSIONS
        # After an error it is tried each time: a fix, of a permission for example, may not change the states.
        if _file_states(self._files) == self._files and not self._last_error and not is_full:
            return
        before = self._settings.config
        try:
            settings = self._load(path)
            missing = settings.config.missing_protection(before)
            if missing:
                raise ConfigError(
                    f"{path}: it no longer has {missing}, which protected the metrics: "
                    "restart carbonmon to apply that"
                )
            if settings.config.tls is not None and before.tls is None:
                raise ConfigError(f"{path}: restart carbonmon to apply the new tls_server_config")
        except ConfigError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                _log.warning("the changed web config is not applied, the old one stays in force: %s", error)
        else:
            level = logging.WARNING if self._last_error else logging.INFO
            self._last_error = ""
            self._settings = settings
            _log.log(level, "the web config was reloaded: %s", path)

    def _load(self, path: Path) -> ConnectionSettings:
        from carbonmon_exporters.endpoint.certificates import make_context
        from carbonmon_exporters.endpoint.web_config import read_web_config

        # The states are taken before the files are read: a change meanwhile is noticed the next time.
        self._files = own = _file_states((path,))
        config = read_web_config(path)
        self._files = _file_states(config.files()) | own
        if config.tls is None:
            return ConnectionSettings(config)
        context = make_context(config.tls, path)
        self._warn_of(config.tls.key_file)
        return ConnectionSettings(config, context)

    def _warn_of(self, key: Path) -> None:
        with suppress(OSError):
            if key not in self._warned_of and key.stat().st_mode & stat.S_IROTH:
                self._warned_of.add(key)
                _log.warning("every user of this machine can read the private key: chmod o= %s", key)


def _file_states(paths: Iterable[Path]) -> _FileStates:
    """Time, size and inode of files, which change if a file is changed or replaced; None without a file."""
    return {path: _state(path) for path in paths}


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _too_many_requests(wait_s: float) -> Refusal:
    return Refusal(429, (("Retry-After", str(max(1, math.ceil(wait_s)))),))
