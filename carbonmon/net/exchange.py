"""One request and its answer on one connection, directly or through a proxy, and what fails on the way.

No text of an error holds anything of the request but the host, nothing of the answer, and of the proxy no
login.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from carbonmon.core.errors import FetchError
from carbonmon.net.address import address_of
from carbonmon.net.body import BUFFER_BYTES, HEAD_LIMIT_BYTES, Damaged, Incoming, Incomplete, TooLong
from carbonmon.net.deadline import Deadline, connect, send
from carbonmon.net.proxy import Proxy, proxy_for

if TYPE_CHECKING:
    import socket
    import ssl
    from http.client import HTTPResponse

_HEAD = "the head of the answer"
_OTHER_NAME = 62  # X509_V_ERR_HOSTNAME_MISMATCH
_OTHER_ADDRESS = 64  # X509_V_ERR_IP_ADDRESS_MISMATCH


class HttpError(FetchError):
    """There is no usable answer: `said` tells it without the host, `cause` only what the system says of it.

    Its `reason` is timeout, connect, tls, key, redirect, too_large or packed. `way` is "" or
    " through the proxy HOST:PORT".
    """

    def __init__(self, reason: str, host: str, cause: str, proxy: Proxy | None = None) -> None:
        self.way = "" if proxy is None else f" through the proxy {proxy}"
        self.cause = cause
        self.said = f"the connection{self.way} failed: {cause}" if reason == "connect" else cause
        if reason in ("timeout", "tls"):
            self.said += self.way
        super().__init__(reason, f"{host}: {self.said}" if host else self.said)


class Exchange:
    """Everything that is done for one request to `url` before `deadline`."""

    def __init__(self, url: str, deadline: Deadline, authorities: str | None = None) -> None:
        """Raises HttpError for a URL, or a proxy in the environment, that cannot be used."""
        self.url = url
        self._deadline = deadline
        self._authorities = authorities
        try:
            self.address = address_of(url)
        except ValueError:  # a UnicodeError for a name that no name server knows
            host = url.partition("//")[2].partition("/")[0].rpartition("@")[2]
            raise HttpError("connect", host if host.isprintable() else "", "its URL is none") from None
        try:
            self._proxy = proxy_for(self.address, os.environ)
        except ValueError:
            cause = f"the proxy of {self.address.scheme}_proxy cannot be used; give http://HOST:PORT"
            raise HttpError("connect", self.address.host, cause) from None

    def connected(self, tls: ssl.SSLContext | None) -> socket.socket:
        """A connection on which the request can be sent, over TLS if a context is given."""
        place = self._proxy or self.address
        sock = connect(place.host, place.port, self._deadline)
        try:
            if tls is not None:
                if self._proxy is not None:
                    self._open_tunnel(sock, self._proxy)
                sock.settimeout(self._deadline.left_s())  # which bounds the whole handshake
                sock = tls.wrap_socket(sock, server_hostname=self.address.host)
        except BaseException:
            sock.close()
            raise
        return sock

    def ask(
        self, sock: socket.socket, method: str, headers: Mapping[str, str], data: bytes
    ) -> tuple[HTTPResponse, Incoming]:
        """Send a request and read the head of its answer."""
        target = self.address.target
        if self._proxy is not None and self.address.scheme == "http":
            target = f"http://{self.address.authority}{target}"
            headers = {**headers, **self._proxy.headers}
        try:
            send(sock, _head(method, target, headers), self._deadline)
            send(sock, data, self._deadline)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have said why before it closed
        return self._answer(sock, method)

    def _open_tunnel(self, sock: socket.socket, proxy: Proxy) -> None:
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        place = f"{host}:{self.address.port}"
        send(sock, _head("CONNECT", place, {"Host": place, **proxy.headers}), self._deadline)
        response, _ = self._answer(sock, "CONNECT")
        with closing(response):
            if response.status != 200:
                raise ConnectionError(0, f"it answers {response.status}")

    def _answer(self, sock: socket.socket, method: str) -> tuple[HTTPResponse, Incoming]:
        from http.client import HTTPResponse

        response = HTTPResponse(sock, method=method)
        response.fp.close()
        incoming = Incoming(sock, self._deadline)
        incoming.allow(HEAD_LIMIT_BYTES, what=_HEAD)
        response.fp = io.BufferedReader(incoming, BUFFER_BYTES)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response, incoming

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What sockets, TLS and http.client raise, as HttpError; their own texts may hold URLs and more."""
        from http.client import HTTPException

        try:
            yield
        except (TooLong, Damaged, Incomplete, HTTPException, OSError, ValueError) as error:
            raise HttpError(*self._reason(error)) from None

    def _reason(self, error: Exception) -> tuple[str, str, str, Proxy | None]:
        import ssl  # http.client has loaded it
        from http.client import IncompleteRead, LineTooLong

        reason, cause = "connect", "it broke off"
        if isinstance(error, (TooLong, LineTooLong)):
            excess = error if isinstance(error, TooLong) else TooLong(HEAD_LIMIT_BYTES, _HEAD)
            reason, cause = "too_large", str(excess)
        elif isinstance(error, Damaged):
            reason, cause = "packed", f"the answer is damaged: {error}"
        elif isinstance(error, TimeoutError):
            reason, cause = "timeout", f"no answer within {self._deadline.limit_s:g} s"
        elif isinstance(error, ssl.SSLCertVerificationError):
            reason, cause = "tls", f"its certificate cannot be verified; {self._remedy(error.verify_code)}"
        elif isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            reason, cause = "tls", "no secure connection; is it https?"
        elif isinstance(error, ConnectionError) and error.strerror is None:
            pass  # http.client's own: nothing came
        elif isinstance(error, OSError):
            cause = error.strerror or str(error) or cause
        elif not isinstance(error, (IncompleteRead, Incomplete)):
            cause = "it does not speak HTTP"
        return reason, self.address.host, cause, self._proxy

    def _remedy(self, code: int) -> str:
        if code in (_OTHER_NAME, _OTHER_ADDRESS):
            return "it is for another name"
        if self._authorities is not None:
            return f"it is of none of the authorities in {self._authorities}"
        return "name the file of its authority in SSL_CERT_FILE"


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
