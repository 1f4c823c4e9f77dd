"""The endpoint of the metrics over HTTP: probes, methods, slow and hostile clients, where it listens."""

from __future__ import annotations

import contextlib
import gzip
import logging
import socket
import threading
import time
from typing import Any

import pytest
from carbonmon_exporters.endpoint.server import MetricsServer
from carbonmon_exporters.endpoint.stream import MAX_HEAD_BYTES
from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.model import Snapshot
from carbonmon.core.ports import ExporterSettings
from tests.support.metrics_endpoint import read_to_end
from tests.support.records import node, snapshot
from tests.support.scraping import DEADLINE_S, Address, ask, serving


def ask_raw(address: Address, request: bytes) -> bytes:
    with socket.create_connection(address, timeout=DEADLINE_S) as client:
        client.sendall(request)
        return read_to_end(client)


def is_closed(client: socket.socket) -> bool:
    """Whether the server ends this connection before the deadline."""
    client.settimeout(DEADLINE_S)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def is_open_after(client: socket.socket, sent: bytes) -> bool:
    """Send something, and see for as long as the client's timeout whether the server ends the connection."""
    try:
        client.sendall(sent)
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionError:
        return False


# HTTP


def test_the_probes_answer_beside_the_metrics() -> None:
    with serving(snapshot(samples=1)) as address:
        answer, body = ask(address, "/-/healthy")
        assert (answer.status, body) == (200, b"carbonmon is healthy\n")
        assert ask(address, "/-/ready")[0].status == 200


def test_it_is_ready_only_once_a_sample_was_taken() -> None:
    with serving(snapshot(samples=0)) as address:
        assert ask(address, "/-/ready")[0].status == 503
        assert ask(address, "/-/healthy")[0].status == 200


@pytest.mark.parametrize(
    "path", ["/page", "/api/v2/now", "/metrics/", "/healthz", "/-/", "/metrics%00", "/../etc/passwd"]
)
def test_every_other_path_is_not_found(path: str) -> None:
    with serving(snapshot()) as address:
        answer, body = ask(address, path)
    assert answer.status == 404
    assert b"carbonmon_" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_refused_with_those_that_are_allowed(method: str) -> None:
    with serving(snapshot()) as address:
        answer, _ = ask(address, method=method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/-/healthy", "/nothing"])
def test_head_has_the_headers_of_get_and_no_body(path: str) -> None:
    with serving(snapshot()) as address:
        got, body = ask(address, path)
        raw = ask_raw(address, f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert rest == b""
    assert f"Content-Length: {len(body)}".encode() in head
    assert head.split(b"\r\n")[0] == f"HTTP/1.1 {got.status} {got.reason}".encode()


def test_head_of_the_metrics_has_no_body() -> None:
    with serving(snapshot()) as address:
        raw = ask_raw(address, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: text/plain" in head
    assert int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]) > 1000
    assert rest == b""


def test_a_client_that_accepts_gzip_gets_it() -> None:
    with serving(node()) as address:
        answer, body = ask(address, headers={"Accept-Encoding": "gzip"})
        _, plain = ask(address)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert int(answer.headers["Content-Length"]) == len(body) < len(plain) / 4
    assert b"carbonmon_build_info" in gzip.decompress(body)


@pytest.mark.parametrize("name", ["carbonmon_pue_ratio", "process_resident_memory_bytes"])
def test_metrics_can_be_picked_by_name(name: str) -> None:
    with serving(node()) as address:
        _, body = ask(address, f"/metrics?name[]={name}")
    lines = [line for line in body.decode().splitlines() if not line.startswith("#")]
    assert [line.split(" ")[0] for line in lines] == [name]


def test_counters_and_infos_can_be_picked_by_the_names_of_their_samples() -> None:
    picked = ("carbonmon_device_energy_joules_total", "carbonmon_run_info")
    with serving(node(1, 0, 0)) as address:
        _, body = ask(address, "/metrics?" + "&".join(f"name[]={name}" for name in picked))
    shown = {line.split("{")[0] for line in body.decode().splitlines() if not line.startswith("#")}
    assert shown == set(picked)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"<script>alert(1)</script>\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/nine\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"b" * MAX_HEAD_BYTES, b"431"),
    ],
    ids=["no request", "no version", "too many headers", "too long a header"],
)
def test_a_malformed_request_is_refused_in_few_words(
    request_bytes: bytes, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(snapshot()) as address:
        raw = ask_raw(address, request_bytes)
        assert raw.startswith(b"HTTP/1.1 " + status)
        assert b"script" not in raw
        assert b"Python" not in raw
        assert ask(address)[0].status == 200
    assert capfd.readouterr().err == ""


def test_a_fault_of_ours_is_a_500_without_details_and_one_warning(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Snapshot:
        raise RuntimeError("secret /home/someone")

    with caplog.at_level(logging.WARNING), serving(broken) as address:
        for _ in range(3):
            answer, body = ask(address)
            assert (answer.status, body) == (500, b"carbonmon failed to answer\n")
        assert ask(address, "/-/healthy")[0].status == 200
    assert len(caplog.records) == 1
    assert capfd.readouterr().err == ""


def test_a_client_that_leaves_in_the_middle_is_no_fault(capfd: pytest.CaptureFixture[str]) -> None:
    with serving(node()) as address:
        for request in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\n\r\n"):
            with socket.create_connection(address, timeout=DEADLINE_S) as client:
                client.sendall(request)
        assert ask(address)[0].status == 200
    assert capfd.readouterr().err == ""


# Clients that mean no good


def test_forty_idle_clients_do_not_keep_a_scrape_out() -> None:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(serving(node(), max_connections=32))
        clients = [
            stack.enter_context(socket.create_connection(address, timeout=DEADLINE_S)) for _ in range(40)
        ]
        assert ask(address)[0].status == 200
        assert all(is_closed(client) for client in clients[:9])
        clients[-1].sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        assert read_to_end(clients[-1]).endswith(b"carbonmon is healthy\n")


def test_a_client_that_sends_one_byte_at_a_time_is_cut_off() -> None:
    with (
        serving(snapshot(), read_timeout_s=0.3) as address,
        socket.create_connection(address, timeout=DEADLINE_S) as client,
    ):
        begin_s = time.monotonic()
        client.settimeout(0.02)
        while is_open_after(client, b"G") and time.monotonic() < begin_s + DEADLINE_S:
            pass
        assert 0.29 <= time.monotonic() - begin_s < DEADLINE_S
        assert ask(address)[0].status == 200


def test_a_silent_client_is_cut_off() -> None:
    with (
        serving(snapshot(), read_timeout_s=0.1) as address,
        socket.create_connection(address, timeout=DEADLINE_S) as client,
    ):
        assert is_closed(client)


class SlowApp:
    """A WSGI application whose answers wait for the test."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        self.begun.release()
        self.go_on.wait(DEADLINE_S)
        start_response("200 OK", [("Content-Length", "3")])
        return [b"ok\n"]


def test_a_client_too_many_is_told_so_when_all_others_are_being_answered() -> None:
    app = SlowApp()
    server = MetricsServer(("127.0.0.1", 0), lambda: app, max_connections=2)
    server.start()
    address = ("127.0.0.1", server.server_port)
    try:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(address)) for _ in range(2)]
            for client in clients:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert app.begun.acquire(timeout=DEADLINE_S)
            with socket.create_connection(address) as third:
                assert read_to_end(third).startswith(b"HTTP/1.1 503 ")
            app.go_on.set()
            assert all(read_to_end(client).endswith(b"ok\n") for client in clients)
    finally:
        app.go_on.set()
        server.close()


def test_closing_lets_an_answer_under_way_be_sent() -> None:
    app = SlowApp()
    server = MetricsServer(("127.0.0.1", 0), lambda: app)
    server.start()
    with socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert app.begun.acquire(timeout=DEADLINE_S)
        app.go_on.set()
        server.close()
        assert read_to_end(client).endswith(b"ok\n")


def test_closing_does_not_wait_for_idle_clients() -> None:
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)))
    shown = snapshot()
    place = exporter.start(lambda: shown)
    address = ("127.0.0.1", int(place.split(":")[2].split("/")[0]))
    with socket.create_connection(address) as idle:
        assert ask(address)[0].status == 200
        begin_s = time.monotonic()
        exporter.close()
        assert time.monotonic() - begin_s < 2.0
        assert is_closed(idle)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=DEADLINE_S)
    assert not any(thread.name == "carbonmon-metrics" for thread in threading.enumerate())


# Where it listens


def test_a_taken_port_is_said_and_a_free_one_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", port)))
        shown = snapshot()
        try:
            place = exporter.start(lambda: shown)
            assert place.endswith(f"/metrics (port {port} was taken)")
            served = int(place.split(":")[2].split("/")[0])
            assert served != port
            assert ask(("127.0.0.1", served))[0].status == 200
        finally:
            exporter.close()


def test_a_port_is_free_again_right_after_closing() -> None:
    with serving(snapshot()) as address:
        ask(address)
    exporter = PrometheusExporter(ExporterSettings(listen=address))
    shown = snapshot()
    try:
        assert exporter.start(lambda: shown) == f"http://127.0.0.1:{address[1]}/metrics"
    finally:
        exporter.close()


@pytest.mark.parametrize("listen", [("192.0.2.1", 0), ("127.0.0.1", 70_000), ("no host at all", 0)])
def test_an_address_that_cannot_be_had_is_an_error_with_a_remedy(listen: Address) -> None:
    exporter = PrometheusExporter(ExporterSettings(listen=listen))
    shown = snapshot()
    with pytest.raises(ConfigError, match=r"cannot serve metrics at .*--listen ADDRESS:PORT"):
        exporter.start(lambda: shown)
    for act in (exporter.checkpoint, exporter.finish):  # it does not look as if it worked again
        with pytest.raises(CarbonmonError, match="cannot serve metrics at"):
            act(shown)
    exporter.close()


def test_a_name_server_that_is_silent_for_now_makes_no_mistake_of_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    exporter = PrometheusExporter(ExporterSettings(listen=("node7", 0)))
    with pytest.raises(CarbonmonError, match="Temporary failure") as caught:
        exporter.start(snapshot)
    assert not isinstance(caught.value, ConfigError), "a daemon tries again"
    monkeypatch.undo()


def test_it_serves_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    exporter = PrometheusExporter(ExporterSettings(listen=("::1", 0)))
    shown = snapshot()
    try:
        place = exporter.start(lambda: shown)
        assert place.startswith("http://[::1]:")
        port = int(place.removeprefix("http://[::1]:").removesuffix("/metrics"))
        assert ask(("::1", port))[0].status == 200
    finally:
        exporter.close()


@pytest.mark.parametrize(("host", "warnings"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_an_address_that_others_can_reach_is_warned_of(
    host: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = PrometheusExporter(ExporterSettings(listen=(host, 0)))
    shown = snapshot()
    try:
        with caplog.at_level(logging.WARNING):
            exporter.start(lambda: shown)
    finally:
        exporter.close()
    assert len(caplog.records) == warnings
