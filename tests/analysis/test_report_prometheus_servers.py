"""The servers that speak Prometheus' API: VictoriaMetrics, Thanos, Mimir, and how they are asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from carbonmon.analysis import prometheus
from carbonmon.analysis.prometheus.address import Login
from carbonmon.analysis.prometheus.client import TIME_LIMIT_S
from carbonmon.cli import report
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.runs.report.merging import merged
from tests.support.gridserver import SECRET, GridServer, Handler, Reply, Request
from tests.support.records import START_S
from tests.support.rows import for_each_row
from tests.support.tsdb import RUN, WATTS, Monitor, Tsdb, lapse


@pytest.fixture
def store() -> Tsdb:
    return Tsdb()


@pytest.fixture
def server(store: Tsdb) -> Iterator[GridServer]:
    with GridServer(store.answer) as server:
        yield server


def ask(url: str, environ: dict[str, str] | None = None, **options: Any) -> tuple[float, str]:
    """The joules and the notes."""
    found = prometheus.find(url, RUN, environ=environ or {}, **options)
    joules: float = merged([part.summary for part in found.parts])["energy"]["total_j"]
    return joules, " ".join(found.notes())


# VictoriaMetrics.


def test_victoriametrics_is_asked_for_now_and_not_for_half_a_minute_ago(store: Tsdb, server: GridServer):
    store.latency_s, store.has_scalars = 30.0, False
    lapse(store, Monitor(), (0, 45))
    assert ask(server.url)[0] == pytest.approx(45 * WATTS)
    assert all(request.query["nocache"] == "1" for request in server.requests)


def test_a_part_of_victoriametrics_that_is_away_is_said(store: Tsdb):
    lapse(store, Monitor(), (0, 45))

    def answer(request: Request) -> Reply:
        reply = store.answer(request)
        return Reply({**reply.body, "isPartial": True}, reply.status)

    with GridServer(answer) as server:
        assert "It says that its answer is partial." in ask(server.url)[1]


# Thanos.


def test_series_that_thanos_takes_from_either_replica_are_all_there(store: Tsdb, server: GridServer):
    """Two servers scrape at their own times; each series may be of another one than the run's start time."""
    for replica, first_s in (("a", 0.0), ("b", 7.0)):
        phases = [("load", 0.0), ("train", 20.0), ("eval", 95.0)]
        lapse(store, Monitor(phases=phases), (first_s, 107), replica=replica, ended_at_s=START_S + 97)
    store.replica = "replica"
    joules, notes = ask(server.url)
    assert joules == pytest.approx(97 * WATTS)
    assert notes == ""


def test_replicas_that_nobody_merges_count_once(store: Tsdb, server: GridServer):
    for replica, first_s in (("a", 0.0), ("b", 7.0)):
        lapse(store, Monitor(), (first_s, 112), replica=replica, ended_at_s=START_S + 97)
    assert ask(server.url)[0] == pytest.approx(97 * WATTS)


def test_stores_that_did_not_answer_thanos_are_named_also_where_the_run_is_not_found(
    store: Tsdb, server: GridServer
):
    warning = "No StoreAPIs matched for this query: receive: rpc error: store n3 is down"
    store.warnings = [warning]
    with pytest.raises(
        ConfigError, match=r"no run 'slurm-4242' .* it warns: No StoreAPIs matched .* n3 is down"
    ):
        ask(server.url)
    lapse(store, Monitor(), (0, 45))
    assert f"It warns: {warning}." in ask(server.url)[1]


# Mimir, Cortex, and a path in front of the API.


@for_each_row(
    "prefix",
    ["", "/prometheus", "/api/prom", "/select/0/prometheus", "/select/0:7/prometheus/", "/a/b/api/v1/"],
)
def test_whatever_stands_in_front_of_the_api_is_kept(prefix: str):
    store = Tsdb()
    lapse(store, Monitor(), (0, 45))
    with GridServer(store.answer) as server:
        assert ask(server.url + prefix)[0] == pytest.approx(45 * WATTS)
        place = prefix.rstrip("/").removesuffix("/api/v1")
        assert set(server.paths) == {f"{place}/api/v1/query", f"{place}/api/v1/query_range"}


def test_a_server_with_tenants_gets_the_tenant_and_without_one_says_what_to_give(store: Tsdb):
    """Mimir's answer without a tenant, as its authentication gives it: status 401, `no org id`."""
    lapse(store, Monitor(), (0, 45))

    def answer(request: Request) -> Reply:
        if request.headers.get("x-scope-orgid") != "team-a|team-b":
            return Reply(b"no org id\n", 401)
        assert request.headers["thanos-tenant"] == "team-a|team-b"
        return store.answer(request)

    with GridServer(answer) as server:
        with pytest.raises(FetchError, match=r"status 401.*Mimir and Cortex ask for --tenant"):
            ask(server.url)
        assert ask(server.url, login=Login(tenant="team-a|team-b"))[0] == pytest.approx(45 * WATTS)
        environ = {"CARBONMON_PROMETHEUS_TENANT": "team-a|team-b"}
        assert ask(server.url, environ)[0] == pytest.approx(45 * WATTS)
        words = ["--prometheus", server.url, "--run-id", RUN, "--tenant", "team-a|team-b"]
        assert CliRunner().invoke(report.command, words).exit_code == 0


# Logins.


def test_a_login_comes_from_files_named_on_the_command_line_or_in_the_environment(
    store: Tsdb, server: GridServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lapse(store, Monitor(), (0, 45))
    secret = tmp_path / "secret"
    secret.write_text(f" {SECRET}\n")
    basic = "Basic bWU6"
    bearer = f"Bearer {SECRET}"
    start = ["--prometheus", server.url, "--run-id", RUN]
    rows: list[tuple[list[str], dict[str, str], str]] = [
        (["--token-file", str(secret)], {}, bearer),
        (["--username", "me", "--password-file", str(secret)], {}, basic),
        ([], {"TOKEN_FILE": str(secret)}, bearer),
        (["--username", "me"], {"PASSWORD_FILE": str(secret)}, basic),
        ([], {"USERNAME": "me", "PASSWORD": SECRET}, basic),
    ]
    for words, variables, expected in rows:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"CARBONMON_PROMETHEUS_{name}", value)
            done = CliRunner().invoke(report.command, [*start, *words])
        assert done.exit_code == 0, done.output
        assert server.requests[-1].headers["authorization"].startswith(expected), (words, variables)
        assert SECRET not in done.output


@for_each_row(
    ("given", "environ", "said"),
    [
        ({"token_file": "absent"}, {}, "absent' cannot be read: No such file"),
        ({"token_file": "empty"}, {}, "empty' is empty: it should hold a token or a password"),
        ({"token_file": "binary"}, {}, "binary' cannot be read: it is no text"),
        ({"token_file": "."}, {}, "cannot be read: Is a directory"),
        ({"password_file": "secret"}, {}, "USERNAME is not set"),
        ({"username": "me"}, {}, "nor --password-file"),
        ({"username": "me", "password_file": "secret", "token_file": "secret"}, {}, "are both set"),
        ({}, {"TOKEN_FILE": "secret", "TOKEN": SECRET}, "are both set"),
    ],
)
def test_a_login_that_is_none_says_what_is_wrong(
    given: dict[str, str], environ: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name, content in (("empty", b"\n"), ("binary", b"\xff\x00"), ("secret", SECRET.encode())):
        (tmp_path / name).write_bytes(content)
    paths = {key: value if key == "username" else Path(value) for key, value in given.items()}
    named = {f"CARBONMON_PROMETHEUS_{key}": value for key, value in environ.items()}
    with pytest.raises(ConfigError, match=said) as caught:
        prometheus.find("https://127.0.0.1:1", RUN, environ=named, login=Login(**paths))  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


# Time.


@pytest.mark.parametrize("answered", [0, 3])
def test_a_server_that_hangs_costs_one_time_limit_in_all_and_says_how_to_give_it_more(
    store: Tsdb, answered: int
):
    lapse(store, Monitor(), (0, 45))
    with GridServer(store.answer) as server:

        def hang(handler: Handler) -> None:
            if len(server.requests) > answered:
                handler.wait()
            else:
                handler.say(json.dumps(store.answer(server.requests[-1]).body).encode())

        server.fault = hang
        began_s = time.monotonic()
        words = ["--prometheus", server.url, "--run-id", RUN, "--timeout", "0.5"]
        done = CliRunner().invoke(report.command, words)
        assert time.monotonic() - began_s < 5.0
        assert done.exit_code == 1
        assert "no answer within 0.5 s; where queries take longer give --timeout SECONDS" in done.stderr
        assert len(server.requests) == answered + 1, "nothing is tried again"


def test_the_server_is_told_to_give_up_before_its_answer_would_come_too_late(store: Tsdb, server: GridServer):
    assert TIME_LIMIT_S == 10.0
    lapse(store, Monitor(), (0, 45))
    ask(server.url)
    assert {request.query["timeout"] for request in server.requests} == {"8"}


def test_a_query_that_the_server_gave_up_says_how_to_give_it_more_time():
    """The answer of Prometheus 2.42 to a query beyond its time."""
    error = "query timed out in expression evaluation"
    reply = Reply({"status": "error", "errorType": "timeout", "error": error}, 503)
    with GridServer(lambda request: reply) as server:
        with pytest.raises(FetchError, match=rf"{error} \(status 503\); where queries take longer"):
            ask(server.url)


@for_each_row("word", ["0", "-1", "soon", "1e9"])
def test_a_time_limit_that_is_none_is_a_mistake_on_the_command_line(word: str):
    words = ["--prometheus", "http://127.0.0.1:1", "--run-id", RUN, "--timeout", word]
    done = CliRunner().invoke(report.command, words)
    assert (done.exit_code, "--timeout" in done.stderr) == (2, True)


def test_options_of_a_server_without_one_are_a_mistake():
    for words in (["--tenant", "a"], ["--timeout", "5"], ["--username", "me"], ["--token-file", "x"]):
        done = CliRunner().invoke(report.command, [*words, "somewhere"])
        assert (done.exit_code, f"{words[0]} is for --prometheus URL" in done.stderr) == (2, True)
