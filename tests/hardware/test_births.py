"""A scraper sees each new counter series at 0 first; everybody else sees plain totals."""

from __future__ import annotations

import urllib.request

import pytest
from carbonmon_exporters import births
from carbonmon_exporters.collector import SnapshotCollector
from carbonmon_exporters.prometheus import PrometheusExporter
from prometheus_client import parser

from carbonmon.core.model import Snapshot
from carbonmon.core.ports import ExporterSettings
from tests.support.records import START_S, crowd, node

PROMETHEUS = {"X-Prometheus-Scrape-Timeout-Seconds": "10", "User-Agent": "Prometheus/2.42.0"}


def counters(place: str, **headers: str) -> dict[tuple[str, ...], float]:
    request = urllib.request.Request(place, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in parser.text_string_to_metric_families(text)
        if family.type == "counter" and family.name.startswith("carbonmon")
        for sample in family.samples
    }


def young(snapshot: Snapshot) -> Snapshot:
    """The same a minute after the run's start."""
    return snapshot._replace(at_s=START_S + 60.0)


def grown(snapshot: Snapshot) -> Snapshot:
    """The same machine with another phase in its run: new series beside old ones."""
    run = snapshot.runs[0]
    more = tuple(total._replace(phase="evaluation", energy_j=50.0) for total in run.totals)
    return snapshot._replace(runs=(run._replace(totals=run.totals + more),))


def test_a_scraper_sees_every_new_series_at_zero_once_and_then_its_whole_total():
    shown = [young(node(gpus=2))]
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)))
    place = exporter.start(lambda: shown[0])
    try:
        first = counters(place, **PROMETHEUS)
        assert first
        assert set(first.values()) == {0.0}
        second = counters(place, **PROMETHEUS)
        assert second == counters(place), "everybody else sees the plain totals"
        assert any(second.values())
        shown[0] = grown(shown[0])
        third = counters(place, **PROMETHEUS)
        new = third.keys() - second.keys()
        assert new
        assert {third[key] for key in new if "evaluation" in key} == {0.0}
        assert {key: third[key] for key in second} == second, "no series that was seen steps back"
    finally:
        exporter.close()


def test_a_person_s_look_takes_no_zero_away_from_the_scraper():
    snapshot = young(node(gpus=1))
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)))
    place = exporter.start(lambda: snapshot)
    try:
        assert any(counters(place).values())
        assert set(counters(place, **PROMETHEUS).values()) == {0.0}
    finally:
        exporter.close()


def looked(collector: SnapshotCollector, who: str) -> dict[str, float]:
    """What a scraper sees of each counter family: its sum."""
    token = births.scraper.set(who)
    try:
        families = list(collector.collect())
    finally:
        births.scraper.reset(token)
    return {
        family.name: sum(sample.value for sample in family.samples)
        for family in families
        if family.type == "counter"
    }


RUN, DEVICE = "carbonmon_run_energy_joules", "carbonmon_device_energy_joules"


def test_a_scraper_that_comes_back_under_another_name_sees_no_old_series_step_back():
    """A Prometheus that was updated, or whose pod has another address now, has the series in its memory."""
    times = [0.0]
    snapshot = node(gpus=1)
    collector = SnapshotCollector(lambda: snapshot, lambda: times[0])
    looked(collector, "192.0.2.1 Prometheus/2.42.0")
    plain = looked(collector, "192.0.2.1 Prometheus/2.42.0")
    assert plain[RUN] > 0.0
    times[0] = births.YOUNG_S + 1.0
    for who in ("192.0.2.7 Prometheus/2.42.0", "192.0.2.1 Prometheus/2.43.0"):
        assert looked(collector, who) == plain
    snapshot = grown(snapshot)
    assert looked(collector, "192.0.2.7 Prometheus/2.42.0")[RUN] == plain[RUN], "a new phase is born at 0"


def test_strangers_cannot_make_a_scraper_s_series_step_back():
    """Whoever may read the metrics may send the header as well, under many names."""
    times = [0.0]
    snapshot = node(gpus=1)
    collector = SnapshotCollector(lambda: snapshot, lambda: times[0])
    looked(collector, "127.0.0.1 Prometheus/2.42.0")
    times[0] = births.YOUNG_S + 1.0
    plain = looked(collector, "127.0.0.1 Prometheus/2.42.0")
    for number in range(births.MAX_SCRAPERS + 1):
        looked(collector, f"127.0.0.1 stranger/{number}")
    assert looked(collector, "127.0.0.1 Prometheus/2.42.0") == plain


def test_to_a_new_scraper_young_runs_are_born_at_zero_also_at_an_old_monitor():
    times = [0.0]
    snapshot = young(node(gpus=1))
    collector = SnapshotCollector(lambda: snapshot, lambda: times[0])
    times[0] = births.YOUNG_S + 1.0
    found = looked(collector, "192.0.2.1 Prometheus/2.42.0")
    assert found[RUN] == 0.0
    assert found[DEVICE] > 0.0


def test_series_of_runs_that_are_gone_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(births, "MAX_GONE_SERIES", 100)
    shown = [crowd(50)]
    collector = SnapshotCollector(lambda: shown[0])
    token = births.scraper.set("192.0.2.1 Prometheus/2.42.0")
    try:
        for _ in range(2):
            plain = {family.name: family.samples for family in collector.collect()}
        shown[0] = shown[0]._replace(runs=shown[0].runs[:2])
        for _ in range(2):
            few = {family.name: family.samples for family in collector.collect()}
        assert few["carbonmon_run_energy_joules"] == plain["carbonmon_run_energy_joules"][:60]
        (seen,) = collector._births._seen.values()
        assert len(seen) == sum(
            len(family.samples) for family in collector.collect() if family.type == "counter"
        )
    finally:
        births.scraper.reset(token)
