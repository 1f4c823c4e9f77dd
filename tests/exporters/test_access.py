"""Access to the metrics: TLS, client certificates and passwords on the real server, and reloading."""

from __future__ import annotations

import base64
import contextlib
import logging
import ssl
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from wsgiref.handlers import BaseHandler

import pytest
from carbonmon_exporters.endpoint import access as access_module
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.routes import Routes
from carbonmon_exporters.endpoint.server import MetricsServer
from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.core.ports import ExporterSettings
from tests.support.metrics_endpoint import (
    DEADLINE_S,
    PASSWORD,
    Authority,
    Endpoint,
    basic,
    hashed,
    read_to_end,
    replace,
    serving,
)
from tests.support.records import node

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
VERIFY = f"{TLS}  client_ca_file: clients.pem\n  client_auth_type: "
USERS = f"basic_auth_users:\n  anna: {hashed()}\n"
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Of the server."""
    made = Authority(tmp_path)
    made.issue("server")
    return made


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    """Of the clients."""
    return Authority(tmp_path, "clients")


def written(folder: Path, text: str) -> Path:
    path = folder / "web-config.yml"
    replace(path, text)
    return path


def is_refused(endpoint: Endpoint, client: ssl.SSLContext) -> bool:
    """Whether a client is turned away in the handshake: in TLS 1.3 it learns that when it reads."""
    try:
        with endpoint.open(client) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return read_to_end(connection) == b""
    except (ssl.SSLError, ConnectionError):
        return True


# TLS


def test_metrics_are_served_in_tls(tmp_path: Path, authority: Authority) -> None:
    with serving(written(tmp_path, TLS), authority.client()) as endpoint:
        assert endpoint.url.startswith("https://127.0.0.1:")
        answer, body = endpoint.ask()
        assert answer.status == 200
        assert b"carbonmon_build_info" in body
        assert len(body) == int(answer.headers["Content-Length"])


def test_a_large_answer_comes_whole_in_tls(tmp_path: Path, authority: Authority) -> None:
    shown = node(64, 2, 2)
    with serving(written(tmp_path, TLS), authority.client(), lambda: shown) as endpoint:
        _, body = endpoint.ask()
        raw = endpoint.send(b"GET /metrics HTTP/1.0\r\n\r\n")  # read to the end: it is closed as TLS asks
    assert len(body) > 100_000
    assert body.count(b"\n") == raw.partition(b"\r\n\r\n")[2].count(b"\n")


@pytest.mark.parametrize(("low", "high", "spoken"), [("12", "12", "TLSv1.2"), ("13", "13", "TLSv1.3")])
def test_the_versions_of_the_file_are_spoken(
    tmp_path: Path, authority: Authority, low: str, high: str, spoken: str
) -> None:
    config = written(tmp_path, f"{TLS}  min_version: TLS{low}\n  max_version: TLS{high}\n")
    other = authority.client()
    if low == "12":
        other.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        other.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(config, authority.client()) as endpoint:
        with endpoint.open() as connection:
            assert isinstance(connection, ssl.SSLSocket)
            assert connection.version() == spoken
        assert is_refused(endpoint, other)
        assert endpoint.status() == 200


def test_the_suites_and_the_curve_of_the_file_are_used(tmp_path: Path, authority: Authority) -> None:
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    config = written(
        tmp_path,
        f"{TLS}  max_version: TLS12\n  cipher_suites: [{suite}]\n  curve_preferences: [CurveP384]\n",
    )
    other = authority.client()
    other.set_ecdh_curve("prime256v1")
    other.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with serving(config, authority.client()) as endpoint:
        with endpoint.open() as connection:
            assert isinstance(connection, ssl.SSLSocket)
            cipher = connection.cipher()
            assert cipher is not None
            assert cipher[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
        assert is_refused(endpoint, other)


def test_a_client_that_does_not_know_the_authority_is_not_served(
    tmp_path: Path, authority: Authority, clients: Authority
) -> None:
    with serving(written(tmp_path, TLS), authority.client()) as endpoint:
        with pytest.raises(ssl.SSLCertVerificationError):
            endpoint.ask(client=clients.client())
        assert endpoint.status() == 200


def test_an_expired_certificate_of_the_server_is_noticed_by_its_clients(
    tmp_path: Path, authority: Authority
) -> None:
    authority.issue("server", until=LONG_AGO)
    with serving(written(tmp_path, TLS), authority.client()) as endpoint:
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            endpoint.ask()


def test_http_on_the_tls_port_is_told_so(tmp_path: Path, authority: Authority) -> None:
    with serving(written(tmp_path, TLS), authority.client()) as endpoint:
        with endpoint.connect() as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"this port uses TLS: use https\n")
        assert endpoint.status() == 200


def test_tls_on_the_plain_port_is_ended_at_once(authority: Authority) -> None:
    with serving(read_timeout_s=2 * DEADLINE_S) as endpoint:
        with endpoint.connect() as connection:
            connection.sendall(b"\x16\x03\x01")
            assert read_to_end(connection).startswith(b"HTTP/1.1 400 ")
        with endpoint.connect() as connection, pytest.raises(ssl.SSLError):
            authority.client().wrap_socket(connection, server_hostname="localhost")
        assert endpoint.status() == 200


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x00\x05hello", b"\x16" * 70_000, b"\x00" * 100])
def test_junk_on_the_tls_port_ends_its_connection_only(
    tmp_path: Path, authority: Authority, junk: bytes
) -> None:
    with serving(written(tmp_path, TLS), authority.client()) as endpoint:
        with endpoint.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(junk)
            read_to_end(connection)
        assert endpoint.status() == 200


def test_an_idle_client_does_not_hold_up_the_handshakes_of_others(
    tmp_path: Path, authority: Authority
) -> None:
    with serving(written(tmp_path, TLS), authority.client()) as endpoint:
        with endpoint.connect(), endpoint.connect() as half:
            half.sendall(b"\x16\x03\x01")
            assert endpoint.status() == 200


def test_a_handshake_of_single_bytes_is_cut_off(tmp_path: Path, authority: Authority) -> None:
    outgoing = ssl.MemoryBIO()
    hello = authority.client().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with serving(written(tmp_path, TLS), authority.client(), read_timeout_s=0.3) as endpoint:
        with endpoint.connect() as connection:
            begin_s = time.monotonic()
            connection.settimeout(0.02)
            for byte in outgoing.read():  # some 500 bytes: ten seconds at this pace
                try:
                    connection.sendall(bytes((byte,)))
                    if not connection.recv(1):
                        break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            else:
                raise AssertionError("the handshake was taken to its end")
            assert 0.29 <= time.monotonic() - begin_s < DEADLINE_S


def test_the_headers_of_the_file_are_in_every_answer(tmp_path: Path, authority: Authority) -> None:
    config = written(
        tmp_path,
        f"{TLS}{USERS}http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=60\n"
        "    X-Content-Type-Options: nosniff\n",
    )
    with serving(config, authority.client()) as endpoint:
        for path, headers, status in (
            ("/metrics", basic("anna"), 200),
            ("/nothing", basic("anna"), 404),
            ("/metrics", {}, 401),
            ("/metrics", {"A": "b" * 70_000}, 431),
        ):
            answer, _ = endpoint.ask(path, headers=headers)
            assert answer.status == status
            assert answer.headers["Strict-Transport-Security"] == "max-age=60"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


# Client certificates


def test_only_clients_with_a_certificate_of_the_authority_get_in(
    tmp_path: Path, authority: Authority, clients: Authority
) -> None:
    stranger = Authority(tmp_path, "strangers").issue("stranger")
    known = authority.client(clients.issue("known"))
    with serving(written(tmp_path, f"{VERIFY}RequireAndVerifyClientCert\n"), known) as endpoint:
        assert endpoint.status() == 200
        assert is_refused(endpoint, authority.client())
        assert is_refused(endpoint, authority.client(stranger))
        assert is_refused(endpoint, authority.client(clients.issue("late", until=LONG_AGO)))
        assert endpoint.status() == 200


def test_a_refused_client_is_told_why(tmp_path: Path, authority: Authority, clients: Authority) -> None:
    with serving(written(tmp_path, f"{VERIFY}RequireAndVerifyClientCert\n")) as endpoint:
        late = authority.client(clients.issue("late", until=LONG_AGO))
        for client, reason in ((authority.client(), "required"), (late, "expired")):
            with pytest.raises(ssl.SSLError, match=reason):
                with endpoint.open(client) as connection:
                    connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                    read_to_end(connection)


def test_a_certificate_may_be_left_out_where_it_is_verified_only_if_given(
    tmp_path: Path, authority: Authority, clients: Authority
) -> None:
    stranger = Authority(tmp_path, "strangers").issue("stranger")
    config = written(tmp_path, f"{VERIFY}VerifyClientCertIfGiven\n")
    with serving(config, authority.client()) as endpoint:
        assert endpoint.status() == 200
        assert endpoint.status(client=authority.client(clients.issue("known"))) == 200
        assert is_refused(endpoint, authority.client(stranger))


@pytest.mark.parametrize(
    ("identities", "is_let_in"),
    [
        (("prometheus.example",), True),
        (("other.example", "10.0.0.1"), True),
        (("2001:db8::1",), True),
        (("ops@example.org",), True),
        (("prometheus.example.org",), False),
        (("10.0.0.2",), False),
    ],
)
def test_only_the_allowed_names_get_in(
    tmp_path: Path, authority: Authority, clients: Authority, identities: tuple[str, ...], is_let_in: bool
) -> None:
    names = "[prometheus.example, 10.0.0.1, '2001:db8::1', ops@example.org]"
    config = written(tmp_path, f"{VERIFY}RequireAndVerifyClientCert\n  client_allowed_sans: {names}\n")
    client = authority.client(clients.issue("client", *identities))
    with serving(config) as endpoint:
        assert is_refused(endpoint, client) is not is_let_in


def test_a_certificate_does_not_stand_in_for_a_password(
    tmp_path: Path, authority: Authority, clients: Authority
) -> None:
    known = authority.client(clients.issue("known"))
    with serving(written(tmp_path, f"{VERIFY}RequireAndVerifyClientCert\n{USERS}"), known) as endpoint:
        assert endpoint.status() == 401
        assert endpoint.status(headers=basic("anna")) == 200


# Passwords


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_path_needs_the_password(tmp_path: Path, path: str, method: str) -> None:
    with serving(written(tmp_path, USERS)) as endpoint:
        answer, body = endpoint.ask(path, method)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="carbonmon"'
        assert body == b"401 Unauthorized\n"
        assert endpoint.status(path, method, basic("anna")) != 401


@pytest.mark.parametrize(
    "authorization",
    [
        basic("anna", "wrong")["Authorization"],
        basic("anna", "")["Authorization"],
        basic("anna", f"{PASSWORD} ")["Authorization"],
        basic("anna", f"{PASSWORD}\0")["Authorization"],
        basic("Anna")["Authorization"],
        basic("", "")["Authorization"],
        basic("bob")["Authorization"],
        basic("anna", "x" * 40_000)["Authorization"],
        "Basic",
        "Basic !!!",
        "Basic YW5uYQ==",  # no colon
        "Basic " + "=" * 1000,
        "Bearer " + basic("anna")["Authorization"][6:],
        "Digest username=anna",
        "\xff\xfe",
    ],
)
def test_whatever_is_not_the_right_password_is_refused(tmp_path: Path, authorization: str) -> None:
    with serving(written(tmp_path, USERS)) as endpoint:
        assert endpoint.status(headers={"Authorization": authorization}) == 401
        assert endpoint.status(headers=basic("anna")) == 200


def test_the_scheme_is_known_in_any_case_and_one_header_is_enough(tmp_path: Path) -> None:
    token = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
    with serving(written(tmp_path, USERS)) as endpoint:
        assert endpoint.status(headers={"authorization": f"bAsIc  {token}"}) == 200
        twice = f"Authorization: Basic {token}\r\n" * 2
        raw = endpoint.send(f"GET /metrics HTTP/1.0\r\n{twice}\r\n".encode())
        assert raw.startswith(b"HTTP/1.1 401 ")


def test_a_password_may_hold_colons_and_any_letters(tmp_path: Path) -> None:
    password = "пароль:with:colons"
    with serving(written(tmp_path, f"basic_auth_users:\n  бета: {hashed(password)}\n")) as endpoint:
        assert endpoint.status(headers=basic("бета", password)) == 200
        assert endpoint.status(headers=basic("бета", "пароль")) == 401


def test_the_environment_of_the_monitor_is_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard library adds what it finds there when it is imported to each request."""
    found = {"HTTP_AUTHORIZATION": basic("anna")["Authorization"], "HTTP_ACCEPT_ENCODING": "gzip"}
    monkeypatch.setattr(BaseHandler, "os_environ", found)
    with serving(written(tmp_path, USERS)) as endpoint:
        assert endpoint.status() == 401
        answer, _ = endpoint.ask(headers={**basic("anna"), "Accept-Encoding": "identity"})
        assert answer.headers["Content-Encoding"] is None
    with serving() as endpoint:
        assert b"Content-Encoding" not in endpoint.send(b"GET /metrics HTTP/1.0\r\n\r\n")


def test_head_without_a_password_has_no_body(tmp_path: Path) -> None:
    with serving(written(tmp_path, USERS)) as endpoint:
        raw = endpoint.send(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert raw.endswith(b"\r\n\r\n")


def test_who_guesses_has_to_wait_and_who_is_known_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), serving(written(tmp_path, USERS)) as endpoint:
        assert endpoint.status(headers=basic("anna")) == 200
        statuses = [endpoint.status(headers=basic("anna", f"guess {i}")) for i in range(15)]
        assert statuses[:10] == [401] * 10
        assert statuses[-1] == 429
        answer, _ = endpoint.ask(headers=basic("anna", "once more"))
        assert 1 <= int(answer.headers["Retry-After"]) <= 5
        assert endpoint.status(headers=basic("anna")) == 200
    (record,) = caplog.records
    assert "too many wrong passwords" in record.getMessage()
    assert "anna" not in record.getMessage()


# Rates


def test_a_rate_in_the_file_is_kept_to(tmp_path: Path) -> None:
    with serving(written(tmp_path, "rate_limit: {interval: 1h, burst: 3}\n")) as endpoint:
        assert [endpoint.status() for _ in range(3)] == [200] * 3
        answer, body = endpoint.ask()
        assert (answer.status, body) == (429, b"429 Too Many Requests\n")
        assert 3000 < int(answer.headers["Retry-After"]) <= 3600


def test_who_asks_without_end_is_told_to_wait_and_then_not_answered_at_all(tmp_path: Path) -> None:
    with serving(written(tmp_path, "rate_limit: {interval: 1h, burst: 2}\n")) as endpoint:
        seen = [endpoint.send(b"GET /-/healthy HTTP/1.0\r\n\r\n")[9:12] for _ in range(4)]
        assert seen == [b"200", b"200", b"429", b"429"]
        for _ in range(2):
            with endpoint.connect() as connection:
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(1) == b""


def test_fifty_requests_a_second_are_within_the_limits() -> None:
    policy = AccessPolicy()
    settings = policy.current_settings()
    refused = [policy.check_request(settings, "127.0.0.1", ()) for _ in range(300)]
    assert not any(refused)  # six seconds' worth at once
    assert all(policy.allow_connection("127.0.0.1") for _ in range(300))


def test_everybody_together_is_limited_as_well() -> None:
    policy = AccessPolicy(clock=lambda: 0.0)
    settings = policy.current_settings()
    answers = [policy.check_request(settings, f"10.0.0.{number % 20}", ()) for number in range(500)]
    assert answers[:400] == [None] * 400
    assert all(refusal is not None and refusal.status == 429 for refusal in answers[400:])


def test_strangers_do_not_use_up_what_is_there_for_those_who_may_come_in(tmp_path: Path) -> None:
    policy = AccessPolicy(written(tmp_path, USERS))
    settings = policy.current_settings()
    for host in range(20):
        for _ in range(100):
            policy.check_request(settings, f"10.0.0.{host}", ())
    assert policy.check_request(settings, "192.0.2.1", [basic("anna")["Authorization"]]) is None


# Reading the file again


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_new_password_holds_from_the_next_look_on(tmp_path: Path) -> None:
    path, now = written(tmp_path, USERS), Time()
    policy = AccessPolicy(path, now)
    replace(path, f"basic_auth_users:\n  anna: {hashed('new')}\n")
    old, new = basic("anna")["Authorization"], basic("anna", "new")["Authorization"]
    now.now_s += 0.5
    assert policy.check_request(policy.current_settings(), "a", [old]) is None
    now.now_s += 0.6
    assert policy.check_request(policy.current_settings(), "a", [new]) is None
    refusal = policy.check_request(policy.current_settings(), "a", [old])
    assert refusal is not None
    assert refusal.status == 401


def test_a_broken_file_changes_nothing_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, now = written(tmp_path, USERS), Time()
    policy = AccessPolicy(path, now)
    before = policy.current_settings()
    with caplog.at_level(logging.INFO):
        replace(path, "basic_auth_users: [\n")
        for _ in range(5):
            now.now_s += 2.0
            assert policy.current_settings() is before
        assert len(caplog.records) == 1
        assert "not applied, the old one stays in force" in caplog.text
        replace(path, USERS.replace("anna", "bob"))
        now.now_s += 2.0
        assert list(policy.current_settings().config.users) == [b"bob"]
        assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        USERS,
        TLS,
        f"{TLS}{USERS}",
        f"{VERIFY}RequireAndVerifyClientCert\n",
        f"{VERIFY}RequireAndVerifyClientCert\n{USERS}",
        f"{VERIFY}VerifyClientCertIfGiven\n{USERS}",
    ],
)
def test_a_file_that_asks_for_less_is_not_taken_without_a_restart(
    tmp_path: Path, authority: Authority, clients: Authority, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = "  client_allowed_sans: [prometheus.example]\n"
    path, now = written(tmp_path, f"{VERIFY}RequireAndVerifyClientCert\n{names}{USERS}"), Time()
    policy = AccessPolicy(path, now)
    before = policy.current_settings()
    path.write_text(text)  # perhaps only the half of what somebody is writing just now
    now.now_s += 2.0
    assert policy.current_settings() is before
    assert len(caplog.records) == 1


def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    path, now = written(tmp_path, USERS), Time()
    policy = AccessPolicy(path, now)
    before = policy.current_settings()
    path.unlink()
    now.now_s += 2.0
    assert policy.current_settings() is before


def test_tls_does_not_begin_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    path, now = written(tmp_path, USERS), Time()
    policy = AccessPolicy(path, now)
    replace(path, f"{TLS}{USERS}")
    now.now_s += 2.0
    assert policy.current_settings().context is None


def test_a_renewed_certificate_is_shown_to_the_next_client(tmp_path: Path, authority: Authority) -> None:
    path, now = written(tmp_path, TLS), Time()
    policy = AccessPolicy(path, now)
    before = policy.current_settings()
    certificate, key = authority.issue("renewed", "localhost")
    key.replace(tmp_path / "server.key")
    now.now_s += 2.0
    assert policy.current_settings() is before, "between the two files the old pair stays"
    certificate.replace(tmp_path / "server.crt")
    now.now_s += 2.0
    after = policy.current_settings()
    assert after is not before
    now.now_s += 2.0
    assert policy.current_settings() is after, "nothing has changed since"


def test_sessions_that_nobody_asked_to_keep_are_forgotten(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "MAX_SESSIONS", 5)
    path, now = written(tmp_path, TLS), Time()
    policy = AccessPolicy(path, now)
    client = authority.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.options |= ssl.OP_NO_TICKET
    shown = node(1, 0, 0)
    server = MetricsServer(("127.0.0.1", 0), lambda: Routes(lambda *_: [], lambda: shown.samples > 0), policy)
    server.start()
    endpoint = Endpoint(f"https://127.0.0.1:{server.server_port}/metrics", client)
    try:
        for _ in range(6):
            assert endpoint.status("/-/healthy", headers={"Connection": "close"}) == 200
        full = policy.current_settings().context
        assert full is not None
        assert full.session_stats()["number"] == 6
        now.now_s += 2.0
        fresh = policy.current_settings().context
        assert fresh is not None
        assert fresh.session_stats()["number"] == 0
        assert endpoint.status("/-/healthy") == 200
    finally:
        server.close()


def test_what_mends_a_broken_file_is_found_wherever_it_is(tmp_path: Path, authority: Authority) -> None:
    path, now = written(tmp_path, f"{TLS}{USERS}"), Time()
    policy = AccessPolicy(path, now)
    replace(path, f"{TLS}{USERS}".replace("server.", "next."))
    now.now_s += 2.0
    assert "server.crt" in str(policy.current_settings().config.tls)
    authority.issue("next")
    now.now_s += 2.0
    assert "next.crt" in str(policy.current_settings().config.tls)


def test_a_connection_keeps_the_terms_that_it_began_with(
    tmp_path: Path, authority: Authority, clients: Authority
) -> None:
    path, now = written(tmp_path, f"{TLS}{USERS}"), Time()
    policy = AccessPolicy(path, now)
    at_first = policy.current_settings()
    replace(path, f"{VERIFY}RequireAndVerifyClientCert\n{USERS}")
    now.now_s += 2.0
    assert policy.current_settings() is not at_first
    refusal = policy.check_request(at_first, "a", ())
    assert refusal is not None
    assert refusal.status == 401


def test_the_server_itself_takes_a_renewed_certificate(
    tmp_path: Path, authority: Authority, clients: Authority
) -> None:
    with serving(written(tmp_path, TLS), authority.client()) as endpoint:
        assert endpoint.status() == 200
        clients.issue("server")
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            try:
                assert endpoint.status(client=clients.client()) == 200
                break
            except ssl.SSLCertVerificationError:
                time.sleep(0.05)
        else:
            raise AssertionError("the old certificate is shown still")


# What is said of an address that others can reach


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "have no authentication"),
        (TLS, "have no authentication"),
        (f"{VERIFY}VerifyClientCertIfGiven\n", "have no authentication"),
        (USERS, "cross the network in clear text"),
        (f"{TLS}{USERS}", ""),
        (f"{VERIFY}RequireAndVerifyClientCert\n", ""),
    ],
)
def test_an_address_that_others_reach_is_warned_of_unless_it_is_locked(
    tmp_path: Path,
    authority: Authority,
    clients: Authority,
    caplog: pytest.LogCaptureFixture,
    text: str | None,
    words: str,
) -> None:
    config = None if text is None else written(tmp_path, text)
    shown = node(1, 0, 0)
    exporter = PrometheusExporter(ExporterSettings(listen=("0.0.0.0", 0), web_config=config))
    try:
        with caplog.at_level(logging.WARNING):
            exporter.start(lambda: shown)
    finally:
        exporter.close()
    assert len(caplog.records) == bool(words)
    assert words in caplog.text


def test_threads_that_compute_let_a_sample_run_within_a_millisecond() -> None:
    with serving():
        assert sys.getswitchinterval() <= 0.001


def test_closing_cuts_clients_in_tls_as_well(tmp_path: Path, authority: Authority) -> None:
    with contextlib.ExitStack() as stack:
        with serving(written(tmp_path, TLS), authority.client(), read_timeout_s=60.0) as endpoint:
            shaken = stack.enter_context(endpoint.open())
            idle = stack.enter_context(endpoint.connect())
            assert endpoint.status() == 200
        shaken.settimeout(DEADLINE_S)
        idle.settimeout(DEADLINE_S)
        assert idle.recv(1) == b""
        with contextlib.suppress(ssl.SSLError):
            assert shaken.recv(1) == b""
