"""Asks a monitor's JSON API, and says of each refusal what mends it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from carbonmon_exporters.page import API

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.plain_text import plain
from carbonmon.core.records import NamedTuple
from carbonmon.net.exchange import HttpError
from carbonmon.net.http import Answer, HttpClient
from carbonmon.net.login import LoginVariables, authorization, name_and_password, server_address
from carbonmon.top.document import Document

TIME_LIMIT_S = 5.0
LIMIT_BYTES = 16 << 20
_LONGEST_SAID = 200

USERNAME, PASSWORD = "CARBONMON_TOP_USERNAME", "CARBONMON_TOP_PASSWORD"
VARIABLES = LoginVariables(USERNAME, PASSWORD, f"{PASSWORD}_FILE")


class NoRun(FetchError):
    """The monitor answers, and shows no such run."""


class Identity(NamedTuple):
    """Who asks, and which authorities are trusted; files as the user gave them."""

    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class MonitorApi:
    """The API of the monitor at one address; any thread may ask. What fails is a `FetchError`."""

    def __init__(self, url: str, environ: Mapping[str, str], identity: Identity) -> None:
        """Raises ConfigError for an address that is none, and for half of a login or of a certificate."""
        self.base = checked_url(url)
        name, password = name_and_password(identity.username, identity.password_file, environ, VARIABLES)
        self._headers = {
            "Accept": "application/json",
            **authorization("--url", self.base, "", name, password),
        }
        if identity.key_file is not None and identity.cert_file is None:
            raise ConfigError("--key-file is of no use without --cert-file: give both")
        authorities, own, key = (
            None if path is None else str(path)
            for path in (identity.ca_file, identity.cert_file, identity.key_file)
        )
        self._client = HttpClient(
            TIME_LIMIT_S, authorities=authorities, certificate=None if own is None else (own, key)
        )

    def now(self, run_id: str = "") -> Document:
        """The node and one of its runs; raises `NoRun` if that is not shown there."""
        return self._ask(f"/now?run={quote(run_id, safe='')}" if run_id else "/now")

    def runs(self) -> list[Document]:
        """The runs that go on, and those that ended lately."""
        return self._ask("/runs").parts("runs")

    def series(self, run_id: str) -> Document:
        """A run from its start; empty where it has none yet."""
        try:
            return self._ask(f"/runs/{quote(run_id, safe='')}/series")
        except NoRun:
            return Document({})

    def _ask(self, what: str) -> Document:
        try:
            with self._client.open(f"{self.base}/api/v{API}{what}", self._headers) as answer:
                if answer.status != 200:
                    raise self._refusal(answer)
                body = answer.body(LIMIT_BYTES)
        except HttpError as error:
            raise FetchError(error.reason, f"{self.base}: {error.said}{self._cure(error)}") from None
        found = _json(body)
        if found.number("api") is None:
            raise FetchError("garbage", f"{self.base}: that is no monitor of carbonmon; {_GIVE}")
        if found.number("api") != API:
            raise FetchError("api", f"{self.base}: a newer carbonmon answers there; update this one")
        return found

    def _cure(self, error: HttpError) -> str:
        if error.reason == "connect" and error.cause == "it broke off" and self.base.startswith("http:"):
            return "; if it has TLS, give an https address"
        if error.reason == "connect":
            return f"; is a run going on there, or the daemon? {_GIVE}"
        if error.reason == "tls" and "SSL_CERT_FILE" in error.said:
            return ", or in --ca-file"
        if error.reason == "tls" and "another name" in error.said:
            return "; give that name with --url"
        return ""

    def _refusal(self, answer: Answer) -> FetchError:
        status, login = answer.status, f"--username and --password-file, or {USERNAME} and {PASSWORD}"
        if place := answer.redirects_to():
            return FetchError("redirect", f"{self.base}: it redirects to {plain(place)}: give that address")
        said = _json(answer.beginning())
        if status == 404 and said.number("api") == API:
            return NoRun("http_404", f"{self.base}: {said.text('error')[:_LONGEST_SAID]}")
        texts = {
            400: "it does not take the request; if it has TLS, give an https address",
            401: (
                "it does not accept the login"
                if "Authorization" in self._headers
                else f"it asks for a login; give {login}"
            ),
            403: "it does not admit this client; give the --cert-file and --key-file of one that it admits",
            404: (
                f"it has no /api/v{API}: an older carbonmon, or another program; update carbonmon there, or "
                f"name another address with --url"
            ),
            429: "it is asked too often (rate_limit of its --web-config)",
            503: "it has no room for another connection now",
        }
        return FetchError(
            f"http_{status}",
            f"{self.base}: {texts.get(status, 'it does not answer as it should')} ({status})",
        )


_GIVE = "give the address of its page with --url, for instance http://node1:9877"


def checked_url(text: str) -> str:
    """The address of a monitor as users have it: HOST:PORT, that of the page, or that of /metrics."""
    url = text.strip() if "//" in text else f"http://{text.strip()}"
    base, path = server_address(url, "--url", "https://node1:9877", "--username and --password-file")
    for ending in ("/metrics", f"/api/v{API}/now", f"/api/v{API}/runs", f"/api/v{API}"):
        path = path.removesuffix(ending)
    return f"{base}{path}"


def _json(body: bytes) -> Document:
    """The object that a body holds; an empty one for a body that holds none."""
    try:
        return Document(json.loads(body))
    except (ValueError, RecursionError):
        return Document({})
