"""A run from Prometheus to its last joule: new counters, short phases, and by how much a total may be low."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner

from carbonmon.analysis import prometheus
from carbonmon.cli import report
from carbonmon.runs.report.merging import merged
from tests.support.gridserver import GridServer
from tests.support.records import START_S, dram, package
from tests.support.rows import for_each_row
from tests.support.tsdb import RUN, STEP_S, WATTS, Births, Monitor, Tsdb, lapse

OFFSETS_S = (0.1, 3.0, 7.5, 11.0, 14.9)
"""When the first scrape comes after the run's begin, of those every 15 s."""


@pytest.fixture
def store() -> Tsdb:
    return Tsdb()


@pytest.fixture
def server(store: Tsdb) -> Iterator[GridServer]:
    with GridServer(store.answer) as server:
        yield server


def ask(server: GridServer) -> tuple[Mapping[str, Any], prometheus.PrometheusRun]:
    found = prometheus.find(server.url, RUN, environ={})
    return merged([part.summary for part in found.parts]), found


def total_j(store: Tsdb) -> float:
    with GridServer(store.answer) as server:
        joules: float = ask(server)[0]["energy"]["total_j"]
    return joules


def said(server: GridServer) -> str:
    return " ".join(ask(server)[1].notes())


# New counters.

PHASES = (("load", 0.0), ("warm up", 20.0), ("train", 21.0), ("eval", 47.0), ("save", 48.0))


@for_each_row("ahead_s", [0.0, 0.2, -0.4, 20.0, -20.0])
def test_phases_of_a_second_are_whole_at_any_phase_of_the_scrape_and_by_any_clock(ahead_s: float):
    for first_s in OFFSETS_S:
        store, end_s = Tsdb(), START_S + 49.0
        monitor = Monitor(phases=PHASES, clock_ahead_s=ahead_s)
        lapse(store, monitor, (first_s, 49.0 + STEP_S), ended_at_s=end_s)
        with GridServer(store.answer) as server:
            summary, found = ask(server)
        joules = {name: part["energy_j"] for name, part in summary["energy"]["phases"].items()}
        ends_s = [*(begin_s for _, begin_s in PHASES), 49.0]
        expected = {
            name: (until_s - begin_s) * WATTS
            for (name, _), (begin_s, until_s) in zip(PHASES, pairwise(ends_s), strict=True)
        }
        assert joules == pytest.approx(expected), first_s
        assert found.notes() == []


def test_a_new_counter_of_a_run_begun_anew_is_not_that_of_the_run_before_it():
    """Both at one port, and the new one's samples bear times before its first scrape."""
    store = Tsdb()
    lapse(store, Monitor(), (0, 300))
    lapse(store, Monitor(start_s=START_S + 304, clock_ahead_s=-3.0), (315, 315))
    assert total_j(store) == pytest.approx((300 + 11) * WATTS)


def test_many_new_counters_are_no_sign_of_two_monitors():
    """Two servers scrape one monitor under two names, which only its totals tell."""
    store = Tsdb()
    phases = [(f"step {number}", 9.0 * number) for number in range(12)]
    monitors = [Monitor(phases=phases) for _ in range(2)]
    for monitor in monitors:
        monitor.devices = (package(0), package(1), dram())
    for monitor, first_s, instance in zip(monitors, (0, 7), ("10.0.0.7:9877", "node-7:9877"), strict=True):
        lapse(store, monitor, (first_s, 100), instance)
    with GridServer(store.answer) as server:
        assert len(ask(server)[1].parts) == 1


@for_each_row(
    ("births", "phase", "joules"),
    [
        ("stamped", None, 60.0 * WATTS),
        ("zero", "Scraped only once, at 0, as carbonmon up to version 0.2.0 shows", 46.0 * WATTS),
    ],
)
def test_a_last_phase_that_an_old_monitor_showed_only_at_0_is_said(
    births: Births, phase: str | None, joules: float
):
    store = Tsdb()
    lapse(store, Monitor(phases=[("train", 0.0), ("eval", 46.0)], births=births), (0, 60))
    with GridServer(store.answer) as server:
        summary, found = ask(server)
    assert summary["energy"]["total_j"] == pytest.approx(joules)
    notes = " ".join(found.notes())
    assert (phase or "at 0") in notes if phase else "at 0" not in notes
    if phase:
        assert "eval of node-7; up to 2.40 kJ of before that may be missing" in notes
        assert summary["energy"]["total_j"] + (found.parts[0].lack.up_to_j or 0.0) >= 60.0 * WATTS


def test_a_run_of_which_only_zeros_are_known_says_how_much_they_may_hide(store: Tsdb, server: GridServer):
    lapse(store, Monitor(births="zero"), (5, 5))
    assert "their energy is missing: node-7." in said(server)
    assert ask(server)[1].parts[0].lack.up_to_j == pytest.approx(5 * WATTS)


# The end.


def lost(store: Tsdb, monitor: Monitor, ended_s: float, first_s: float) -> None:
    """A monitor that ends so many seconds after its start, and whose next scrape fails."""
    lapse(store, monitor, (first_s, ended_s))
    last_s = max(at_s for samples in store.series.values() for at_s, _ in samples)
    scrapes = int((ended_s - first_s) // STEP_S) + 1
    store.down({"instance": "node-7:9877"}, START_S + first_s + scrapes * STEP_S)
    assert last_s - START_S <= ended_s + 1


def test_a_run_whose_end_was_not_scraped_is_low_by_no_more_than_is_said():
    for first_s in OFFSETS_S:
        for ended_s in (17.0, 24.0, 61.0, 600.0):
            store = Tsdb()
            lost(store, Monitor(), ended_s, first_s)
            with GridServer(store.answer) as server:
                summary, found = ask(server)
            seen_j = summary["energy"]["total_j"]
            most_j = found.parts[0].lack.up_to_j
            assert most_j == pytest.approx(STEP_S * WATTS)
            assert seen_j < ended_s * WATTS <= seen_j + most_j, (first_s, ended_s)


def test_how_much_may_be_missing_is_told_to_people_and_to_programs(store: Tsdb, server: GridServer):
    lost(store, Monitor(), 97.0, 0.0)
    assert (
        "Their end was not scraped, and their energy after the last scrape is not in the sum: node-7. "
        "At the power of the last scrape, up to 2.40 kJ (16.7 % of the total) may be missing, if they ended "
        "before the next scrape was due."
    ) in said(server)
    (count,) = ask(server)[1].document()["counts"]
    assert (count["state"], count["missing_up_to_j"]) == ("recovered", pytest.approx(2400.0))
    words = ["--prometheus", server.url, "--run-id", RUN]
    assert "16.7 % of the total" in " ".join(CliRunner().invoke(report.command, words).stdout.split())


def test_without_the_scraper_s_own_series_the_interval_says_when_the_next_scrape_was_due(
    store: Tsdb, server: GridServer
):
    lost(store, Monitor(), 97.0, 0.0)
    store.series = {key: samples for key, samples in store.series.items() if ("__name__", "up") not in key}
    assert ask(server)[1].parts[0].lack.up_to_j == pytest.approx(2400.0)


def test_where_the_scraper_itself_stopped_nobody_knows_how_much_is_missing(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 90))
    store.now_s = START_S + 7200.0
    (part,) = ask(server)[1].parts
    assert (part.state, part.lack.up_to_j, part.lack.power_w) == ("recovered", None, WATTS)
    assert "unknown how much is missing; the power at the last scrape: node-7 (160 W)." in said(server)


def test_a_killed_monitor_s_file_lacks_what_came_after_it_was_written(store: Tsdb, server: GridServer):
    monitor = Monitor()
    lapse(store, monitor, (0, 90))
    target = {"job": "carbonmon", "instance": "node-7:9877"}
    for number in range(40):  # node_exporter goes on showing it
        store.scrape(target, monitor, START_S + 105 + STEP_S * number)
    (part,) = ask(server)[1].parts
    assert (part.state, part.lack.up_to_j) == ("recovered", pytest.approx(15 * WATTS))


def test_of_a_run_whose_end_was_scraped_nothing_is_missing(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 90), ended_at_s=START_S + 80)
    (part,) = ask(server)[1].parts
    assert (part.state, part.lack.up_to_j) == ("final", 0.0)
    assert ask(server)[1].notes() == []


# What several servers have of one monitor.


def test_a_file_that_is_older_than_the_last_scrape_of_its_monitor_takes_nothing_away(
    store: Tsdb, server: GridServer
):
    monitor = Monitor()
    lapse(store, monitor, (0, 81))
    as_of_75_s = Monitor()
    lapse(store, as_of_75_s, (0, 75), "node-7:9100", job="node")
    for number in range(40):
        store.scrape({"job": "node", "instance": "node-7:9100"}, as_of_75_s, START_S + 90 + STEP_S * number)
    lapse(store, monitor, (90, 90))
    summary, found = ask(server)
    assert len(found.parts) == 1
    assert summary["energy"]["total_j"] == pytest.approx(90 * WATTS)


def test_a_target_whose_labels_are_a_part_of_another_one_s_is_not_counted_with_it(
    store: Tsdb, server: GridServer
):
    """Two servers, of which one adds a label: their series differ in nothing else, nor in their times."""
    monitor = Monitor()
    lapse(store, monitor, (0, 90))
    lapse(store, monitor, (0, 90), replica="b")
    assert ask(server)[0]["energy"]["total_j"] == pytest.approx(90 * WATTS)
