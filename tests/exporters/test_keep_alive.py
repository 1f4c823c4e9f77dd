"""Connections that stay open: who may keep one, for how long, and that none keeps anybody else out."""

from __future__ import annotations

import contextlib
import select
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.metrics_endpoint import (
    DEADLINE_S,
    Authority,
    Endpoint,
    basic,
    hashed,
    read_to_end,
    replace,
    serving,
)
from tests.support.rows import for_each_row

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"


@contextlib.contextmanager
def held(endpoint: Endpoint, client: ssl.SSLContext | None = None) -> Iterator[HTTPConnection]:
    """A client of HTTP/1.1 with one connection, which it never opens again by itself."""
    asking = HTTPConnection("127.0.0.1", endpoint.port, timeout=DEADLINE_S)
    asking.auto_open = 0
    with contextlib.closing(asking):
        asking.sock = endpoint.open(client)
        yield asking


def get(asking: HTTPConnection, path: str = "/metrics", method: str = "GET", **headers: str) -> int:
    asking.request(method, path, headers=headers)
    answer = asking.getresponse()
    answer.read()
    return answer.status


def is_kept(asking: HTTPConnection) -> bool:
    """Whether the connection is open after an answer; the client closes it where the answer says so."""
    return asking.sock is not None


@pytest.mark.parametrize("kind", ["in clear", "in TLS"])
def test_one_connection_serves_scrape_after_scrape(kind: str, tmp_path: Path) -> None:
    if kind == "in clear":
        made = serving()
    else:
        authority = Authority(tmp_path)
        authority.issue("server")
        config = tmp_path / "web-config.yml"
        config.write_text(TLS)
        made = serving(config, authority.client())
    with made as endpoint, held(endpoint) as asking:
        for method in ("GET", "HEAD", "GET"):
            asking.request(method, "/metrics", headers={"Accept-Encoding": "gzip"})
            answer = asking.getresponse()
            body = answer.read()
            assert (answer.version, answer.status, answer.headers["Connection"]) == (11, 200, None)
            assert len(body) == (0 if method == "HEAD" else int(answer.headers["Content-Length"]))
        assert is_kept(asking)


@for_each_row(
    ("request_bytes", "stays"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", True),
        (b"GET /-/healthy HTTP/1.1\r\n\r\n", True),
        (b"GET /metrics HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", True),
        (b"GET /metrics HTTP/1.0\r\n\r\n", False),
        (b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET /nothing HTTP/1.1\r\n\r\n", False),
        (b"PUT /metrics HTTP/1.1\r\n\r\n", False),
        (b"nonsense\r\n\r\n", False),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", False),
        (b"GET /metrics HTTP/1.1\r\n\r\n" * 2, False),
    ],
)
def test_a_client_may_stay_after_a_whole_answer_to_a_request_of_http_1_1(
    request_bytes: bytes, stays: bool
) -> None:
    with serving(idle_timeout_s=9 * DEADLINE_S) as endpoint, endpoint.connect() as client:
        client.sendall(request_bytes)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(1 << 20)
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ")
        assert b"100 Continue" not in head
        assert (b"\r\nConnection: close" not in head) == stays
        if not stays:
            read_to_end(client)
            return
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while len(rest) < length:
            rest += client.recv(1 << 20)
        client.sendall(request_bytes)
        assert client.recv(1 << 20).startswith(b"HTTP/1.1 200 ")


def test_a_kept_connection_is_closed_when_it_was_idle_for_too_long() -> None:
    with serving(idle_timeout_s=0.2, read_timeout_s=DEADLINE_S) as endpoint, endpoint.connect() as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
        assert read_to_end(client).endswith(b"carbonmon is healthy\n")


def test_the_second_request_must_come_as_fast_as_the_first() -> None:
    with serving(idle_timeout_s=DEADLINE_S * 9, read_timeout_s=0.2) as endpoint, endpoint.connect() as client:
        client.sendall(b"GET /-/healthy HTTP/1.1\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /-/healthy HT")
        assert read_to_end(client) == b""


def test_a_client_that_has_sent_nothing_may_not_stay() -> None:
    with serving(idle_timeout_s=DEADLINE_S * 9, read_timeout_s=0.1) as endpoint, endpoint.connect() as client:
        assert read_to_end(client) == b""


def test_idle_viewers_make_room_for_a_scraper() -> None:
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(serving(max_connections=32))
        viewers = []
        for number in range(1, 33):
            source = (f"127.0.1.{number}", 0)
            viewer = HTTPConnection("127.0.0.1", endpoint.port, DEADLINE_S, source)
            viewers.append(stack.enter_context(contextlib.closing(viewer)))
            assert get(viewer, "/-/healthy") == 200
        assert get(viewers[0], "/-/healthy") == 200
        scraper = stack.enter_context(held(endpoint))
        for _ in range(3):
            assert get(scraper) == 200
        assert is_kept(scraper)
        sockets = [viewer.sock for viewer in viewers]
        (closed,) = select.select(sockets, (), (), DEADLINE_S)[0]
        assert closed.recv(1) == b""
        assert closed is not sockets[0], "one who had waited longer than the first, who asked again"


def test_closing_ends_kept_connections_at_once() -> None:
    with contextlib.ExitStack() as stack:
        serve = serving()
        endpoint = serve.__enter__()
        clients = [stack.enter_context(held(endpoint)) for _ in range(3)]
        for client in clients:
            assert get(client) == 200
        serve.__exit__(None, None, None)
        assert [client.sock.recv(1) for client in clients] == [b""] * 3
        for thread in threading.enumerate():
            if thread.name == "carbonmon-scrape":
                thread.join(DEADLINE_S)
        assert not any(thread.name == "carbonmon-scrape" for thread in threading.enumerate())


def test_each_request_of_a_connection_is_checked(tmp_path: Path) -> None:
    config = tmp_path / "web-config.yml"
    config.write_text(f"basic_auth_users:\n  anna: {hashed()}\n")
    with serving(config) as endpoint, held(endpoint) as asking:
        assert get(asking, **basic("anna")) == 200
        assert get(asking) == 401
        assert not is_kept(asking)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carbonmon_exporters.endpoint.access.CHECK_PERIOD_S", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_a_password_that_was_changed_is_asked_of_open_connections(tmp_path: Path) -> None:
    config = tmp_path / "web-config.yml"
    config.write_text(f"basic_auth_users:\n  anna: {hashed()}\n")
    with serving(config) as endpoint, held(endpoint) as asking:
        assert get(asking, **basic("anna")) == 200
        replace(config, f"basic_auth_users:\n  berta: {hashed()}\n")
        assert get(asking, **basic("anna")) == 401


@pytest.mark.usefixtures("no_pause")
def test_new_rules_for_certificates_end_the_connections_of_the_old_ones(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    own = authority.client(authority.issue("client", "anna.example"))
    rules = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
    config = tmp_path / "web-config.yml"
    config.write_text(TLS + rules)
    with serving(config, own) as endpoint, held(endpoint) as asking:
        assert get(asking) == 200
        replace(config, f"{TLS}{rules}  client_allowed_sans: [berta.example]\n")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            get(asking)
        with pytest.raises((ConnectionError, ssl.SSLError)), held(endpoint) as again:
            get(again)
