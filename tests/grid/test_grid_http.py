"""HTTP for live sources: every way to fail has its reason, takes its time at most, and shows no key."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from carbonmon import __version__
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.ports import GridSettings, GridSource
from carbonmon.grid import electricitymaps, http, watttime
from carbonmon.grid.http import LiveHttp, base_url
from tests.support import gridserver
from tests.support.gridproviders import NOW_S
from tests.support.gridserver import FAULTS, SECRET, GridServer, Reply, Request
from tests.support.rows import for_each_row

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[GridServer]:
    with GridServer() as server:
        yield server


@pytest.fixture
def quick() -> LiveHttp:
    """With half a second where users wait ten, for servers that do not answer."""
    return LiveHttp(time_limit_s=0.5)


def says(body: object, status: int = 200, **headers: str) -> Reply:
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def keyed_source(name: str, url: str) -> GridSource:
    """A source that sends `SECRET`, as a token or as a password."""
    if name == "electricitymaps":
        environ = {"CARBONMON_ELECTRICITYMAPS_TOKEN": SECRET, "CARBONMON_ELECTRICITYMAPS_URL": url}
        return electricitymaps.open_source(GridSettings(zone="DE", environ=environ))
    environ = {
        "CARBONMON_WATTTIME_USERNAME": "ada",
        "CARBONMON_WATTTIME_PASSWORD": SECRET,
        "CARBONMON_WATTTIME_URL": url,
    }
    return watttime.open_source(GridSettings(zone="CAISO_NORTH", environ=environ))


@pytest.fixture
def refused_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and listens never
        yield sock.getsockname()[1]


# What goes wrong.


@pytest.mark.parametrize("source", ["electricitymaps", "watttime"])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_server_has_its_reason_and_tells_no_key(
    fault: str, source: str, server: GridServer, caplog: pytest.LogCaptureFixture
):
    server.fault, reason = FAULTS[fault]
    caplog.set_level(logging.DEBUG)
    is_slow = reason == "timeout"
    live = LiveHttp(time_limit_s=0.3 if is_slow else 15.0)
    with pytest.raises(FetchError) as caught:
        keyed_source(source, server.url).latest(live, NOW_S)
    assert caught.value.reason == reason
    sent = json.dumps([request.headers for request in server.requests])
    assert "auth-token" in sent or "Basic" in sent, "the key was sent"
    told = caplog.text + "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in told
    assert "Basic " not in told and "auth-token" not in told


def test_a_refused_connection_is_told_and_tells_no_key(refused_port: int, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(
        FetchError, match=r"127\.0\.0\.1: the connection failed: Connection refused"
    ) as caught:
        keyed_source("electricitymaps", f"http://127.0.0.1:{refused_port}").latest(LiveHttp(), NOW_S)
    assert caught.value.reason == "connect"
    assert SECRET not in caplog.text + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("fault", ["byte_a_second", "header_a_second", "silent"])
def test_a_server_that_never_ends_its_answer_holds_nobody_beyond_the_limit(
    fault: str, server: GridServer, quick: LiveHttp
):
    server.fault, _ = FAULTS[fault]
    with pytest.raises(FetchError, match=r"no answer within 0\.5 s") as caught:
        quick.get_json(server.url)
    assert caught.value.reason == "timeout"
    assert len(server.requests) == 1, "what was too slow is not asked twice"


def test_a_resolver_that_hangs_holds_nobody_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, quick: LiveHttp
):
    ending = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **named: (ending.wait(20), [])[1])
    try:
        with pytest.raises(FetchError) as caught:
            quick.get_json("http://a.name.example/")
        assert caught.value.reason == "timeout"
    finally:
        ending.set()


def test_a_host_without_an_address_is_told():
    with pytest.raises(FetchError, match=r"a\.\.b: the connection failed: it has no address") as caught:
        LiveHttp().get_json("http://a..b/")
    assert caught.value.reason == "connect"


def test_only_the_first_megabyte_of_an_endless_answer_is_read(server: GridServer):
    sent = []

    def endless(handler: gridserver.Handler) -> None:
        handler.wfile.write(b'HTTP/1.1 200 OK\r\n\r\n["')
        while handler.wait(0):
            handler.wfile.write(b"0" * 65536)
            sent.append(65536)

    server.fault = endless
    with pytest.raises(FetchError, match="longer than 1048576 bytes"):
        LiveHttp().get_json(server.url)
    assert sum(sent) < 32 << 20, "what the sockets buffer may be on the way"


def test_a_bomb_is_not_unpacked_beyond_the_limit(server: GridServer):
    import tracemalloc

    server.fault = gridserver.bomb
    live = LiveHttp()
    gridserver._bomb()
    tracemalloc.start()
    try:
        with pytest.raises(FetchError):
            live.get_json(server.url)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_limit_is_for_the_body_as_it_is_unpacked_and_to_the_byte(is_packed: bool, server: GridServer):
    body = json.dumps(["0" * 96]).encode()
    assert len(body) == 100
    headers = {"Content-Encoding": "gzip"} if is_packed else {}
    server.answer = lambda request: Reply(gzip.compress(body) if is_packed else body, 200, headers)
    assert LiveHttp(limit_bytes=100).get_json(server.url) == ["0" * 96]
    with pytest.raises(FetchError) as caught:
        LiveHttp(limit_bytes=99).get_json(server.url)
    assert caught.value.reason == "too_large"


@for_each_row(
    ("header", "least_s", "most_s"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        ("86400", 3600, 3600),
        ("9" * 5000, 3600, 3600),
        (timedelta(days=2), 3600, 3600),
        (timedelta(minutes=30), 1000, 1800),
        ("Sat, 21 Nov 2020 20:40:00 GMT", 0, 0),
        ("soon", None, None),
        ("-5", None, None),
        ("²", None, None),
        ("", None, None),
    ],
)
def test_a_server_may_ask_to_be_left_alone_for_an_hour_at_most(
    header: str | timedelta, least_s: float | None, most_s: float | None, server: GridServer
):
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(timezone.utc) + header, usegmt=True)
    server.answer = lambda request: says({}, 429, Retry_After=header.encode().decode("latin-1"))
    with pytest.raises(FetchError, match="asked too often") as caught:
        LiveHttp().get_json(server.url)
    wait_s = caught.value.retry_after_s
    assert (wait_s is None) if least_s is None else (wait_s is not None and least_s <= wait_s <= most_s)


def test_what_broke_off_on_the_way_is_tried_once_more(server: GridServer):
    def first_closed(handler: gridserver.Handler) -> None:
        server.fault = None

    server.fault = first_closed
    server.answer = lambda request: says({"is": "there"})
    assert LiveHttp().get_json(server.url) == {"is": "there"}
    assert len(server.requests) == 2


@pytest.mark.parametrize(("fault", "times"), [("closed", 2), ("cut", 2), ("server_error", 1), ("html", 1)])
def test_nothing_is_tried_more_than_twice_and_no_answer_is(fault: str, times: int, server: GridServer):
    server.fault, _ = FAULTS[fault]
    with pytest.raises(FetchError):
        LiveHttp().get_json(server.url)
    assert len(server.requests) == times


def test_a_key_with_a_line_break_is_not_sent_and_not_shown(server: GridServer):
    with pytest.raises(FetchError) as caught:
        LiveHttp().get_json(server.url, headers={"auth-token": f"{SECRET}\r\nHost: evil"})
    assert caught.value.reason == "key"
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert server.requests == []


# What is asked.


def test_a_request_says_who_asks_and_carries_parameters_headers_and_login(server: GridServer):
    server.answer = lambda request: says([1, 2.5, None])
    found = LiveHttp().get_json(
        f"{server.url}/path", {"filter": '{"a":["b c"]}'}, {"x-own": "1"}, ("ada", "pass:wörd")
    )
    assert found == [1, 2.5, None]
    (request,) = server.requests
    assert (request.path, request.query) == ("/path", {"filter": '{"a":["b c"]}'})
    assert request.headers["user-agent"] == f"carbonmon/{__version__}"
    assert request.headers["x-own"] == "1"
    assert request.headers["authorization"] == "Basic YWRhOnBhc3M6d8O2cmQ="


def test_a_redirect_within_the_same_server_is_followed_with_the_key(server: GridServer):
    def answer(request: Request) -> Reply:
        return (
            says({}, 301, Location="/new?zone=DE") if request.path == "/old" else says({"path": request.path})
        )

    server.answer = answer
    assert LiveHttp().get_json(f"{server.url}/old", headers={"auth-token": SECRET}) == {"path": "/new"}
    assert [request.headers["auth-token"] for request in server.requests] == [SECRET, SECRET]


def test_a_redirect_to_another_server_is_not_followed(server: GridServer):
    with GridServer(lambda request: says({})) as other:
        server.answer = lambda request: says({}, 302, Location=other.url)
        with pytest.raises(FetchError) as caught:
            LiveHttp().get_json(server.url, headers={"auth-token": SECRET})
        assert caught.value.reason == "redirect"
        assert other.requests == []


def test_one_thread_waits_for_a_slow_server_while_another_is_answered(server: GridServer):
    live = LiveHttp(time_limit_s=15.0)
    reasons: list[str] = []
    with GridServer() as slow:
        slow.fault = gridserver.silent

        def ask() -> None:
            try:
                live.get_json(slow.url)
            except FetchError as error:
                reasons.append(error.reason)

        thread = threading.Thread(target=ask)
        thread.start()
        server.answer = lambda request: says({"is": "there"})
        assert live.get_json(server.url) == {"is": "there"}
        assert thread.is_alive()
        slow.ending.set()
        thread.join()
    assert reasons == ["connect"]


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context_for(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trust(authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


def test_a_certificate_that_the_system_trusts_is_accepted(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trust(authority, tmp_path, monkeypatch)
    with GridServer(lambda request: says({"is": "there"}), context_for(authority, "127.0.0.1")) as server:
        assert LiveHttp().get_json(server.url) == {"is": "there"}


def test_an_untrusted_certificate_gets_no_key(authority: trustme.CA, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with GridServer(context=context_for(authority, "127.0.0.1")) as server:
        with pytest.raises(
            FetchError, match="certificate cannot be verified; name the file of its authority in"
        ) as caught:
            keyed_source("electricitymaps", server.url).latest(LiveHttp(), NOW_S)
        assert server.requests == []
    assert caught.value.reason == "tls"
    assert SECRET not in caplog.text + "".join(traceback.format_exception(caught.value))


def test_a_certificate_for_another_name_gets_no_key(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trust(authority, tmp_path, monkeypatch)
    with GridServer(context=context_for(authority, "other.example")) as server:
        with pytest.raises(FetchError) as caught:
            LiveHttp().get_json(server.url)
        assert (caught.value.reason, server.requests) == ("tls", [])


def test_a_server_that_speaks_no_tls_is_told(server: GridServer):
    with pytest.raises(FetchError) as caught:
        LiveHttp().get_json(server.url.replace("http:", "https:"))
    assert caught.value.reason == "tls"


def test_a_server_that_keeps_silent_in_the_handshake_holds_nobody_beyond_the_limit(quick: LiveHttp):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(FetchError) as caught:
            quick.get_json(f"https://127.0.0.1:{silent.getsockname()[1]}/")
    assert caught.value.reason == "timeout"


def test_the_time_limit_holds_over_tls_as_well(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: LiveHttp
):
    trust(authority, tmp_path, monkeypatch)
    with GridServer(context=context_for(authority, "127.0.0.1")) as server:
        server.fault = gridserver.byte_a_second
        with pytest.raises(FetchError) as caught:
            quick.get_json(server.url)
        assert caught.value.reason == "timeout"
        assert len(server.requests) == 1


# Proxies.


def test_the_proxy_of_the_environment_is_asked_for_the_url(
    server: GridServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", server.url.removeprefix("http://"))
    server.answer = lambda request: says({"by": "the proxy"})
    assert LiveHttp().get_json("http://grid.example/path") == {"by": "the proxy"}
    assert server.requests[0].headers["host"] == "grid.example"


def test_a_host_that_the_environment_exempts_is_asked_directly(
    server: GridServer, refused_port: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{refused_port}")
    monkeypatch.setenv("NO_PROXY", "example,.test")
    port = server.address[1]
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **named: real("127.0.0.1", *more, **named))
    server.answer = lambda request: says({"by": "itself"})
    assert LiveHttp().get_json(f"http://grid.test:{port}/") == {"by": "itself"}
    with pytest.raises(FetchError, match=rf"connection through the proxy 127\.0\.0\.1:{refused_port} failed"):
        LiveHttp().get_json(f"http://grid.elsewhere:{port}/")


def test_this_machine_is_never_asked_through_a_proxy(
    server: GridServer, refused_port: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{refused_port}")
    server.answer = lambda request: says({})
    assert LiveHttp().get_json(server.url) == {}


def test_https_goes_through_a_tunnel_with_the_proxys_login_outside_and_the_key_inside(
    authority: trustme.CA, server: GridServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trust(authority, tmp_path, monkeypatch)
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:p%40ss@127.0.0.1:{server.address[1]}")
    with GridServer(
        lambda request: says({"is": "there"}), context_for(authority, "grid.example")
    ) as upstream:
        server.tunnel = upstream.address
        assert LiveHttp().get_json("https://grid.example/v3", headers={"auth-token": SECRET}) == {
            "is": "there"
        }
        (inside,), (outside,) = upstream.requests, server.requests
    assert (outside.path, outside.headers["proxy-authorization"]) == (
        "grid.example:443",
        "Basic YWRhOnBAc3M=",
    )
    assert "auth-token" not in outside.headers
    assert inside.headers["auth-token"] == SECRET
    assert "proxy-authorization" not in inside.headers


def test_a_proxy_that_refuses_is_told_without_its_password(
    refused_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("https_proxy", f"http://ada:{SECRET}@127.0.0.1:{refused_port}")
    with pytest.raises(
        FetchError,
        match=rf"grid\.example: the connection through the proxy 127\.0\.0\.1:{refused_port} failed",
    ) as caught:
        LiveHttp().get_json("https://grid.example/")
    assert caught.value.reason == "connect"
    assert SECRET not in caplog.text + "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://", "http://[::1", "http://h:port"])
def test_a_proxy_that_cannot_be_used_is_told(proxy: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(
        FetchError, match="the proxy of https_proxy cannot be used; give http://HOST:PORT"
    ) as caught:
        LiveHttp().get_json("https://grid.example/")
    assert caught.value.reason == "connect"


# Base URLs.


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "https://default.example/v1"),
        ("  ", "https://default.example/v1"),
        ("https://mirror.example/em/", "https://mirror.example/em"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_base_url_may_be_a_mirror_or_a_server_of_this_machine(given: str, url: str):
    assert base_url({"CARBONMON_X_URL": given}, "CARBONMON_X_URL", "https://default.example/v1") == url


@for_each_row(
    "given",
    [
        "http://mirror.example",
        "http://localhost.example",
        "http://10.0.0.1/",
        "ftp://mirror.example",
        "mirror.example",
        "https://",
        "https://[::1",
        "https://host:99999",
        f"https://ada:{SECRET}@mirror.example",
        f"https://mirror.example/?key={SECRET}",
        f"https://mirror.example/#{SECRET}",
        f"https://mirror.example/\x00{SECRET}",
    ],
)
def test_a_base_url_on_which_keys_could_leak_is_refused_and_not_shown(given: str):
    with pytest.raises(ConfigError, match=r"^CARBONMON_X_URL: .*give https://HOST/PATH") as caught:
        base_url({"CARBONMON_X_URL": given}, "CARBONMON_X_URL", "https://default.example")
    assert SECRET not in str(caught.value)


def test_the_limits_of_users_are_ten_seconds_and_a_megabyte():
    assert (http.TIME_LIMIT_S, http.LIMIT_BYTES) == (10.0, 1 << 20)
