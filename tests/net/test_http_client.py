"""The one HTTP client: its limits, its redirects, its proxies, and what it says of a failure."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from hypothesis import HealthCheck, given
from hypothesis.strategies import binary, booleans, lists, sampled_from

from carbonmon.core.errors import FetchError
from carbonmon.net.address import address_of, is_loopback
from carbonmon.net.deadline import Deadline
from carbonmon.net.exchange import HttpError
from carbonmon.net.http import SMALL_BYTES, HttpClient
from carbonmon.net.proxy import is_exempt, proxy_for
from tests.support import gridserver
from tests.support.effort import examples
from tests.support.gridserver import SECRET, GridServer, Handler, Reply, Request
from tests.support.rows import for_each_row

LIMIT_S = 15.0


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[GridServer]:
    with GridServer(lambda request: Reply(b"yes")) as server:
        yield server


@pytest.fixture
def refused() -> Iterator[str]:
    """HOST:PORT where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def get(url: str, client: HttpClient | None = None, limit_bytes: int = 1000) -> bytes:
    with (client or HttpClient(LIMIT_S)).open(url) as answer:
        assert answer.status == 200, answer.status
        return answer.body(limit_bytes)


def writes(*parts: bytes) -> Callable[[Handler], None]:
    def fault(handler: Handler) -> None:
        for part in parts:
            handler.wfile.write(part)

    return fault


HEAD = b"HTTP/1.1 200 OK\r\n"


# What is loaded.


def test_neither_tls_nor_http_is_in_memory_before_something_is_asked():
    program = (
        "import sys\n"
        "import carbonmon.net.http, carbonmon.grid.http, carbonmon.service.kubernetes.api\n"
        "loaded = {'ssl', 'http.client', 'urllib.request', 'email'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# What may come.


@pytest.mark.parametrize("count", [100, 101])
@pytest.mark.parametrize("form", ["length", "chunks", "until the end", "gzip"])
def test_the_limit_is_to_the_byte_in_whatever_form_a_body_comes(form: str, count: int, server: GridServer):
    body = b"0" * count
    packed = gzip.compress(body)
    server.fault = {
        "length": writes(HEAD, b"Content-Length: %d\r\n\r\n" % count, body),
        "chunks": writes(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n0\r\n"] * count, b"0\r\n\r\n"),
        "until the end": writes(HEAD, b"\r\n", body),
        "gzip": writes(HEAD, b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed), packed),
    }[form]
    if count <= 100:
        assert get(server.url, limit_bytes=100) == body
        return
    with pytest.raises(HttpError, match="the answer is longer than 100 bytes") as caught:
        get(server.url, limit_bytes=100)
    assert caught.value.reason == "too_large"


def test_the_limit_is_also_for_a_body_as_it_is_sent(server: GridServer):
    packed = gzip.compress(os.urandom(50))
    server.fault = writes(HEAD, b"Content-Encoding: gzip\r\n\r\n", packed)
    with pytest.raises(HttpError, match="longer than 60 bytes"):
        get(server.url, limit_bytes=60)


@pytest.mark.parametrize(
    ("head", "body", "reason", "said"),
    [
        (b"Content-Length: 10\r\n\r\n", b"12345", "connect", "it broke off"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\n12345\r\n", "connect", "it broke off"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"-5\r\n12345\r\n", "connect", "it does not speak HTTP"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n12345\r\n", "connect", "it broke off"),
        (
            b"Content-Encoding: gzip\r\n\r\n",
            gzip.compress(b"1" * 500, mtime=0)[:-12],
            "connect",
            "it broke off",
        ),
        (b"Content-Encoding: gzip\r\n\r\n", b"\x1f\x8bnothing", "packed", "it does not unpack"),
        (b"Content-Encoding: deflate\r\n\r\n", b"x", "packed", "in a way that nobody asked for"),
    ],
)
def test_a_body_that_is_not_whole_is_no_body(
    head: bytes, body: bytes, reason: str, said: str, server: GridServer
):
    server.fault = writes(HEAD, head, body)
    with pytest.raises(HttpError, match=said) as caught:
        get(server.url)
    assert caught.value.reason == reason


def test_a_head_of_64_kib_is_all_that_a_server_gets(server: GridServer):
    server.fault = gridserver.endless_headers
    with pytest.raises(HttpError, match="the head of the answer is longer than 65536 bytes") as caught:
        get(server.url)
    assert caught.value.reason == "too_large"


def test_what_explains_a_refusal_is_read_as_far_as_it_can_be_had(server: GridServer):
    server.fault = writes(b"HTTP/1.1 500 Oh\r\nContent-Length: 999\r\n\r\n", b"because")
    with HttpClient(LIMIT_S).open(server.url) as answer:
        assert (answer.status, answer.reason, answer.beginning()) == (500, "Oh", b"because")
    server.fault = gridserver.endless
    with HttpClient(LIMIT_S).open(server.url) as answer:
        assert len(answer.beginning()) <= SMALL_BYTES


def test_a_refusal_that_comes_before_all_was_sent_is_still_heard(server: GridServer):
    with socket.create_server(("127.0.0.1", 0)) as early:

        def refuse() -> None:
            connection, _ = early.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://127.0.0.1:{early.getsockname()[1]}"
        with HttpClient(LIMIT_S).open(url, method="PUT", data=b"0" * (1 << 20)) as answer:
            assert answer.status == 413
        thread.join()


def test_lines_come_one_by_one_and_one_that_is_too_long_ends_them(server: GridServer):
    server.fault = writes(HEAD, b"\r\n", b"one\n", b"two\n", b"0" * 200)
    with HttpClient(LIMIT_S).open(server.url) as answer:
        lines = answer.lines(limit_bytes=100)
        assert [next(lines), next(lines)] == [b"one\n", b"two\n"]
        with pytest.raises(HttpError, match="longer than 100 bytes"):
            next(lines)


def test_one_deadline_is_for_all_that_is_asked_under_it(server: GridServer):
    deadline = Deadline(0.05)
    server.fault = gridserver.silent
    for _ in range(2):
        with pytest.raises(HttpError, match=r"no answer within 0\.05 s") as caught:
            with HttpClient(LIMIT_S).open(server.url, deadline=deadline):
                pass
        assert caught.value.reason == "timeout"
    assert len(server.requests) <= 1


def test_a_server_that_takes_nothing_holds_nobody_beyond_the_limit():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(HttpError) as caught:
            with HttpClient(0.3).open(url, method="PUT", data=bytes(64 << 20)):
                pass
    assert caught.value.reason == "timeout"


# Redirects.


@pytest.mark.parametrize(("method", "status", "is_followed"), [("PUT", 307, True), ("PUT", 302, False)])
def test_a_redirect_that_would_change_what_is_asked_is_not_followed(
    method: str, status: int, is_followed: bool, server: GridServer
):
    server.answer = lambda request: (
        Reply(b"", status, {"Location": "/new"}) if request.path == "/old" else Reply(b"yes")
    )
    client = HttpClient(LIMIT_S, most_redirects=1)
    with client.open(f"{server.url}/old", method=method, data=b"x") as answer:
        assert answer.status == (200 if is_followed else status)
    assert server.paths == (["/old", "/new"] if is_followed else ["/old"])


@pytest.mark.parametrize(
    "target",
    ["http://localhost:{port}/", "https://127.0.0.1:{port}/", "http://127.0.0.1:1/", "//[::1", "ftp://x"],
)
def test_a_redirect_to_elsewhere_is_an_error_that_tells_nothing_of_it(target: str, server: GridServer):
    target = target.format(port=server.address[1]) + SECRET
    server.answer = lambda request: Reply(b"", 302, {"Location": target})
    with pytest.raises(HttpError, match=r"^127\.0\.0\.1: it redirects to elsewhere") as caught:
        get(server.url, HttpClient(LIMIT_S, most_redirects=3))
    assert caught.value.reason == "redirect"
    assert SECRET not in str(caught.value)


def test_where_none_is_followed_a_redirect_is_an_answer_that_names_the_place(server: GridServer):
    server.answer = lambda request: Reply(
        b"", 301, {"Location": f"https://ada:{SECRET}@other.example:8443/{SECRET}"}
    )
    with HttpClient(LIMIT_S).open(server.url) as answer:
        assert (answer.status, answer.redirects_to()) == (301, "https://other.example:8443")


# Proxies.


@for_each_row(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("1.0.0.127", False),
        ("", False),
    ],
)
def test_this_machine_is_known_by_its_names(host: str, is_it: bool):
    assert is_loopback(host) is is_it


@for_each_row(
    ("url", "no_proxy", "exempt"),
    [
        ("http://gateway.example", "gateway.example", True),
        ("http://gateway.example", "other.example, gateway.EXAMPLE", True),
        ("http://gateway.example", "example", True),
        ("http://gateway.example", ".example", True),
        ("http://gateway.example", "*.example", True),
        ("http://gateway.example", "*", True),
        ("http://gateway.example", "way.example", False),
        ("http://gateway.example", "", False),
        ("http://gateway.example", " , ", False),
        ("http://gateway.example:9091", "gateway.example:9091", True),
        ("http://gateway.example", "gateway.example:9091", False),
        ("https://gateway.example", "gateway.example:443", True),
        ("http://10.1.2.3:9091", "10.0.0.0/8", True),
        ("http://10.1.2.3", "10.1.2.3/8", True),
        ("http://11.1.2.3", "10.0.0.0/8", False),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://10.1.2.3", "2.3", False),
        ("http://10.1.2.3:80", "10.1.2.3:80", True),
        ("http://10.1.2.3:81", "10.1.2.3:80", False),
        ("http://[fd00::7]:9091", "fd00::/8", True),
        ("http://[fd00::7]:9091", "[fd00::7]:9091", True),
        ("http://[fd00::7]", "fd00::7", True),
        ("http://[fe80::7]", "fd00::/8", False),
        ("http://gateway.example", "10.0.0.0/8,not/a/net", False),
    ],
)
def test_no_proxy_knows_names_ports_addresses_and_nets(url: str, no_proxy: str, exempt: bool):
    assert is_exempt(address_of(url), no_proxy) is exempt


@for_each_row(
    ("url", "environ", "proxy"),
    [
        ("http://h", {"http_proxy": "http://p:3128"}, "p:3128"),
        ("http://h", {"HTTP_PROXY": "p:3128"}, "p:3128"),
        ("http://h", {"http_proxy": "p:1", "HTTP_PROXY": "p:2"}, "p:1"),
        ("http://h", {"http_proxy": "", "HTTP_PROXY": "p:2"}, None),
        ("http://h", {"https_proxy": "p:1"}, None),
        ("https://h", {"https_proxy": "http://p"}, "p:80"),
        ("https://h", {"all_proxy": "http://[fd00::1]:3128"}, "[fd00::1]:3128"),
        ("https://h", {"all_proxy": "p:1", "no_proxy": "h"}, None),
        ("http://localhost:9091", {"http_proxy": "p:1"}, None),
        ("http://127.0.0.2:9091", {"all_proxy": "p:1"}, None),
        ("http://[::1]:9091", {"http_proxy": "p:1"}, None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names_for_the_scheme(
    url: str, environ: dict[str, str], proxy: str | None
):
    found = proxy_for(address_of(url), environ)
    assert (None if found is None else str(found)) == proxy


def test_a_proxy_gets_its_login_and_no_error_shows_it(
    server: GridServer, refused: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", f"http://ada:{SECRET}@127.0.0.1:{server.address[1]}")
    assert get("http://grid.example:8080/a?b=c") == b"yes"
    (request,) = server.requests
    assert request.headers["host"] == "grid.example:8080"
    assert request.headers["proxy-authorization"].startswith("Basic ")
    monkeypatch.setenv("http_proxy", f"http://ada:{SECRET}@{refused}")
    with pytest.raises(HttpError) as caught:
        get("http://grid.example/")
    assert str(caught.value) == (
        f"grid.example: the connection through the proxy {refused} failed: Connection refused"
    )


def test_a_proxy_that_opens_no_tunnel_or_does_not_answer_is_named(
    server: GridServer, monkeypatch: pytest.MonkeyPatch
):
    place = f"127.0.0.1:{server.address[1]}"
    monkeypatch.setenv("https_proxy", f"http://ada:{SECRET}@{place}")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        server.tunnel = deaf.getsockname()
        with pytest.raises(HttpError) as caught:
            get("https://grid.example/", HttpClient(0.3))
        assert str(caught.value) == f"grid.example: no answer within 0.3 s through the proxy {place}"
    server.tunnel = None
    with pytest.raises(HttpError, match=f"through the proxy {place} failed: it answers 403") as caught:
        get("https://grid.example/")
    assert SECRET not in str(caught.value)


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(authority: trustme.CA, name: str = "127.0.0.1", asks: bool = False) -> GridServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if asks:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return GridServer(lambda request: Reply(b"yes"), context)


def test_a_certificate_of_ones_own_is_shown_to_who_asks_for_it(authority: trustme.CA, tmp_path: Path):
    own = authority.issue_cert("client.example")
    trusted, certificate, key = (str(tmp_path / name) for name in ("ca.pem", "own.pem", "own.key"))
    authority.cert_pem.write_to_path(trusted)
    own.cert_chain_pems[0].write_to_path(certificate)
    own.private_key_pem.write_to_path(key)
    with tls_server(authority, asks=True) as server:
        client = HttpClient(LIMIT_S, authorities=trusted, certificate=(certificate, key))
        assert get(server.url, client) == b"yes"
        with pytest.raises(FetchError):
            get(server.url, HttpClient(LIMIT_S, authorities=trusted))


def test_an_untrusted_certificate_says_what_to_do(authority: trustme.CA, tmp_path: Path):
    trusted = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(trusted))
    with tls_server(authority) as server:
        with pytest.raises(HttpError, match="name the file of its authority in SSL_CERT_FILE"):
            get(server.url)
        with pytest.raises(HttpError, match=f"it is of none of the authorities in {trusted}"):
            get(server.url, HttpClient(LIMIT_S, authorities=str(trusted)))
        with pytest.raises(FetchError, match=r"none\.pem cannot be read: No such file"):
            get(server.url, HttpClient(LIMIT_S, authorities=str(tmp_path / "none.pem")))
    authority.cert_pem.write_to_path(str(trusted))
    with tls_server(authority, "other.example") as server, pytest.raises(HttpError, match="for another name"):
        get(server.url, HttpClient(LIMIT_S, authorities=str(trusted)))


# What is asked.


@pytest.mark.parametrize("value", [f"{SECRET}\r\nHost: evil", f"{SECRET}\x00", f"{SECRET}é"])
def test_a_header_that_none_may_be_is_not_sent_and_not_shown(value: str, server: GridServer):
    with pytest.raises(HttpError) as caught:
        with HttpClient(LIMIT_S).open(server.url, {"X-Key": value}):
            pass
    assert (caught.value.reason, server.requests) == ("key", [])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://host/", "http://", "http://host:99999/", "http://host/a b", "http://[::1", "x"]
)
def test_a_url_that_is_none_is_an_error(url: str):
    with pytest.raises(HttpError) as caught:
        get(url)
    assert caught.value.reason == "connect"


def test_a_name_that_is_not_ascii_is_asked_for_as_name_servers_know_it():
    address = address_of("https://gr\u00fc\u00dfe.example:8443/a?b")
    assert address == ("https", "xn--grsse-lva.example", 8443, "xn--grsse-lva.example:8443", "/a?b")


def test_what_is_sent_arrives_whole(server: GridServer):
    found: list[Request] = []

    def answer(request: Request) -> Reply:
        found.append(request)
        return Reply(b"")

    server.answer = answer
    with HttpClient(LIMIT_S).open(f"{server.url}/metrics?a=b", {"X-A": "1"}, "PUT", b"0" * 300_000) as reply:
        assert reply.status == 200
    assert found[0].headers["content-length"] == "300000"
    assert (found[0].path, found[0].query, found[0].headers["x-a"]) == ("/metrics", {"a": "b"}, "1")


# Whatever comes.

PARTS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200\r\n",
    b"HTTP/9 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 -1 OK\r\n",
    b"HTTP/1.1 999 \xff\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -5\r\n",
    b"Content-Length: " + b"9" * 5000 + b"\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Location: //[::1\r\n",
    b": \r\n",
    b" folded\r\n",
    b"\xff\xfe: \x00\r\n",
    b"\r\n",
    b"5\r\n12345\r\n",
    b"-1\r\n",
    b"-ffffffff\r\n",
    b"1_0\r\n",
    b"0\r\n\r\n",
    gzip.compress(b"12345"),
    gzip.compress(b"0" * 5000),
)


@examples(300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=lists(sampled_from(PARTS) | binary(max_size=20), max_size=12), redirects=booleans())
def test_whatever_a_server_sends_is_an_answer_or_an_error_of_ours(
    parts: list[bytes], redirects: bool, server: GridServer
):
    server.fault = writes(*parts)
    try:
        with HttpClient(LIMIT_S, most_redirects=int(redirects)).open(server.url) as answer:
            answer.redirects_to()
            assert len(answer.beginning()) <= SMALL_BYTES
        with HttpClient(LIMIT_S).open(server.url) as answer:
            assert len(answer.body(1000)) <= 1000
        with HttpClient(LIMIT_S).open(server.url) as answer:
            assert all(len(line) <= 1000 for line in answer.lines(1000))
    except HttpError as error:
        assert str(error).startswith("127.0.0.1: ")
