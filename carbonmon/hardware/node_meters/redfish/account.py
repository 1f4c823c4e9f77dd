"""Asks a Redfish service as an account: JSON documents by their path, in a session where it offers them.

DSP0266 (Redfish Specification), 13.3: a service takes HTTP Basic, or a login that gives a token. A session
is one login for all questions, and is ended when the meter closes; where none is to be had, Basic is used.
After a refused login nothing is asked for minutes: controllers lock accounts after a few wrong passwords.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from carbonmon.core.errors import FetchError, SensorReadError
from carbonmon.core.records import NamedTuple
from carbonmon.net.address import address_of, basic_login
from carbonmon.net.http import SMALL_BYTES, HttpClient
from carbonmon.net.json_body import json_value

log = logging.getLogger(__name__)

ROOT = "/redfish/v1/"
TIME_LIMIT_S = 10.0
LIMIT_BYTES = 1 << 20
REFUSED_PAUSE_S = 600.0


class Login(NamedTuple):
    """Name and password of an account; no log shows them."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "…"


class Account:
    """For one thread. Every question raises `SensorReadError` where it has no usable answer."""

    def __init__(
        self,
        base: str,
        login: Login | None,
        authorities: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`base` is scheme, host and port of the service. Without `login` it is asked as anybody."""
        self.host = address_of(base).host
        self._base = base
        self._login = login
        self._client = HttpClient(TIME_LIMIT_S, authorities=authorities)
        self._clock = clock
        self._headers: dict[str, str] = {}
        self._session = ""
        self._is_logged_in = False
        self._not_before_s = 0.0

    def document(self, path: str) -> Mapping[str, Any]:
        """The object at a path of the service."""
        if self._clock() < self._not_before_s:
            raise SensorReadError(self._why_refused())
        had_session = self._has_token
        status, found = self._get(path)
        if status == 401 and had_session:  # it has expired
            self._forget_session()
            status, found = self._get(path)
        if status == 403 and self._has_token:  # DSP0266: the login is good, its role lacks the privilege
            raise SensorReadError(f"{self.host}: the account's role may not read {path:.80}")
        if status in (401, 403):
            raise self._refused()
        if status != 200:
            raise SensorReadError(f"{self.host}: {path:.80} is answered with status {status}")
        if not isinstance(found, dict):
            raise SensorReadError(f"{self.host}: {path} is no object")
        return found

    @property
    def _has_token(self) -> bool:
        """Whether a session is open; some services do not say at which path."""
        return "X-Auth-Token" in self._headers

    def close(self) -> None:
        """End the session: a controller has room for few."""
        if self._session:
            try:
                with self._client.open(self._base + self._session, self._headers, "DELETE"):
                    pass
            except FetchError as error:
                log.debug("the session at %s was not ended: %s", self.host, error)
            self._forget_session()

    def _get(self, path: str) -> tuple[int, Any]:
        """The status and, where it is 200, the JSON value at a path."""
        if not path.startswith("/"):
            raise SensorReadError(f"{self.host}: it refers to {path!r:.60}, which is no path")
        try:
            if self._login is not None and not self._is_logged_in and path != ROOT:
                self._log_in(self._login)
            with self._client.open(
                self._base + path, {"Accept": "application/json", **self._headers}
            ) as answer:
                body = answer.body(LIMIT_BYTES) if answer.status == 200 else b""
            return answer.status, json_value(body, self.host) if body else None
        except FetchError as error:
            mend = ", or with --redfish-ca-file" if str(error).endswith("SSL_CERT_FILE") else ""
            raise SensorReadError(f"{error}{mend}") from None

    def _log_in(self, login: Login) -> None:
        """Begin a session; without one, send the login with each question."""
        root = self._get(ROOT)[1]
        path = _path_of(_member(_member(root, "Links"), "Sessions"))
        if path:
            data = json.dumps({"UserName": login.username, "Password": login.password}).encode()
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            with self._client.open(self._base + path, headers, "POST", data) as answer:
                answer.body(SMALL_BYTES)
            if answer.status in (400, 401, 403):
                raise self._refused()
            token = answer.headers.get("x-auth-token", "")
            if token:
                self._headers = {"X-Auth-Token": token}
                self._session = _session_path(answer.headers.get("location", ""))
        if not self._headers:
            self._headers = {"Authorization": basic_login(*login)}
        self._is_logged_in = True

    def _forget_session(self) -> None:
        self._headers, self._session, self._is_logged_in = {}, "", False

    def _refused(self) -> SensorReadError:
        self._forget_session()
        self._not_before_s = self._clock() + REFUSED_PAUSE_S
        return SensorReadError(self._why_refused())

    def _why_refused(self) -> str:
        if self._login is None:
            return f"{self.host}: it asks for an account: give redfish:https://USER@{self.host}"
        return (
            f"{self.host}: the login is refused: check the account and its password; it is tried again after "
            f"{REFUSED_PAUSE_S / 60:.0f} min"
        )


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _path_of(link: Any) -> str:
    """Where a reference leads to, "" for none."""
    path = _member(link, "@odata.id")
    return path if isinstance(path, str) and path.startswith("/") else ""


def _session_path(location: str) -> str:
    """The path of a session by its header Location, "" where that is none of a Redfish service.

    Controllers say the whole URL too, with the name that they know themselves by: the path is what counts.
    """
    try:
        path = address_of(location).target
    except ValueError:
        path = location
    return path if path.startswith(ROOT) else ""
