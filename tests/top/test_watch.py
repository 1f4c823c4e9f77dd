"""What keys and answers do to a view, and which run a word means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.top import places
from carbonmon.top.api import Identity, MonitorApi, NoRun
from carbonmon.top.watch import Look, first_view, look, obey, take
from tests.support import page_states
from tests.support.page_states import Monitor, served
from tests.support.records import START_S, crowd, run_info
from tests.support.rows import for_each_row
from tests.support.views import answers, drawn, view_of

RUN = "slurm-4242"


def opened(url: str) -> MonitorApi:
    return MonitorApi(url, {}, Identity())


@pytest.fixture
def node() -> Iterator[Monitor]:
    """Runs alpha-1 (named train), alpha-2 (named vit, the newest) and beta, which has ended."""
    shown = crowd(3)
    first, second, third = shown.runs
    runs = (
        first._replace(info=run_info("alpha-1", name="train")),
        second._replace(info=run_info("alpha-2", name="vit")._replace(started_at_s=START_S + 60.0)),
        third._replace(info=run_info("beta", name="vit"), ended_at_s=shown.at_s),
    )
    with served(shown._replace(runs=runs)) as running:
        yield running


@for_each_row(
    ("word", "run_id"),
    [("last", "alpha-2"), ("beta", "beta"), ("vit", "alpha-2"), ("train", "alpha-1"), ("be", "beta")],
)
def test_a_word_means_a_run(node: Monitor, word: str, run_id: str) -> None:
    assert places.run(word, node.url, opened, {}).run_id == run_id


@for_each_row(
    ("word", "says"),
    [("alpha", "may be any of 2 runs: alpha-2 (vit), alpha-1 (train)"), ("gamma", "no run 'gamma' is shown")],
)
def test_a_word_that_means_none_or_several_is_told(node: Monitor, word: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        places.run(word, node.url, opened, {})
    assert says in str(caught.value)


def test_a_run_is_found_wherever_a_monitor_of_this_machine_serves(
    node: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "local_urls", lambda environ: iter(["http://127.0.0.1:1", node.url]))
    monkeypatch.setattr(places, "DEFAULT_URL", "http://127.0.0.1:2")
    assert places.run("train", None, opened, {}).run_id == "alpha-1"
    assert places.monitor(None, opened, {}).base == node.url
    monkeypatch.setattr(places, "local_urls", lambda environ: iter([]))
    for ask in (lambda: places.run("train", None, opened, {}), lambda: places.monitor(None, opened, {})):
        with pytest.raises(FetchError, match="the connection failed"):
            ask()


def test_a_login_is_sent_in_clear_text_to_no_address_that_was_found(
    node: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"CARBONMON_TOP_USERNAME": "me", "CARBONMON_TOP_PASSWORD": "x"}

    def with_login(url: str) -> MonitorApi:
        return MonitorApi(url, environ, Identity())

    monkeypatch.setattr(places, "local_urls", lambda environ: iter(["http://192.0.2.1:9877", node.url]))
    monkeypatch.setattr(places, "DEFAULT_URL", "http://127.0.0.1:2")
    assert places.run("train", None, with_login, {}).run_id == "alpha-1"
    assert places.monitor(None, with_login, {}).base == node.url


def test_without_a_word_the_only_run_is_shown_and_else_the_node(node: Monitor) -> None:
    assert first_view(opened(node.url)).is_node
    with served(page_states.hours_in(1, 1, 0)) as alone:
        assert first_view(opened(alone.url)).run_id == RUN


def test_a_run_that_is_gone_leads_to_the_node() -> None:
    view = view_of(page_states.hours_in(1, 1, 0), RUN)
    take(view, Look(RUN, problem=NoRun("http_404", "no run")))
    assert view.is_node
    assert "run slurm-4242 is not shown there any more: carbonmon report slurm-4242" in drawn(view)
    obey(view, "s")
    assert view.notes == []


def test_an_answer_about_another_run_is_forgotten() -> None:
    view = view_of(page_states.hours_in(1, 1, 0), RUN)
    take(view, Look("other", problem=FetchError("connect", "refused")))
    assert view.problem == ""
    take(view, Look(RUN, problem=FetchError("connect", f"{view.url}: refused")))
    assert view.problem == "refused"
    take(view, Look(RUN, *answers(page_states.hours_in(1, 1, 0))))
    assert view.problem == ""


def test_the_runs_are_asked_for_where_the_node_is_looked_at(node: Monitor) -> None:
    api = opened(node.url)
    assert len(look(api, "").runs or []) == 3
    assert look(api, "beta").runs == []


def test_keys_without_a_meaning_do_nothing_and_end_the_help() -> None:
    view = view_of(page_states.hours_in(1, 1, 0), RUN)
    obey(view, "h")
    assert view.is_help
    obey(view, "x")
    assert not view.is_help
    before = drawn(view)
    for key in ("x", "enter", "up", "\ufffd"):
        obey(view, key)
    assert drawn(view) == before
