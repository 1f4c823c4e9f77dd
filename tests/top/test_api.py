"""Every refusal of a server says what mends it; whoever asks is who the user says."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.top.api import Identity, MonitorApi, NoRun, checked_url
from tests.support import page_states
from tests.support.metrics_endpoint import PASSWORD, Authority, hashed, serving
from tests.support.page_states import served
from tests.support.rows import for_each_row


class Server:
    """Answers everything in one way."""

    def __init__(self, status: int, body: bytes, **headers: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Server:
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def asked(url: str, environ: dict[str, str] | None = None, **identity: Any) -> MonitorApi:
    return MonitorApi(url, environ or {}, Identity(**identity))


@for_each_row(
    ("typed", "meant"),
    [
        ("node1:9877", "http://node1:9877"),
        ("https://node1:9877/", "https://node1:9877"),
        ("http://127.0.0.1:9877/metrics", "http://127.0.0.1:9877"),
        ("https://proxy/carbonmon/api/v1/now", "https://proxy/carbonmon"),
        (" http://[::1]:9877 ", "http://[::1]:9877"),
    ],
)
def test_an_address_is_taken_as_users_have_it(typed: str, meant: str) -> None:
    assert checked_url(typed) == meant


@for_each_row(
    ("typed", "says"),
    [
        ("ftp://node1", "is not an address; give for example https://node1:9877"),
        ("http://me:secret@node1", "leave user and password out of the address"),
        ("http://node1/?run=x", "without ? and #"),
        ("http://node1:99999", "is not an address"),
        ("", "is not an address"),
    ],
)
def test_an_address_that_is_none_is_told_with_one_that_is(typed: str, says: str) -> None:
    with pytest.raises(ConfigError, match="--url") as caught:
        checked_url(typed)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@for_each_row(
    ("status", "body", "says"),
    [
        (401, b"", "it asks for a login; give --username and --password-file"),
        (403, b"", "give the --cert-file and --key-file of one that it admits"),
        (404, b"Not found. The metrics are at /metrics", "an older carbonmon, or another program"),
        (429, b"", "it is asked too often"),
        (503, b"", "no room for another connection"),
        (500, b"", "does not answer as it should (500)"),
        (200, b"<html>", "that is no monitor of carbonmon"),
        (200, b'{"api": 2}', "a newer carbonmon answers there; update this one"),
        (200, b"[" * 100_000, "that is no monitor of carbonmon"),
    ],
)
def test_a_refusal_says_what_mends_it(status: int, body: bytes, says: str) -> None:
    with Server(status, body) as server, pytest.raises(FetchError) as caught:
        asked(server.url).now()
    assert says in str(caught.value)


def test_a_run_that_is_not_shown_is_another_thing_than_a_monitor_that_is_old() -> None:
    body = json.dumps({"api": 1, "error": "no run 'x' is shown here\x1b[2J"}).encode()
    with Server(404, body) as server:
        with pytest.raises(NoRun, match="no run 'x' is shown here") as caught:
            asked(server.url).now("x")
        assert str(caught.value).isprintable()
        assert not asked(server.url).series("x"), "none yet"


def test_a_redirect_and_a_server_that_is_not_there_are_told() -> None:
    with Server(302, b"", Location="https://other:1/secret") as server:
        with pytest.raises(FetchError, match="redirects to https://other:1: give that address"):
            asked(server.url).now()
    with pytest.raises(FetchError, match="is a run going on there, or the daemon\\?"):
        asked(server.url).now()


def test_a_run_is_asked_for_by_its_id_whatever_is_in_it() -> None:
    with served(page_states.hours_in(1, 1, 0)) as running:
        api = asked(running.url)
        assert api.now("slurm-4242").part("run").text("name") == "llama-7b fine-tune"
        assert [run.text("id") for run in api.runs()] == ["slurm-4242"]
        with pytest.raises(NoRun):
            api.now("../x?&run=slurm-4242")


def test_tls_and_passwords_are_those_of_the_web_config(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    config = tmp_path / "web.yml"
    config.write_text(
        f"tls_server_config: {{cert_file: {certificate}, key_file: {key}}}\n"
        f"basic_auth_users: {{me: {hashed()}}}\n"
    )
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    mine: dict[str, Any] = {"username": "me", "password_file": tmp_path / "password"}
    with serving(config) as endpoint:
        url = f"https://localhost:{endpoint.port}"
        assert asked(url, ca_file=authority.file, **mine).now().text("state") == "measuring"
        environ = {"CARBONMON_TOP_USERNAME": "me", "CARBONMON_TOP_PASSWORD": PASSWORD}
        assert asked(url, environ, ca_file=authority.file).now()
        for api, says in (
            (asked(url, **mine), "in SSL_CERT_FILE, or in --ca-file"),
            (asked(url, ca_file=authority.file), "it asks for a login"),
            (
                asked(url, environ | {"CARBONMON_TOP_PASSWORD": "x"}, ca_file=authority.file),
                "it does not accept the login",
            ),
            (asked(f"http://localhost:{endpoint.port}"), "if it has TLS, give an https address"),
        ):
            with pytest.raises(FetchError) as caught:
                api.now()
            assert says in str(caught.value)


def test_a_certificate_of_ones_own_is_sent(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    own, own_key = authority.issue("client")
    config = tmp_path / "web.yml"
    config.write_text(
        f"tls_server_config: {{cert_file: {certificate}, key_file: {key}, client_ca_file: {authority.file}, "
        "client_auth_type: RequireAndVerifyClientCert}\n"
    )
    with serving(config) as endpoint:
        url = f"https://localhost:{endpoint.port}"
        api = asked(url, ca_file=authority.file, cert_file=own, key_file=own_key)
        assert api.now().text("state") == "measuring"


@for_each_row(
    ("identity", "says"),
    [
        ({"username": "me"}, "CARBONMON_TOP_PASSWORD is not set, nor --password-file"),
        ({"key_file": Path("key")}, "--key-file is of no use without --cert-file"),
    ],
)
def test_half_of_an_identity_is_told(identity: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked("https://node1", **identity)
    assert says in str(caught.value)


def test_a_password_does_not_cross_the_network_in_clear_text() -> None:
    environ = {"CARBONMON_TOP_USERNAME": "me", "CARBONMON_TOP_PASSWORD": "x"}
    with pytest.raises(ConfigError, match="give an https address"):
        asked("http://node1:9877", environ)
