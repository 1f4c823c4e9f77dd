"""HTTP for live sources: a JSON value or a `FetchError`, within a time and a size, whatever the server does.

urllib3 (extra `carbonmon[live]`) speaks HTTP and TLS. Bodies are unpacked piece by piece against the limit.
Redirects are followed within one origin only, because keys travel in headers. No text of an error holds
anything of the request but the host, and nothing of the answer.
"""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from math import isfinite
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.grid.deadline import Deadline, pools
from carbonmon.version import __version__

if TYPE_CHECKING:
    import ssl

    import urllib3

TIME_LIMIT_S = 10.0
LIMIT_BYTES = 1 << 20
LONGEST_RETRY_AFTER_S = 3600.0
MOST_REDIRECTS = 3
_PIECE_BYTES = 1 << 14
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

_Origin = tuple[str, str, "int | None"]


class LiveHttp:
    """The network as live sources see it. Nothing is kept between two requests; any thread may ask.

    `time_limit_s` is for a whole request with its redirects and its second attempt, `limit_bytes` for a body
    as it is sent and as it is unpacked. Raises ConfigError where urllib3 is not installed.
    """

    def __init__(self, time_limit_s: float = TIME_LIMIT_S, limit_bytes: int = LIMIT_BYTES) -> None:
        try:
            import urllib3  # noqa: F401
        except ModuleNotFoundError:
            raise ConfigError("live sources need urllib3: pip install 'carbonmon[live]'") from None
        self._time_limit_s = time_limit_s
        self._limit_bytes = limit_bytes
        self._deadline = Deadline()
        self._pools = pools(self._deadline)

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
        sent = _headers(host, headers or {}, basic)
        self._deadline.start(self._time_limit_s)
        try:
            body = self._fetch(url, host, sent)
        except FetchError as error:
            if error.reason != "connect":
                raise
            body = self._fetch(url, host, sent)
        return _value(body, host)

    def _fetch(self, url: str, host: str, headers: Mapping[str, str]) -> bytes:
        origin = _origin(url)
        with self._errors(host), self._manager(url) as manager:
            for _ in range(MOST_REDIRECTS + 1):
                response = manager.request(
                    "GET",
                    url,
                    headers=headers,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    timeout=self._deadline.left_s(),
                )
                with response:
                    if response.status == 200:
                        return self._body(response, host)
                    target = response.headers.get("Location", "")
                    if response.status not in _REDIRECTS or not target:
                        raise _refusal(host, response.status, response.headers.get("Retry-After", ""))
                try:
                    url = urljoin(url, target)
                    is_elsewhere = _origin(url) != origin
                except ValueError:
                    is_elsewhere = True
                if is_elsewhere:
                    raise FetchError("redirect", f"{host}: it redirects to elsewhere, where no key is sent")
        raise FetchError("redirect", f"{host}: it redirects more than {MOST_REDIRECTS} times")

    def _body(self, response: urllib3.BaseHTTPResponse, host: str) -> bytes:
        """The body, unpacked; raises FetchError as soon as it is too large."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip", ""):
            raise FetchError("not_json", f"{host}: the answer is packed in a way that nobody asked for")
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in encoding else None
        length = response.headers.get("Content-Length", "")
        is_too_large = len(length) > 9 or (length.isdecimal() and int(length) > self._limit_bytes)
        body = bytearray()
        received = 0
        # urllib3 would unpack a whole piece at once, which a bomb of a few kilobytes makes into megabytes.
        while not is_too_large and (piece := response.read(_PIECE_BYTES, decode_content=False)):
            received += len(piece)
            if unpacker is not None:
                try:
                    piece = unpacker.decompress(piece, self._limit_bytes + 1 - len(body))
                except zlib.error:
                    raise FetchError("not_json", f"{host}: the answer is damaged") from None
            body += piece
            is_too_large = max(received, len(body)) > self._limit_bytes
        if is_too_large:
            raise FetchError("too_large", f"{host}: the answer is longer than {self._limit_bytes} bytes")
        return bytes(body)

    @contextmanager
    def _errors(self, host: str) -> Iterator[None]:
        """What urllib3, TLS and sockets raise as FetchError; their own texts may hold URLs and more."""
        import http.client

        import urllib3

        try:
            yield
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, UnicodeError) as error:
            raise _failure(host, error, self._time_limit_s) from None

    def _manager(self, url: str) -> urllib3.PoolManager:
        """What opens connections: to the host of the URL, or to the proxy that the environment names."""
        import urllib3

        manager: urllib3.PoolManager
        proxy = _proxy(url)
        # Reading the certificates of all authorities takes its time: not for http.
        context = self._tls if urlsplit(url).scheme == "https" else None
        if proxy is None:
            manager = urllib3.PoolManager(ssl_context=context)
        else:
            parts = urlsplit(proxy)
            secret = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            manager = urllib3.ProxyManager(
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
                proxy_headers={"Proxy-Authorization": _basic(secret)} if parts.username else None,
                ssl_context=context,
                proxy_ssl_context=self._tls if parts.scheme == "https" else None,
            )
        manager.pool_classes_by_scheme = self._pools
        return manager

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        import ssl

        return ssl.create_default_context()


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
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ConfigError(f"{variable}: over http keys would travel in clear; give https://HOST/PATH")
    return text.rstrip("/")


def _headers(host: str, headers: Mapping[str, str], basic: tuple[str, str] | None) -> dict[str, str]:
    sent = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "User-Agent": f"carbonmon/{__version__}",
        **headers,
    }
    if basic is not None:
        sent["Authorization"] = _basic(":".join(basic))
    if not all(map(_HEADER_VALUE.fullmatch, sent.values())):  # http.client would name the value in its error
        raise FetchError("key", f"{host}: not asked: the key holds characters that no header may hold")
    return sent


def _basic(secret: str) -> str:
    return f"Basic {base64.b64encode(secret.encode()).decode()}"


def _origin(url: str) -> _Origin:
    """Scheme, host and port; raises ValueError for what is no URL."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", parts.port or default


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy(url: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY name for a URL, unless NO_PROXY exempts its host.

    Never one for this machine: over http to itself keys may travel in clear, to a proxy they may not.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or _is_loopback(host) or proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        is_usable = _origin(proxy)[0] in ("http", "https") and bool(urlsplit(proxy).hostname)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise FetchError("connect", f"{host}: the environment's proxy cannot be used; give http://HOST:PORT")
    return proxy


def _failure(host: str, error: BaseException, time_limit_s: float) -> FetchError:
    """What went wrong, by what caused it."""
    import ssl

    import urllib3

    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(each, (TimeoutError, urllib3.exceptions.TimeoutError)) for each in causes):
        return FetchError("timeout", f"{host}: no answer within {time_limit_s:g} s")
    way = "through the proxy" if isinstance(error, urllib3.exceptions.ProxyError) else "there"
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
        return FetchError("tls", f"{host}: the certificate {way} cannot be verified")
    if any(isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLEOFError) for each in causes):
        return FetchError("tls", f"{host}: no secure connection {way}")
    return FetchError("connect", f"{host}: the connection {way} failed or broke off")


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


def _value(body: bytes, host: str) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise FetchError("not_json", f"{host}: the answer is no JSON") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number is too large")
    return number
