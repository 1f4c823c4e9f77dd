"""A run from Prometheus: every joule once, whatever was restarted, renamed, scraped twice or not at all."""

from __future__ import annotations

import json
import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
import trustme
from carbonmon_exporters.collector import SnapshotCollector
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.analysis import prometheus
from carbonmon.analysis.prometheus import scan
from carbonmon.analysis.prometheus.address import checked_url
from carbonmon.analysis.prometheus.selectors import host_of, instance_of, of_node, own_labels
from carbonmon.analysis.prometheus.times import parse_moment
from carbonmon.cli import report
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.model import Cost, Intensity, Snapshot
from carbonmon.runs.report.merging import merged
from carbonmon.runs.summary.document import summarize
from tests.support import gridserver
from tests.support.effort import examples
from tests.support.gridserver import FAULTS, SECRET, GridServer, Reply, Request
from tests.support.records import (
    HOSTILE_TEXTS,
    START_S,
    dram,
    intensity,
    package,
)
from tests.support.rows import for_each_row
from tests.support.strictness import strict_schema
from tests.support.tsdb import RUN, STEP_S, WATTS, Births, Monitor, Tsdb, lapse

VALIDATOR = jsonschema.Draft202012Validator(strict_schema())


@pytest.fixture
def store() -> Tsdb:
    return Tsdb()


@pytest.fixture
def server(store: Tsdb) -> Iterator[GridServer]:
    with GridServer(store.answer) as server:
        yield server


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Commands set carbonmon's log up; what they did is undone."""
    loggers = [logging.getLogger(name) for name in ("carbonmon", "carbonmon_exporters")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate


def invoke(words: Sequence[str]) -> Result:
    return CliRunner().invoke(report.command, words)


class Report(NamedTuple):
    """What `find` makes of the store, as `carbonmon report` adds it up."""

    summary: dict[str, Any]
    found: prometheus.PrometheusRun

    @property
    def total_j(self) -> float:
        joules: float = self.summary["energy"]["total_j"]
        return joules

    @property
    def said(self) -> str:
        return " ".join(self.found.notes())


def ask(server: GridServer, run_id: str = RUN, **options: Any) -> Report:
    found = prometheus.find(server.url, run_id, environ={}, **options)
    summary = merged([part.summary for part in found.parts])
    summary["monitor"]["sources"] = [found.source()]
    summary["prometheus"] = found.document()
    VALIDATOR.validate(summary)
    return Report(summary, found)


# What is in the figures.


def test_all_that_the_metrics_tell_is_in_the_summary(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 600), ended_at_s=START_S + 590)
    summary, found = ask(server)
    energy, carbon, run = summary["energy"], summary["carbon"], summary["run"]
    assert summary["state"] == "final"
    assert (run["id"], run["name"], run["host"], run["scheduler_job_id"]) == (RUN, "train", "node-7", "4242")
    assert run["labels"] == {"team": "vision"}
    assert (run["duration_s"], run["cpu_s"], run["idle_policy"]) == (590.0, 590.0, "exclusive")
    assert energy["total_j"] == pytest.approx(590 * WATTS)
    assert energy["measured_ratio"] == pytest.approx(150 / 160)
    assert {name: part["energy_j"] for name, part in energy["components"].items()} == pytest.approx(
        {"gpu": 59000.0, "cpu": 29500.0, "dram": 5900.0}
    )
    assert energy["low_j"] == pytest.approx(590 * (150 * 0.95 + 10 * 0.6))
    assert energy["high_j"] == pytest.approx(590 * (150 * 1.05 + 10 * 1.2))
    assert energy["node"]["total_j"] == pytest.approx(590 * WATTS)
    assert energy["node"]["share_ratio"] == pytest.approx(1.0)
    names = [(device["id"], device["name"], device["index"]) for device in energy["devices"]]
    assert names[:2] == [
        ("GPU-0", "NVIDIA A100-SXM4-80GB", 0),
        ("package-0", "AMD EPYC 7742 64-Core Processor", 0),
    ]
    assert energy["devices"][1]["unobserved_s"] == 2.5
    assert [device["anomalies"] for device in energy["devices"]] == [
        {"reset": 0, "jump": 0, "step_back": 0, "stuck": 0, "implausible": 0},
        {"reset": 1, "jump": 0, "step_back": 0, "stuck": 0, "implausible": 0},
        None,
    ]
    assert carbon["emissions_g"] == pytest.approx(590 * WATTS * 1e-4)
    assert carbon["intensity"]["mean_g_per_kwh"] == pytest.approx(360.0)
    assert (carbon["intensity"]["zone"], carbon["intensity"]["kind"]) == ("DE", "table")
    assert carbon["sources"][0]["energy_j"] == energy["total_j"]
    assert (summary["monitor"]["version"], summary["monitor"]["interval_s"]) == ("0.1.0", 1.0)
    assert found.notes() == []


def test_the_machine_s_meters_and_the_charge_by_the_node_are_those_of_the_run_s_own_summary(
    store: Tsdb, server: GridServer
):
    monitor = Monitor(machine_w=500.0)
    lapse(store, monitor, (0, 600), ended_at_s=START_S + 590)
    summary, found = ask(server)
    (run,) = monitor.snapshot.runs
    own = summarize(monitor.snapshot, run, "final")
    (meter,), (expected,) = summary["node_meters"], own["node_meters"]
    assert meter["rejected"] is None, "that is of the monitor, not of the run"
    assert meter.pop("methods") == pytest.approx(expected.pop("methods"))
    assert {**meter, "rejected": 0} == pytest.approx(expected)
    assert (meter["energy_j"], meter["unobserved_s"]) == pytest.approx((290_000.0, 10.0))
    for bound in ("low_g", "high_g"):  # the metrics hold no range of the intensity
        own["charge"].pop(bound)
        assert summary["charge"].pop(bound) == summary["charge"]["emissions_g"]
    assert summary["charge"] == pytest.approx(own["charge"])
    assert (summary["charge"]["by"], summary["charge"]["energy_j"]) == ("node", pytest.approx(116_000.0))
    assert found.notes() == []


def test_charges_by_the_node_are_added_over_the_nodes(store: Tsdb, server: GridServer):
    for number, machine_w in enumerate((500.0, 700.0)):
        lapse(store, Monitor(number, machine_w=machine_w), (0, 600), f"node-{number}:9877")
    summary, _ = ask(server)
    (meter,) = summary["node_meters"]
    assert meter["energy_j"] == pytest.approx(590 * 1200.0)
    assert meter["coverage_ratio"] == pytest.approx(320 / 1200)
    assert summary["charge"]["energy_j"] == pytest.approx(0.4 * 590 * 1200.0)
    assert summary["charge"]["by"] == "node"


def test_a_node_without_a_meter_leaves_no_sum_of_fewer_nodes(store: Tsdb, server: GridServer):
    lapse(store, Monitor(0, machine_w=500.0), (0, 600), "node-0:9877")
    lapse(store, Monitor(1), (0, 600), "node-1:9877")
    summary, _ = ask(server)
    assert summary["node_meters"] == []
    assert "charge" not in summary, "the other node does not say what it was charged with"


def test_a_meter_that_has_not_answered_yet_is_unknown_and_not_0(store: Tsdb, server: GridServer):
    lapse(store, Monitor(machine_w=500.0), (0, 10), step_s=5.0)
    summary, _ = ask(server)
    (meter,) = summary["node_meters"]
    assert (meter["energy_j"], meter["coverage_ratio"], meter["observed_s"]) == (None, None, 0.0)
    assert meter["unobserved_s"] == pytest.approx(10.0)


def test_what_the_metrics_do_not_tell_is_null_and_never_0(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300))
    summary, _ = ask(server)
    assert summary["energy"]["recovered_j"] is None
    assert summary["energy"]["phases"]["main"]["duration_s"] is None
    assert summary["run"]["command"] == []
    assert (summary["run"]["exit_code"], summary["run"]["ended_at"]) == (None, None)
    for device in summary["energy"]["devices"]:
        assert [device[key] for key in ("mean_power_w", "peak_power_w", "share_ratio")] == [None] * 3


def test_series_that_prometheus_was_told_to_drop_leave_gaps_and_no_guesses(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300))
    kept = ("run_energy", "run_emissions", "run_start", "run_info")
    store.series = {
        key: samples
        for key, samples in store.series.items()
        if any(part in dict(key)["__name__"] for part in kept)
    }
    summary, _ = ask(server)
    energy, carbon = summary["energy"], summary["carbon"]
    assert energy["total_j"] == pytest.approx(300 * WATTS)
    assert (energy["low_j"], energy["high_j"], energy["node"]) == (None, None, None)
    assert energy["devices"][0]["name"] is None
    assert (carbon["low_g"], carbon["pue"], carbon["intensity"]["zone"]) == (None, 1.0, "DE")
    assert carbon["pue_source"] == "unknown to Prometheus: the intensity includes it"
    assert "Prometheus does not hold what the intensity was" in carbon["intensity"]["note"]
    assert carbon["intensity"]["mean_g_per_kwh"] == pytest.approx(360.0)
    assert carbon["sources"] == []
    assert summary["monitor"]["version"] == "unknown"


def test_money_and_water_come_with_the_range_of_the_energy(store: Tsdb, server: GridServer):
    monitor = Monitor()
    plain = monitor.at

    def at(at_s: float, ended_at_s: float | None = None) -> Snapshot:
        found = plain(at_s, ended_at_s)
        run = found.runs[0]._replace(water_l=0.5, costs=(Cost("EUR", -2.0, 100.0),))
        return found._replace(runs=(run,), wue_l_per_kwh=1.8)

    monitor.at = at  # type: ignore[method-assign]
    lapse(store, monitor, (0, 300))
    summary, _ = ask(server)
    low, high = (summary["energy"][key] / summary["energy"]["total_j"] for key in ("low_j", "high_j"))
    assert summary["water"]["litres"] == 0.5
    assert (summary["water"]["low_litres"], summary["water"]["wue_l_per_kwh"]) == (
        pytest.approx(0.5 * low),
        1.8,
    )
    (cost,) = summary["costs"]
    assert (cost["currency"], cost["amount"], cost["priced_ratio"]) == ("EUR", -2.0, None)
    assert (cost["low_amount"], cost["high_amount"]) == pytest.approx((-2.0 * high, -2.0 * low))


def test_several_intensities_have_their_parts_of_energy_and_emissions(store: Tsdb, server: GridServer):
    monitor = Monitor(now=replace_kind("live", 200.0))
    lapse(store, monitor, (0, 900))
    monitor.now = replace_kind("stale", 600.0)
    lapse(store, monitor, (915, 1200))
    carbon = ask(server).summary["carbon"]
    parts = {part["kind"]: part["energy_j"] / (1200 * WATTS) for part in carbon["sources"]}
    assert parts == pytest.approx({"live": 0.75, "stale": 0.25}, abs=0.02)
    assert sum(part["emissions_g"] for part in carbon["sources"]) == pytest.approx(carbon["emissions_g"])
    assert carbon["intensity"]["kind"] == "live"
    assert "2 sources or kinds" in carbon["intensity"]["note"]


def replace_kind(kind: Any, g_per_kwh: float) -> Intensity:
    return intensity(g_per_kwh)._replace(kind=kind, source="Electricity Maps")


# Every joule once.


def test_a_monitor_that_goes_on_with_a_run_at_the_same_port_is_one_count(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300))
    second = Monitor()
    second.is_continued = True
    lapse(store, second, (330, 600))
    found = ask(server)
    assert found.total_j == pytest.approx(600 * WATTS)
    assert len(found.found.parts) == 1


def test_a_run_begun_anew_is_added_also_where_it_had_overtaken_the_old_total(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300))
    # Not one sample is below the 48 kJ before: no decrease tells of the reset.
    anew = Monitor(start_s=START_S + 310)
    monitored = SnapshotCollector(lambda: anew.snapshot)
    anew.snapshot = anew.at(START_S + 1000)
    for family in monitored.collect():
        for sample in family.samples:
            labels = {"__name__": sample.name, "job": "carbonmon", "instance": "node-7:9877", **sample.labels}
            store.add(labels, START_S + 1000, sample.value)
    store.now_s = START_S + 1000
    found = ask(server)
    assert found.total_j == pytest.approx((300 + 690) * WATTS)
    assert "Restarted from zero, and added: node-7 (1 time)." in found.said
    assert len(found.summary["energy"]["devices"]) == 3


def test_zeros_that_a_scraper_with_a_new_address_is_shown_are_no_reset(store: Tsdb, server: GridServer):
    monitor = Monitor(births="zero")  # as monitors up to version 0.2.0
    lapse(store, monitor, (0, 300))
    monitor.seen.clear()
    lapse(store, monitor, (315, 315))
    found = ask(server)
    energies = [samples for key, samples in store.series.items() if "run_energy" in dict(key)["__name__"]]
    assert all(samples[-1][1] == 0.0 for samples in energies)
    assert found.total_j == pytest.approx(300 * WATTS)


def test_a_run_that_goes_on_at_another_port_is_counted_once(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300), "node-7:40001")
    second = Monitor()
    second.is_continued = True
    lapse(store, second, (330, 600), "node-7:40002")
    found = ask(server)
    assert found.total_j == pytest.approx(600 * WATTS)
    assert (found.summary["run"]["host"], found.summary["run"]["duration_s"]) == ("node-7", 600.0)


@pytest.mark.parametrize("labels", [{"replica": "b"}, {"job": "again"}])
def test_what_two_scrapers_have_of_one_monitor_is_counted_once(
    store: Tsdb, server: GridServer, labels: dict[str, str]
):
    lapse(store, Monitor(), (0, 600))
    lapse(store, Monitor(), (7, 600), **labels)
    found = ask(server)
    assert found.total_j == pytest.approx(600 * WATTS, rel=0.01)
    assert len(found.found.parts) == 1


def test_a_start_that_a_server_has_rounded_for_one_of_two_scrapers_is_the_same(
    store: Tsdb, server: GridServer
):
    """VictoriaMetrics stores the floats of each block as decimals: of a Unix time up to 2 µs may be lost."""
    lapse(store, Monitor(), (0, 600))
    rounded = Monitor()
    rounded.info = rounded.info._replace(started_at_s=START_S + 2e-6)
    lapse(store, rounded, (7, 600), job="again")
    found = ask(server)
    assert found.total_j == pytest.approx(600 * WATTS, rel=0.01)
    assert len(found.found.parts) == 1


def test_one_monitor_under_two_names_without_gpus_is_known_by_its_totals(store: Tsdb, server: GridServer):
    for seconds, instance in (((0, 600), "10.0.0.7:9877"), ((7, 600), "node-7:9877")):
        monitor = Monitor()
        monitor.devices = (package(0), package(1), dram())
        lapse(store, monitor, seconds, instance)
    assert ask(server).total_j == pytest.approx(600 * WATTS, rel=0.01)


def test_two_nodes_that_begin_in_the_same_microsecond_are_both_counted(store: Tsdb, server: GridServer):
    lapse(store, Monitor(0), (0, 600), "node-1:9877")
    lapse(store, Monitor(1), (0, 600), "node-2:9877")
    found = ask(server)
    assert found.total_j == pytest.approx(2 * 600 * WATTS)
    assert found.summary["run"]["host"] == "node-1,node-2"
    assert "node-1/package-0" in {device["id"] for device in found.summary["energy"]["devices"]}


def test_two_nodes_of_one_start_without_gpus_are_told_apart_by_their_totals(store: Tsdb, server: GridServer):
    for number, ahead_s in ((1, 0.0), (2, 100.0)):
        monitor = Monitor(start_s=START_S - ahead_s)
        monitor.devices = (package(0), package(1), dram())
        monitor.info = monitor.info._replace(started_at_s=START_S)
        lapse(store, monitor, (0, 600), f"node-{number}:9877")
    assert ask(server).total_j == pytest.approx((600 + 700) * WATTS)


def test_nodes_that_agents_scrape_as_localhost_are_named_by_their_own_labels(store: Tsdb, server: GridServer):
    for number in (1, 2):
        lapse(store, Monitor(number), (0, 300), "localhost:9877", node=f"n{number}")
    found = ask(server)
    assert found.total_j == pytest.approx(2 * 300 * WATTS)
    assert found.summary["run"]["host"] == "n1,n2"


def test_two_monitors_of_one_host_at_one_time_keep_their_ports(store: Tsdb, server: GridServer):
    lapse(store, Monitor(0), (0, 300), "node-7:1")
    lapse(store, Monitor(1, START_S + 1), (0, 300), "node-7:2")
    assert ask(server).summary["run"]["host"] == "node-7:1,node-7:2"


def test_a_gpu_that_two_monitors_charged_at_the_same_time_is_said(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300), "node-7:1")
    lapse(store, Monitor(start_s=START_S + 1), (0, 300), "node-7:2")
    assert "may count twice: GPU-0." in ask(server).said


def test_a_gateway_that_shows_an_ended_run_for_ever_adds_nothing(store: Tsdb, server: GridServer):
    end_s = START_S + 600
    monitor = Monitor()
    lapse(store, monitor, (0, 86400), "gateway:9091", 300.0, end_s, exported_instance="node-7")
    found = ask(server)
    assert (found.summary["state"], found.summary["run"]["host"]) == ("final", "node-7")
    assert found.summary["run"]["duration_s"] == 600.0
    assert found.total_j == pytest.approx(600 * WATTS)


def test_a_run_that_was_lost_is_not_said_to_go_on_because_a_gateway_still_shows_it(
    store: Tsdb, server: GridServer
):
    target = {"job": "carbonmon", "instance": "gateway:9091", "exported_instance": "node-7"}
    monitor = Monitor()
    lapse(store, monitor, (0, 600), "gateway:9091", exported_instance="node-7")
    for number in range(40):  # ten minutes of the same
        store.scrape(target, monitor, START_S + 615 + STEP_S * number)
    found = ask(server)
    assert (found.summary["state"], found.summary["run"]["duration_s"]) == ("recovered", 600.0)


def test_a_run_as_of_an_earlier_time_is_what_it_was_then(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 600))
    found = ask(server, until=parse_moment(f"{START_S + 300:.0f}", "--until"))
    assert found.total_j == pytest.approx(300 * WATTS)
    assert found.summary["state"] == "running"
    # A run that began before the time that is looked at counts whole.
    since = parse_moment(f"{START_S + 400:.0f}", "--since")
    assert ask(server, since=since).total_j == pytest.approx(600 * WATTS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, -5.0])
def test_values_that_no_counter_has_are_left_out(store: Tsdb, server: GridServer, value: float):
    lapse(store, Monitor(), (0, 300))
    for key, samples in list(store.series.items()):
        samples.append((START_S + 307.0, value))
        assert key
    store.now_s = START_S + 310
    assert ask(server).total_j == pytest.approx(300 * WATTS)


# What was not scraped.


class Event(NamedTuple):
    """What happens to a monitor or its scraper, after how many scrapes that are lost, and before how many."""

    kind: str
    lost: int
    scrapes: int


EVENTS = st.builds(
    Event,
    st.sampled_from(["resume", "port", "anew", "address", "nothing"]),
    st.integers(0, 20),
    st.integers(2, 30),
)


@examples(30)
@given(st.lists(EVENTS, min_size=1, max_size=8), st.sampled_from(["stamped", "zero"]))
def test_whatever_happens_the_sum_is_what_each_count_was_at_its_last_scrape(
    events: list[Event], births: Births
):
    store, monitor, port = Tsdb(), Monitor(births=births), 1
    counts = {START_S: 30 * WATTS}
    at_s = 30.0
    lapse(store, monitor, (0, at_s), "node-7:1")
    for event in events:
        at_s += STEP_S * (1 + event.lost)
        if event.kind == "anew":
            monitor = Monitor(start_s=START_S + at_s - 1, births=births)
        elif event.kind == "address":  # the scraper has another one: it is shown zeros
            monitor.seen.clear()
            monitor.is_continued = False
        elif event.kind in ("resume", "port"):
            monitor = Monitor(start_s=monitor.start_s, births=births)
            monitor.is_continued = True
            port += event.kind == "port"
        until_s = at_s + STEP_S * (event.scrapes - 1)
        lapse(store, monitor, (at_s, until_s), f"node-7:{port}")
        at_s = until_s
        counts[monitor.start_s] = (START_S + at_s - monitor.start_s) * WATTS
    with GridServer(store.answer) as server:
        assert ask(server).total_j == pytest.approx(sum(counts.values()))


def test_holes_are_stated_and_bridged_by_the_counters(store: Tsdb, server: GridServer):
    monitor = Monitor()
    for seconds in ((0, 600), (720, 900), (915, 930), (1800, 1860)):
        lapse(store, monitor, seconds)
    found = ask(server)
    assert found.total_j == pytest.approx(1860 * WATTS)
    (part,) = found.found.parts
    assert [end_s - begin_s for begin_s, end_s in part.gaps] == [120.0, 870.0]
    assert "Not scraped for 16 min 30 s in all, in 2 gaps of node-7" in found.said
    assert found.found.document()["counts"][0]["unscraped_s"] == 990.0


def test_a_scrape_interval_that_was_changed_is_no_row_of_holes(store: Tsdb, server: GridServer):
    monitor = Monitor()
    lapse(store, monitor, (0, 3600))
    lapse(store, monitor, (3660, 86400), step_s=60.0)
    assert sum(map(len, (part.gaps for part in ask(server).found.parts))) == 0


def test_the_state_tells_an_end_that_was_seen_from_one_that_was_not(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300))
    running = ask(server)
    store.down({"instance": "node-7:9877"}, START_S + 315)
    lost = ask(server)
    assert (running.summary["state"], lost.summary["state"]) == ("running", "recovered")
    assert "Still active, counted up to the last scrape: node-7." in running.said
    assert "their energy after the last scrape is not in the sum: node-7." in lost.said
    assert lost.total_j == pytest.approx(300 * WATTS)


def test_what_the_server_warns_of_is_passed_on(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300))
    store.warnings = ["partial response:\nstore n3 is down"]
    assert "It warns: partial response:\\nstore n3 is down." in ask(server).said


# Many, large, hostile.


def test_many_nodes_are_read_in_small_pieces_and_their_sum_is_right(
    store: Tsdb, server: GridServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scan, "MOST_SAMPLES", 1000)
    store.most_samples = 1200
    for number in range(40):
        lapse(store, Monitor(number, START_S + number / 60), (0, 3600), f"node-{number}:9877", 60.0)
    found = ask(server)
    assert found.total_j == pytest.approx(sum(3600 - number / 60 for number in range(40)) * WATTS)
    assert len(found.summary["energy"]["devices"]) == 120
    assert store.largest <= store.most_samples


def test_where_the_server_finds_a_piece_too_large_it_is_asked_for_halves(store: Tsdb, server: GridServer):
    store.most_samples = 460
    lapse(store, Monitor(), (0, 7200))
    found = ask(server)
    assert found.total_j == pytest.approx(7200 * WATTS)
    assert found.found.parts[0].history.scrapes == 481


@pytest.mark.parametrize("text", [*HOSTILE_TEXTS, "a\\.b|c", "\x00\x1b[2J", "{{ template }}"])
def test_hostile_labels_of_the_scrape_and_of_the_run_come_through(store: Tsdb, server: GridServer, text: str):
    monitor = Monitor()
    monitor.info = monitor.info._replace(name=text, labels=(("note", text),))
    # `zone` and `name` are labels of ours as well: those come back as exported_zone and exported_name.
    lapse(store, monitor, (0, 300), rack=text, zone="eu-1b", name=text)
    found = ask(server)
    assert found.total_j == pytest.approx(300 * WATTS)
    assert found.summary["run"]["name"] == text
    assert found.summary["carbon"]["intensity"]["zone"] == "DE"
    assert found.summary["energy"]["devices"][0]["name"] == "NVIDIA A100-SXM4-80GB"


def test_what_a_newer_version_may_have_written_is_refused(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 30))
    labels = {"run_id": RUN, "component": "tpu", "device": "t0", "method": "counter", "phase": "main"}
    name = "carbonmon_run_energy_joules_total"
    store.add({"__name__": name, "job": "carbonmon", "instance": "node-7:9877", **labels}, START_S + 30, 1.0)
    with pytest.raises(ConfigError, match="knows no component 'tpu'"):
        ask(server)


def test_an_unknown_run_names_the_nearest(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 30))
    with pytest.raises(ConfigError, match=r"no run 'slurm-4243' .* in the last 30 days; nearest: slurm-4242"):
        ask(server, "slurm-4243")


# The server.


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_of_a_server_is_an_error_in_time_that_tells_no_secret(name: str):
    with GridServer() as server:
        server.fault = FAULTS[name][0]
        environ = {"CARBONMON_PROMETHEUS_TOKEN": SECRET}
        with pytest.raises(FetchError) as caught:
            prometheus.find(server.url, RUN, environ=environ, time_limit_s=0.5)
    assert SECRET not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_victoriametrics_which_has_no_scalars_is_a_prometheus_as_well(store: Tsdb, server: GridServer):
    store.has_scalars = False
    lapse(store, Monitor(), (0, 300))
    assert ask(server).total_j == pytest.approx(300 * WATTS)


def test_nobody_there_is_an_error_and_no_hang():
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with pytest.raises(FetchError, match=rf"127\.0\.0\.1:{port}: the connection failed: Connection refused"):
        prometheus.find(f"http://127.0.0.1:{port}", RUN, environ={})


def test_what_prometheus_says_of_an_error_is_shown_on_one_line():
    reply = Reply({"status": "error", "errorType": "bad_data", "error": "line one\nline two \x1b[2J"}, 400)
    with GridServer(lambda request: reply) as server:
        with pytest.raises(FetchError, match=r"line one\\nline two \\x1b\[2J \(status 400\)"):
            prometheus.find(server.url, RUN, environ={})


@pytest.mark.parametrize("clock", ["NaN", "-5", "1e300", "noon"])
def test_a_server_without_a_clock_is_no_prometheus(clock: str):
    data = {"resultType": "scalar", "result": [1.0, clock]}
    reply = Reply({"status": "success", "data": data, "warnings": 7})
    with GridServer(lambda request: reply) as server, pytest.raises(FetchError, match="no Prometheus API"):
        prometheus.find(server.url, RUN, environ={})


@for_each_row(
    "data",
    [
        None,
        [],
        {"result": 7},
        {"result": [{"metric": {}, "values": [["x", "1"]]}]},
        {"result": [{"metric": {}, "values": [[1.0, "one"]]}]},
        {"result": [{"metric": [], "values": []}]},
        {"result": [{"metric": {}, "values": [[float("nan"), "1"]]}]},
        {"result": [{"metric": {}, "values": [[-1e300, "1"]]}]},
        {"result": [{"values": [[1.0, "1"]]}]},
        {"result": [{"metric": {}, "histograms": []}]},
    ],
)
def test_an_answer_of_another_shape_is_no_prometheus(data: object):
    def answer(request: Request) -> Reply:
        is_clock = request.query.get("query") == "time()"
        found = {"resultType": "scalar", "result": [1.0, "1795000000"]}
        return Reply({"status": "success", "data": found if is_clock else data})

    with GridServer(answer) as server, pytest.raises(FetchError, match="no Prometheus API"):
        prometheus.find(server.url, RUN, environ={})


def test_a_path_before_the_api_a_login_and_a_tenant_reach_the_server(store: Tsdb):
    lapse(store, Monitor(), (0, 300))
    environ = {
        "CARBONMON_PROMETHEUS_USERNAME": "reader",
        "CARBONMON_PROMETHEUS_PASSWORD": "pä:ss",
        "CARBONMON_PROMETHEUS_TENANT": "team-a",
    }
    with GridServer(store.answer) as server:
        found = prometheus.find(f"{server.url}/prometheus/", RUN, environ=environ)
    assert {request.path for request in server.requests} <= {
        "/prometheus/api/v1/query",
        "/prometheus/api/v1/query_range",
    }
    for request in server.requests:
        assert request.headers["authorization"] == "Basic cmVhZGVyOnDDpDpzcw=="
        assert request.headers["x-scope-orgid"] == "team-a"
    assert found.server == f"127.0.0.1:{server.address[1]}/prometheus"
    assert "reader" not in json.dumps([found.document(), found.source()])


def test_a_refused_login_says_what_to_set_and_shows_nothing_of_it():
    environ = {"CARBONMON_PROMETHEUS_TOKEN": SECRET}
    with GridServer() as server:
        server.fault = gridserver.status(401)
        with pytest.raises(FetchError, match=r"asks for a login.*set CARBONMON_PROMETHEUS_TOKEN, or"):
            prometheus.find(server.url, RUN, environ={})
        with pytest.raises(FetchError, match="does not accept the login") as caught:
            prometheus.find(server.url, RUN, environ=environ)
    assert SECRET not in str(caught.value)


def test_a_certificate_is_verified_by_the_authority_that_the_environment_names(
    store: Tsdb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lapse(store, Monitor(), (0, 300))
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with GridServer(store.answer, context) as server:
        with pytest.raises(FetchError, match="cannot be verified; name the file of its authority"):
            prometheus.find(server.url, RUN, environ={})
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert ask(server).total_j == pytest.approx(300 * WATTS)


@for_each_row(
    ("url", "said"),
    [
        ("prometheus:9090", "is not an address"),
        ("ftp://prometheus", "is not an address"),
        ("http://", "is not an address"),
        ("http://host:0", "is not an address"),
        ("http://host:99999", "is not an address"),
        ("http://a b/", "is not an address"),
        ("http://[::1", "is not an address"),
        ("https://host/graph?g0.expr=up", "without \\? and #"),
        (f"https://me:{SECRET}@host", "leave user and password out"),
        (f"https://me:{SECRET}@[::1", "leave user and password out"),
    ],
)
def test_an_address_that_cannot_be_one_says_why_and_shows_no_password(url: str, said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        checked_url(url)
    assert SECRET not in str(caught.value)


def test_an_address_is_taken_with_its_path_and_without_what_belongs_to_the_api():
    assert checked_url("https://mimir/prometheus/api/v1/") == ("https://mimir/prometheus", "mimir/prometheus")
    assert checked_url("http://[::1]:9090/") == ("http://[::1]:9090", "[::1]:9090")


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TOKEN": SECRET}, "in clear text"),
        ({"USERNAME": "me"}, "PASSWORD is not set"),
        ({"PASSWORD": SECRET}, "USERNAME is not set"),
        ({"TOKEN": SECRET, "USERNAME": "me", "PASSWORD": SECRET}, "are both set"),
        ({"TENANT": f"{SECRET}\n{SECRET}"}, "characters that no header may hold"),
    ],
)
def test_a_login_that_cannot_be_sent_safely_is_refused(environ: dict[str, str], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        prometheus.find(
            "http://mimir", RUN, environ={f"CARBONMON_PROMETHEUS_{key}": v for key, v in environ.items()}
        )
    assert SECRET not in str(caught.value)


# Labels and times.


def test_labels_of_the_target_are_told_from_those_of_the_metric():
    target = (("instance", "a:1"), ("zone", "eu-1b"))
    labels = {"__name__": "m", "instance": "a:1", "zone": "eu-1b", "exported_zone": "DE", "exported_x": "y"}
    assert own_labels(labels, target) == {"zone": "DE", "exported_x": "y"}


@for_each_row(
    ("labels", "instance"),
    [
        ({"instance": "n1:9877", "node": "x"}, "n1:9877"),
        ({"instance": "gateway:9091", "exported_instance": "n1"}, "n1"),
        ({"instance": "127.0.0.1:9877", "node": "n1"}, "n1"),
        ({"instance": "[::1]:9877", "hostname": "n1"}, "n1"),
        ({"instance": "localhost:9877"}, "localhost:9877"),
        ({"host_name": "n1", "service_instance_id": "n1", "service_name": "carbonmon"}, "n1"),
        ({"job": "j"}, "job=j"),
        ({}, "unknown"),
    ],
)
def test_the_node_s_own_name_goes_before_that_of_who_stands_for_it(labels: dict[str, str], instance: str):
    assert instance_of(tuple(labels.items())) == instance


def test_the_host_of_an_instance_is_what_stands_before_its_port():
    instances = ("n1:9877", "10.0.0.1:9877", "[fe80::1]:9877", "[::1]", "fe80::1", "n1", "a:b")
    assert [*map(host_of, instances)] == ["n1", "10.0.0.1", "fe80::1", "::1", "fe80::1", "n1", "a:b"]


def test_a_selector_holds_any_text_as_it_is():
    query = of_node(["a", "b"], "run.7", (("rack", 'x"\\\n'), ("a.b", "é")))
    assert query == r'{__name__=~"a|b",run_id=~"run\\.7|",rack="x\"\\\n","a.b"="é"}'


@for_each_row(
    ("text", "unix_s"),
    [
        ("12h", 1e9 - 43200),
        ("1.5d", 1e9 - 129600),
        ("90s", 1e9 - 90),
        ("1795000000", 1795000000.0),
        ("1795000000.25", 1795000000.25),
        ("2026-11-21", 1795219200.0),
        ("2026-11-21T20:00Z", 1795291200.0),
        ("2026-11-21T21:00:00+01:00", 1795291200.0),
    ],
)
def test_times_are_taken_as_people_write_them(text: str, unix_s: float):
    assert parse_moment(text, "--since").unix_s(1e9) == unix_s


@for_each_row(
    "text", ["", "yesterday", "12", "5y", "2026-13-01", "2026-11-21T20:00", "-3h", "0001-01-01T00:00+14:00"]
)
def test_a_time_that_is_none_says_how_to_write_one(text: str):
    with pytest.raises(ConfigError, match=r"^--since: .*2026-11-21T20:00Z"):
        parse_moment(text, "--since").unix_s(0.0)


# The command.


def test_every_form_of_the_report_can_be_had(store: Tsdb, server: GridServer, tmp_path: Path):
    for number in (1, 2):
        lapse(store, Monitor(number, START_S + number), (5, 300), f"node-{number}:9877")
    lapse(store, Monitor(1, START_S + 1), (600, 900), "node-1:9877")
    words = ["--prometheus", server.url, "--run-id", RUN]
    said = {
        form: invoke([*words, "--format", form]) for form in ("text", "json", "markdown", "csv", "model-card")
    }
    assert {form: done.exit_code for form, done in said.items()} == dict.fromkeys(said, 0)
    document = json.loads(said["json"].stdout)
    VALIDATOR.validate(document)
    host = server.url.removeprefix("http://")
    assert document["monitor"]["sources"][0]["reason"].startswith(f"{host}: 61 scrapes of 2 hosts.")
    for form in ("text", "markdown"):
        assert "5 min 10 s" in said[form].stdout
        assert "the counters continued" in " ".join(said[form].stdout.split())
    assert said["csv"].stdout.startswith("run_id,")
    for form in ("csv", "model-card"):
        assert "carbonmon: Not scraped for 5 min 10 s" in said[form].stderr
    (tmp_path / "copy.json").write_text(said["json"].stdout)
    again = invoke([str(tmp_path / "copy.json"), "--format", "json"])
    assert json.loads(again.stdout) == document
    more = invoke([*words, "--embodied", "--elsewhere", "countries"])
    assert more.exit_code == 0, more.output
    assert "of making the hardware" in " ".join(more.stdout.split())


@for_each_row(
    ("words", "said"),
    [
        (["--run-id", RUN], "--run-id is for --prometheus URL"),
        (["--since", "3d", "somewhere"], "--since is for --prometheus URL"),
        (["--prometheus", "http://h"], "say which run with --run-id ID"),
        (["--prometheus", "http://h", "mine"], "say which run with --run-id mine"),
        (["--prometheus", "http://h", "--run-id", RUN, "mine"], "there is no RUN"),
        (["--prometheus", "http://h", "--run-id", "a/b"], "--run-id: 'a/b' does not fit"),
        (["--prometheus", "http://h", "--run-id", RUN, "--since", "soon"], "--since: 'soon' is no time"),
        (["--prometheus", "h:9090", "--run-id", RUN], "is not an address"),
    ],
)
def test_a_mistake_on_the_command_line_ends_with_2_before_anything_is_asked(words: list[str], said: str):
    done = invoke(words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_a_server_that_fails_ends_with_1_and_one_line(server: GridServer):
    server.fault = gridserver.status(502)
    done = invoke(["--prometheus", server.url, "--run-id", RUN])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"Error: --prometheus: {server.url.removeprefix('http://')}: status 502\n"


def test_a_run_is_looked_for_where_since_and_until_say(store: Tsdb, server: GridServer):
    lapse(store, Monitor(), (0, 300))
    words = ["--prometheus", server.url, "--run-id", RUN, "--format", "json"]
    done = invoke([*words, "--since", "1h", "--until", "150s"])
    assert json.loads(done.stdout)["energy"]["total_j"] == pytest.approx(150 * WATTS)
    done = invoke([*words, "--since", "1h", "--until", "2h"])
    assert done.exit_code == 2
    assert "not before --until" in done.stderr
    done = invoke([*words, "--until", "1h"])
    assert done.exit_code == 2
    assert "no run 'slurm-4242'" in done.stderr
