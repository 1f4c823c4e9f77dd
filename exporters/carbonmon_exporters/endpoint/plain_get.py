"""The requests that scrapers send, read and answered without the standard library's parser of e-mail.

What is recognised here is `GET` of HTTP/1.1 with headers that bring no body, and of the connection ask only
whether it stays open. The environ and the bytes of the answer are those that `wsgiref` makes of such a
request, at a fifth of its time; every other request is left to it (`library_request.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_HEADER = rb"[0-9A-Za-z-]{1,64}:[ \t]?[!-~](?:[ -~]{0,1000}[!-~])?\r\n"
_REQUEST = re.compile(rb"GET (/(?:[!-.0-~][!-~]*)?) HTTP/1\.1\r\n((?:" + _HEADER + rb"){1,32})\r\n")
"""A path that does not begin with two slashes, and headers in plain characters, each once in one line."""

_OTHERS = frozenset(
    (
        *("AUTHORIZATION", "CONTENT_LENGTH", "CONTENT_TYPE", "EXPECT", "KEEP_ALIVE"),
        *("TE", "TRAILER", "TRANSFER_ENCODING", "UPGRADE"),
    )
)
"""Headers that are left to the standard library."""

_CONNECTION = ("close", "keep-alive")
"""What is read of a header `Connection`, in any case; with another value it is left to the library, too."""

CLOSE = ("Connection", "close")
SOFTWARE = "carbonmon"


def plain_environ(head: bytes, base: Mapping[str, Any], address: str) -> dict[str, Any] | None:
    """The environ (PEP 3333) of a request, with what `base` has; None for one that is not recognised here."""
    found = _REQUEST.fullmatch(head)
    if found is None:
        return None
    path, _, query = found[1].decode("ascii").partition("?")
    environ = {
        **base,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": SOFTWARE,
        "REQUEST_METHOD": "GET",
        "PATH_INFO": unquote(path, "iso-8859-1"),
        "QUERY_STRING": query,
        "REMOTE_ADDR": address,
        "CONTENT_TYPE": "text/plain",
    }
    for line in found[2].decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.replace("-", "_").upper()
        key = f"HTTP_{name}"
        if name in _OTHERS or name in environ or key in environ:
            return None
        environ[key] = value.strip()
    if environ.get("HTTP_CONNECTION", "close").lower() not in _CONNECTION:
        return None
    return environ


def asks_to_close(environ: Mapping[str, Any]) -> bool:
    """Whether the client wants the connection to be closed after the answer."""
    return bool(environ.get("HTTP_CONNECTION", "").lower() == "close")


def answered(app: WSGIApplication, environ: dict[str, Any], closes_after: str) -> tuple[bytes, bool]:
    """The answer of an application that tells its length and server, and whether it is the connection's last.

    That is so where the client asks for it, with another status than 200, or where the application sets
    `closes_after` in the environ.
    """
    said: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        said.append((status, headers))

    body = b"".join(app(environ, start_response))
    ((status, headers),) = said
    closes = asks_to_close(environ) or closes_after in environ or not status.startswith("200")
    return _head(status, [*headers, CLOSE] if closes else headers) + body, closes


def _head(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status}\r\nDate: {format_date_time(time.time())}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("iso-8859-1")
