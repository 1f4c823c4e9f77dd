"""What strangers send: each gets a correct status or a clean end, learns nothing, and holds nobody up."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.server import MetricsServer
from carbonmon_exporters.endpoint.stream import MAX_HEAD_BYTES
from prometheus_client import parser

from carbonmon.core.model import Snapshot
from tests.support.metrics_endpoint import (
    DEADLINE_S,
    Authority,
    Endpoint,
    basic,
    hashed,
    read_to_end,
    serving,
)
from tests.support.records import crowd

MEGABYTE = 1 << 20
KINDS = ("in clear", "in TLS")
LONG_ANSWER = bytes(16 * MEGABYTE)


@contextlib.contextmanager
def opened(kind: str, folder: Path, **options: Any) -> Iterator[Endpoint]:
    """A real server in clear or in TLS, which must answer as ever in the end, and have nobody left."""
    with serving(*protected(kind, folder), **options) as endpoint:
        yield endpoint
        assert endpoint.status("/-/healthy") == 200
        assert leave_in_time(), "a connection is left behind"


def protected(kind: str, folder: Path) -> tuple[Path | None, ssl.SSLContext | None]:
    """The server's web config, and a client that trusts it."""
    if kind == "in clear":
        return None, None
    authority = Authority(folder)
    authority.issue("server")
    config = folder / "web-config.yml"
    config.write_text("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
    return config, authority.client()


@contextlib.contextmanager
def answering_at_length(kind: str, folder: Path, timeout_s: float) -> Iterator[socket.socket]:
    """A client with a small window that has the first byte of more than all buffers of a connection hold.

    What it is sent is there at once: metrics of this length take seconds to be made on a busy machine.
    """

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", f"{len(LONG_ANSWER)}")])
        return [LONG_ANSWER]

    config, trusting = protected(kind, folder)
    server = MetricsServer(("127.0.0.1", 0), lambda: app, AccessPolicy(config), read_timeout_s=timeout_s)
    server.start()
    try:
        scheme = "http" if config is None else "https"
        endpoint = Endpoint(f"{scheme}://127.0.0.1:{server.server_port}/metrics", trusting)
        with endpoint.open() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request())
            assert client.recv(1) == b"H"
            yield client
    finally:
        server.close()


def is_answering() -> bool:
    """Whether there is a thread that answers somebody."""
    return any(thread.name == "carbonmon-scrape" for thread in threading.enumerate())


def leave_in_time() -> bool:
    """Whether all threads that answer somebody end before the deadline."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        if not is_answering():
            return True
        time.sleep(0.005)
    return False


@pytest.fixture(params=KINDS)
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    with opened(request.param, tmp_path, read_timeout_s=2 * DEADLINE_S) as made:
        yield made


def request(
    target: str = "/metrics", method: str = "GET", version: str = "HTTP/1.1", more: str = ""
) -> bytes:
    """A request after which the connection is closed."""
    return f"{method} {target} {version}\r\nHost: x\r\nConnection: close\r\n{more}\r\n".encode()


def status(answer: bytes) -> int:
    line = answer.partition(b"\r\n")[0]
    assert line.startswith(b"HTTP/1.1 "), answer[:100]
    return int(line.split()[1])


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /metrics\r\n", 400),  # HTTP/0.9: answered before any blank line
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics extra HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/one\r\n\r\n", 400),
        (b"GET /metrics HTTP/-1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/" + b"9" * 5000 + b".1\r\n\r\n", 400),
        (b" HTTP/1.1\r\n\r\n", 400),
        (b"GET\t/metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /met\x00rics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1 \r\n\r\n", 400),
        (b"\x80\x81\x82\xff\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /metrics HTTP/3.0\r\n\r\n", 505),
        (b"GET /" + b"a" * MEGABYTE + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: " + b"b" * MEGABYTE + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * (MEGABYTE // 6) + b"\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"\r\n" * MEGABYTE, 414),
        (request("/nothing"), 404),
        (request("/../etc/passwd"), 404),
        (request("/..%2f..%2fetc%2fpasswd"), 404),
        (request("/%2e%2e/%2e%2e/etc/passwd"), 404),
        (request("/metrics/../../etc/passwd"), 404),
        (request("/metrics%00"), 404),
        (request("/metrics%0d%0aX-Injected:%20yes"), 404),
        (request("/caf\udce9".encode("utf-8", "surrogateescape").decode("latin-1")), 404),
        (b"GET /caf\xe9\xff HTTP/1.1\r\n\r\n", 404),
        (request("http://elsewhere.example/nothing"), 404),
        (request("*", "OPTIONS"), 405),
        (request("elsewhere.example:443", "CONNECT"), 405),
        (request(method="TRACE"), 405),
        (request("/nothing", "POST"), 405),
        (request(method="GET" * 1000), 405),
        (request(more="Content-Length: -1\r\n"), 200),
        (request(more="Content-Length: many\r\n"), 200),
        (request(more="Accept: " + "a," * 5000 + "\r\n"), 200),
        (request(more="Accept-Encoding: \xff\r\n"), 200),
        (request(more="Authorization: Basic " + "A" * 30_000 + "\r\n"), 200),
        (request(more="X-Prometheus-Scrape-Timeout-Seconds: NaN\r\nUser-Agent: \t\r\n"), 200),
        (request(more="no colon at all\r\n"), 200),
        (b"\r\n\r\n\r\n" + request(), 200),
        (request("http://elsewhere.example/metrics"), 200),
        (request("HTTPS://elsewhere.example:9877/-/healthy?a=b"), 200),
        (request("/metrics?name[]=\xff&name[]=%ff%fe&=&&;=&name[]"), 200),
        (request(version="HTTP/1.0"), 200),
        (request(version="HTTP/1.9"), 200),
        (b"GET /metrics HTTP/1.1\nConnection: close\n\n", 200),
    ],
)
def test_each_request_gets_its_status(
    endpoint: Endpoint, sent: bytes, expected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = endpoint.send(sent)
    assert status(answer) == expected
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nServer: carbonmon\r\n" in head + b"\r\n"
    assert b"X-Injected" not in head
    if expected != 200:
        assert len(body) < 100
        here = str(Path(__file__).parents[2]).encode()
        for leak in (b"Traceback", b"Python", b"python", b".py", here, b"/usr", b"WSGI", b"root:"):
            assert leak not in answer
        assert f"{sys.version_info.major}.{sys.version_info.minor}".encode() not in answer
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_told_which_are_allowed_whatever_they_send(endpoint: Endpoint, method: str) -> None:
    for more in ("", f"Content-Length: {MEGABYTE}\r\n", "Transfer-Encoding: chunked\r\n"):
        answer = endpoint.send(request(method=method, more=more) + b"x" * (MEGABYTE if more else 0))
        assert status(answer) == 405
        assert b"\r\nAllow: GET, HEAD\r\n" in answer


def test_a_body_that_comes_late_does_not_cost_the_answer(endpoint: Endpoint) -> None:
    with endpoint.open() as client:
        client.sendall(request(method="POST", more="Content-Length: 300000\r\n"))
        answer = client.recv(65536)
        with contextlib.suppress(OSError):
            for _ in range(30):
                client.sendall(b"x" * 10_000)
        answer += read_to_end(client)
    assert status(answer) == 405


def test_the_body_of_a_get_is_not_read_as_a_request(endpoint: Endpoint) -> None:
    inner = request("/-/healthy")
    answer = endpoint.send(request("/nothing", more=f"Content-Length: {len(inner)}\r\n") + inner)
    assert status(answer) == 404
    assert answer.count(b"HTTP/1.1 ") == 1


def test_of_pipelined_requests_the_first_is_answered_and_the_connection_closed(endpoint: Endpoint) -> None:
    answer = endpoint.send(request("/-/healthy") + request("/nothing") * 50)
    assert status(answer) == 200
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"carbonmon is healthy\n")


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"name[]=x{number}" for number in range(4000)),
        "&".join(["name[]=carbonmon_pue_ratio"] * 2000),
        "name[]=" + "%00" * 10_000,
        "name[]=" + "../" * 10_000 + "etc/passwd",
        "name[]={}&name[]=__class__&name[]=%7B%22a%22%3A1%7D&name[]=%0A%23%20HELP",
        "&" * 60_000,
        "name[]" * 5000,
    ],
    ids=lambda query: query[:20],
)
def test_filters_of_any_names_are_answered_in_time(endpoint: Endpoint, query: str) -> None:
    begin_s = time.monotonic()
    answer = endpoint.send(request(f"/metrics?{query}"))
    assert time.monotonic() - begin_s < DEADLINE_S
    assert status(answer) == 200
    body = answer.partition(b"\r\n\r\n")[2].decode()
    shown = {family.name for family in parser.text_string_to_metric_families(body)}
    assert b"passwd" not in answer
    if query.startswith("name[]=carbonmon_pue_ratio"):
        assert shown == {"carbonmon_pue_ratio"}
    elif "name[]=" in query:
        assert shown == set()


def test_a_head_that_stops_short_of_its_end_is_waited_for_and_then_cut(tmp_path: Path) -> None:
    with serving(read_timeout_s=0.2) as endpoint:
        for part in (b"", b"GET", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"):
            with endpoint.connect() as client:
                client.sendall(part)
                assert read_to_end(client) == b""
        assert endpoint.status() == 200


def test_headers_that_trickle_in_are_cut_off_in_time() -> None:
    with serving(read_timeout_s=0.3) as endpoint, endpoint.connect() as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        client.settimeout(0.02)
        begin_s = time.monotonic()
        while time.monotonic() - begin_s < DEADLINE_S:
            try:
                client.sendall(b"A: b\r\n")
                if not client.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert 0.29 <= time.monotonic() - begin_s < DEADLINE_S


def test_a_client_that_closed_its_own_side_is_answered_still() -> None:
    with serving() as endpoint, endpoint.connect() as client:
        client.sendall(request("/-/healthy"))
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client).endswith(b"carbonmon is healthy\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_does_not_read_its_answer_is_given_up(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with answering_at_length(kind, tmp_path, 0.5):
        assert leave_in_time()
    assert "a connection ended early" in caplog.text, "it was not sent whole"


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_reads_slowly_is_given_up_as_well(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with answering_at_length(kind, tmp_path, 0.5) as client:
        deadline_s = time.monotonic() + DEADLINE_S
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline_s and is_answering() and client.recv(1000):
                time.sleep(0.02)
        assert leave_in_time()
        assert time.monotonic() < deadline_s
    assert "a connection ended early" in caplog.text, "it was not sent whole"


def test_scrapes_at_the_same_time_are_made_one_after_the_other() -> None:
    """Else a sample would wait for Python's lock behind all of them."""
    at_work: list[int] = []
    most = 0
    shown = crowd(1)

    def latest() -> Snapshot:
        nonlocal most
        at_work.append(1)
        most = max(most, len(at_work))
        time.sleep(0.02)
        at_work.pop()
        return shown

    with serving(latest=latest) as endpoint:
        threads = [threading.Thread(target=endpoint.ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 1


def test_memory_stays_small_whatever_is_sent(endpoint: Endpoint) -> None:
    import tracemalloc

    long = b"GET /metrics HTTP/1.1\r\nA: " + b"b" * (3 * MEGABYTE)
    endpoint.send(long)
    tracemalloc.start()
    try:
        endpoint.send(long)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * MAX_HEAD_BYTES  # what the client holds of the answer included, the request is older


def test_a_fault_of_ours_shows_nothing_of_itself(tmp_path: Path) -> None:
    def broken() -> Snapshot:
        raise RuntimeError("secret of /home/someone")

    config = tmp_path / "web-config.yml"
    config.write_text(f"basic_auth_users:\n  anna: {hashed()}\n")
    with serving(config, latest=broken) as endpoint:
        answer, body = endpoint.ask(headers=basic("anna"))
        assert (answer.status, body) == (500, b"carbonmon failed to answer\n")
        assert set(answer.headers) == {"Date", "Content-Type", "Content-Length", "Server", "Connection"}
