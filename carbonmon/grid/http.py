"""HTTP for live sources: a JSON value or a `FetchError`, within a time and a size, whatever the server does.

Redirects are followed within one origin only, because keys travel in headers. No text of an error holds
anything of the request but the host, and nothing of the answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.net.address import basic_login, is_loopback
from carbonmon.net.deadline import Deadline
from carbonmon.net.exchange import HttpError
from carbonmon.net.http import HttpClient
from carbonmon.net.json_body import json_value

TIME_LIMIT_S = 10.0
LIMIT_BYTES = 1 << 20
LONGEST_RETRY_AFTER_S = 3600.0
MOST_REDIRECTS = 3


class LiveHttp:
    """The network as live sources see it. Nothing is kept between two requests; any thread may ask.

    `time_limit_s` is for a whole request with its redirects and its second attempt, `limit_bytes` for a body
    as it is sent and as it is unpacked.
    """

    def __init__(self, time_limit_s: float = TIME_LIMIT_S, limit_bytes: int = LIMIT_BYTES) -> None:
        self._client = HttpClient(time_limit_s, MOST_REDIRECTS)
        self._limit_bytes = limit_bytes

    def get_json(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
    ) -> Any:
        """The JSON value at a URL. What fails on the way there is tried once more."""
        host = urlsplit(url).hostname or ""
        if params:
            url = f"{url}?{urlencode(params, quote_via=quote)}"
        sent = {"Accept": "application/json", "Accept-Encoding": "gzip", **(headers or {})}
        if basic is not None:
            sent["Authorization"] = basic_login(*basic)
        deadline = Deadline(self._client.time_limit_s)
        try:
            body = self._fetch(url, host, sent, deadline)
        except FetchError as error:
            if error.reason != "connect":
                raise
            body = self._fetch(url, host, sent, deadline)
        return json_value(body, host)

    def _fetch(self, url: str, host: str, headers: Mapping[str, str], deadline: Deadline) -> bytes:
        try:
            with self._client.open(url, headers, deadline=deadline) as answer:
                if answer.status != 200:
                    raise _refusal(host, answer.status, answer.headers.get("retry-after", ""))
                return answer.body(self._limit_bytes)
        except HttpError as error:
            if error.reason == "packed":
                raise FetchError("not_json", str(error)) from None
            raise


def base_url(environ: Mapping[str, str], variable: str, default: str) -> str:
    """Where a provider is asked: `default`, or what the environment names, a mirror or a proxy of one's own.

    Raises ConfigError for a URL that cannot be one, and for one that keys would reach in clear.
    """
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    # Nothing of the URL is shown: a password may stand in it.
    if (
        not is_url
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or not re.fullmatch(r"[!-~]+", text)
    ):
        raise ConfigError(
            f"{variable}: it is no base URL; give https://HOST/PATH, without a user, a password or parameters"
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigError(f"{variable}: over http keys would travel in clear; give https://HOST/PATH")
    return text.rstrip("/")


def _refusal(host: str, status: int, retry_after: str) -> FetchError:
    said = {
        401: "the key is not accepted",
        403: "the key may not ask for this",
        404: "nothing is known there",
    }
    said[429] = "asked too often"
    text = said.get(status, f"it answered with status {status}")
    return FetchError(f"http_{status}", f"{host}: {text}", _retry_after_s(retry_after))


def _retry_after_s(text: str) -> float | None:
    """Seconds to wait, of a header with seconds or a date (RFC 9110, 10.2.3); None for anything else."""
    from email.utils import parsedate_to_datetime

    text = text.strip()
    if text.isascii() and text.isdecimal():
        wait_s = float(text[:12])
    else:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError, IndexError, OverflowError):
            return None
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)
