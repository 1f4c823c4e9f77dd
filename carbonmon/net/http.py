"""The one HTTP client: a request within one deadline and a size, whatever the server or the proxy does.

Nothing is kept between two requests. Redirects are followed within one origin only, because keys travel in
headers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from carbonmon.core.errors import FetchError
from carbonmon.net.address import address_of, are_plain
from carbonmon.net.body import HEAD_LIMIT_BYTES, Incoming, TooLong, pieces
from carbonmon.net.deadline import Deadline
from carbonmon.net.exchange import Exchange, HttpError
from carbonmon.version import __version__

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPResponse

SMALL_BYTES = 1 << 16
"""The limit of an answer to a push, and of what a server says of its refusal."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_SAME_METHOD = frozenset((307, 308))


class Answer:
    """An answer whose body is still to be read, inside of the `with` of `HttpClient.open`.

    `headers` have names in lower case; of several with one name the first counts.
    """

    def __init__(self, response: HTTPResponse, incoming: Incoming, exchange: Exchange) -> None:
        self._response = response
        self._incoming = incoming
        self._exchange = exchange
        self.status = response.status
        self.reason = response.reason
        self.headers = {name.lower(): value for name, value in reversed(response.getheaders())}

    def body(self, limit_bytes: int) -> bytes:
        """The whole body, unpacked; raises HttpError, also if it is longer, as it is sent or unpacked."""
        with self._exchange.errors():
            return b"".join(pieces(self._response, self._incoming, limit_bytes))

    def beginning(self) -> bytes:
        """What can be had of a body that explains a refusal, at most 64 KiB: a failure is no news then."""
        found = bytearray()
        with suppress(HttpError), self._exchange.errors():
            for piece in pieces(self._response, self._incoming, SMALL_BYTES):
                found += piece
        return bytes(found)

    def lines(self, limit_bytes: int) -> Iterator[bytes]:
        """The body's lines as they come, each with its end; raises HttpError for one that is too long."""
        while True:
            with self._exchange.errors():
                self._incoming.allow(limit_bytes, framing_bytes=HEAD_LIMIT_BYTES)
                line = self._response.readline(limit_bytes + 1)
                if len(line) > limit_bytes:
                    raise TooLong(limit_bytes)
            if not line:
                return
            yield line

    def redirects_to(self) -> str:
        """Scheme, host and port that a redirect leads to, "" for none: its path may hold what we sent."""
        target = self.headers.get("location", "")
        if self.status not in _REDIRECTS or not target:
            return ""
        try:
            address = address_of(urljoin(self._exchange.url, target))
        except ValueError:
            return ""
        return f"{address.scheme}://{address.authority}"


class HttpClient:
    """Asks servers; any thread may.

    `time_limit_s` is for a whole exchange with its redirects. `authorities` is a file or folder of those that
    count instead of the system's (or of SSL_CERT_FILE), `certificate` our own file and that of its key.
    """

    def __init__(
        self,
        time_limit_s: float,
        most_redirects: int = 0,
        authorities: str | None = None,
        certificate: tuple[str, str | None] | None = None,
    ) -> None:
        self.time_limit_s = time_limit_s
        self._most_redirects = most_redirects
        self._authorities = authorities
        self._certificate = certificate

    @contextmanager
    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        data: bytes = b"",
        deadline: Deadline | None = None,
    ) -> Iterator[Answer]:
        """The answer to a request, whatever its status; raises HttpError where there is none.

        More redirects than `most_redirects`, and those to elsewhere, raise it; where none is to be followed
        they are answers. `deadline` is that of an exchange that began before, by default a new one.
        """
        deadline = deadline or Deadline(self.time_limit_s)
        followed = 0
        while True:
            exchange = Exchange(url, deadline, self._authorities)
            with self._answer(exchange, method, headers or {}, data) as answer:
                target = answer.headers.get("location", "")
                is_redirect = answer.status in (_REDIRECTS if method == "GET" else _SAME_METHOD)
                if not (self._most_redirects and is_redirect and target):
                    yield answer
                    return
            followed += 1
            host = exchange.address.host
            if followed > self._most_redirects:
                raise HttpError("redirect", host, f"it redirects more than {self._most_redirects} times")
            try:
                url = urljoin(url, target)
                is_elsewhere = address_of(url).origin != exchange.address.origin
            except ValueError:
                is_elsewhere = True
            if is_elsewhere:
                raise HttpError("redirect", host, "it redirects to elsewhere, where no key is sent")

    @contextmanager
    def _answer(
        self, exchange: Exchange, method: str, headers: Mapping[str, str], data: bytes
    ) -> Iterator[Answer]:
        sent = {
            "Host": exchange.address.authority,
            "User-Agent": f"carbonmon/{__version__}",
            "Accept-Encoding": "identity",
            **headers,
            "Connection": "close",
        }
        if data or method != "GET":
            sent["Content-Length"] = str(len(data))
        if not are_plain((*sent, *sent.values())):  # http.client would name the value in its error
            cause = "not asked: the key holds characters that no header may hold"
            raise HttpError("key", exchange.address.host, cause)
        tls = self._tls if exchange.address.scheme == "https" else None
        with exchange.errors():
            sock = exchange.connected(tls)
        with closing(sock):
            with exchange.errors():
                response, incoming = exchange.ask(sock, method, sent, data)
            with closing(response):
                yield Answer(response, incoming, exchange)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reading the certificates of all authorities takes its time: once, and not for http.
        import ssl

        place = self._authorities
        is_folder = place is not None and Path(place).is_dir()
        try:
            context = ssl.create_default_context(
                cafile=None if is_folder else place, capath=place if is_folder else None
            )
            if self._certificate is not None:
                context.load_cert_chain(*self._certificate)
        except (OSError, ValueError) as error:
            files = " or ".join(filter(None, (place, *(self._certificate or ()))))
            why = error.strerror if isinstance(error, OSError) else error
            raise FetchError("tls", f"{files or 'the authorities'} cannot be read: {why}") from None
        context.set_alpn_protocols(["http/1.1"])
        return context
