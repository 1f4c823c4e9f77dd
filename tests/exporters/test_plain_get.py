"""What scrapers ask is read and answered as the standard library reads and answers it, to the byte."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.connections import OpenConnections
from carbonmon_exporters.endpoint.plain_get import plain_environ
from carbonmon_exporters.endpoint.request import CLOSES, CONNECTION, MEMORY, Handler
from hypothesis import example, given
from hypothesis import strategies as st

PROMETHEUS = (
    b"GET /metrics HTTP/1.1\r\nHost: node:9877\r\nUser-Agent: Prometheus/3.5.0\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0;q=0.6,*/*;q=0.1\r\nAccept-Encoding: gzip\r\n"
    b"X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
)
ADDRESS = "192.0.2.7"
DATE = re.compile(rb"\r\nDate: [^\r]+")


class Server:
    """What a handler uses of its server; the application keeps what it was asked."""

    read_timeout_s = idle_timeout_s = 5.0
    base_environ = {"SERVER_NAME": "node", "SERVER_PORT": "9877", "SCRIPT_NAME": ""}  # noqa: RUF012

    def __init__(self) -> None:
        self.policy = AccessPolicy()
        self.connections = OpenConnections(8, 8)
        self.asked: list[dict[str, Any]] = []

    def app(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.asked.append(dict(environ))
        path = environ["PATH_INFO"]
        if path == "/last":
            environ[CLOSES] = True
        status = "404 Not Found" if path == "/none" else "200 OK"
        body = f"{path} {environ['QUERY_STRING']}".encode()
        length = ("Content-Length", str(len(body)))
        start_response(status, [("Content-Type", "text/plain"), length, ("Server", "carbonmon")])
        return [body]


class Asked(Handler):
    """A handler that is given heads of requests, without a connection."""

    def __init__(self, connection: socket.socket, server: Server, *, is_plain: bool) -> None:
        super().__init__(connection, (ADDRESS, 1), server)
        self._is_plain = is_plain

    def _plain_answer(self, head: bytes) -> Any:
        return super()._plain_answer(head) if self._is_plain else None

    def answer(self, head: bytes) -> tuple[bytes, bool]:
        return bytes(self._answer(head, False)), self._closes


@pytest.fixture(scope="module")
def connection() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def both(connection: socket.socket, head: bytes) -> list[tuple[bytes, bool, list[dict[str, Any]]]]:
    found = []
    for is_plain in (True, False):
        server = Server()
        answer, closes = Asked(connection, server, is_plain=is_plain).answer(head)
        asked = [
            {
                key: "there" if key in (MEMORY, CONNECTION) else value
                for key, value in environ.items()
                if not key.startswith("wsgi.")
            }
            for environ in server.asked
        ]
        found.append((DATE.sub(b"", answer), closes, asked))
    return found


NAMES = st.sampled_from(
    (
        *(
            "Host",
            "host",
            "Accept",
            "User-Agent",
            "X-A",
            "X_A",
            "Connection",
            "Content-Length",
            "TE",
            "Expect",
        ),
        *("Authorization", "Transfer-Encoding", "Content-Type", "Server-Name", "X-\xe9", "", "Upgrade"),
    )
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=8) | st.sampled_from(
    ["close", "keep-alive", "0", "1", " a ", "\ta", "a\tb", "a:b", "100-continue", "x" * 1500, "\r\n folded"]
)
PATHS = st.sampled_from(
    [
        "/metrics",
        "/",
        "/none",
        "/last",
        "//metrics",
        "/a%20b?x=%20&y",
        "http://node/metrics",
        "*",
        "/\xe9",
        "/a?b?c",
    ]
)


def _head(method: str, path: str, version: str, headers: list[tuple[str, str]]) -> bytes:
    lines = "".join(f"{name}:{value}\r\n" for name, value in headers)
    return f"{method} {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1")


HEADS = st.builds(
    _head,
    st.sampled_from(["GET", "GET", "HEAD", "POST", "get"]),
    PATHS,
    st.sampled_from(["1.1", "1.1", "1.0"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=4),
)
PLAIN_HEADS = st.builds(
    _head,
    st.just("GET"),
    PATHS,
    st.just("1.1"),
    st.lists(
        st.tuples(
            st.from_regex("[A-Za-z0-9-]{1,6}", fullmatch=True), st.from_regex(" ?[ -~]{1,9}", fullmatch=True)
        ),
        min_size=1,
        max_size=4,
    ),
)


@given(HEADS | PLAIN_HEADS)
@example(PROMETHEUS)
@example(PROMETHEUS.replace(b"Host", b"Connection: close\r\nHost"))
@example(PROMETHEUS.replace(b"Host", b"Connection: Keep-Alive\r\nHost"))
@example(PROMETHEUS.replace(b"Host", b"Connection: close, TE\r\nHost"))
@example(PROMETHEUS.replace(b"Host", b"Content-Length: 5\r\nHost"))
@example(PROMETHEUS.replace(b"Host", b"Accept: a\r\nAccept: b\r\nHost"))
@example(PROMETHEUS.replace(b"/metrics", b"/none"))
@example(PROMETHEUS.replace(b"/metrics", b"/last"))
@example(PROMETHEUS.replace(b"/metrics", b"//metrics"))
def test_a_request_is_answered_as_the_standard_library_answers_it(connection: socket.socket, head: bytes):
    ours, library = both(connection, head)
    assert ours == library


def test_what_prometheus_asks_is_recognised():
    environ = plain_environ(PROMETHEUS, Server.base_environ, ADDRESS)
    assert environ is not None
    assert environ["HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"] == "10"


@pytest.mark.parametrize("wish", ["close", "keep-alive", "Keep-Alive"])
def test_whether_the_connection_stays_open_is_read(wish: str):
    environ = plain_environ(
        PROMETHEUS.replace(b"Host", f"Connection: {wish}\r\nHost".encode()), Server.base_environ, ADDRESS
    )
    assert environ is not None
    assert environ["HTTP_CONNECTION"] == wish


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Authorization: Basic eA==",
        "Expect: 100-continue",
        "Connection: upgrade",
    ],
)
def test_what_brings_a_body_or_a_password_is_left_to_the_standard_library(header: str):
    head = PROMETHEUS.replace(b"Host", header.encode() + b"\r\nHost")
    assert plain_environ(head, Server.base_environ, ADDRESS) is None


def test_a_body_of_an_earlier_request_says_nothing_of_a_later_one(connection: socket.socket):
    handler = Asked(connection, Server(), is_plain=True)
    assert handler.answer(PROMETHEUS.replace(b"Host", b"Content-Length: 5\r\nHost"))[1] is True
    assert handler.answer(PROMETHEUS)[1] is False
