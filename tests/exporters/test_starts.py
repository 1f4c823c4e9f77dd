"""A counter that is new to a scraper is shown at 0 when it began, and with its value; to nobody else."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from carbonmon_exporters.endpoint import scrapers
from carbonmon_exporters.prometheus import PrometheusExporter
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from carbonmon.core.model import RunState, SensorState, Snapshot
from carbonmon.core.ports import ExporterSettings
from tests.support.metrics_endpoint import DEADLINE_S
from tests.support.records import START_S, node, run_info, run_total
from tests.support.rows import for_each_row

PROMETHEUS = {
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
}
VICTORIA = {"X-Prometheus-Scrape-Timeout-Seconds": "10", "Accept": "text/plain;version=0.0.4;q=1,*/*;q=0.1"}
RUN, DEVICE = "carbonmon_run_energy_joules_total", "carbonmon_device_energy_joules_total"
BOOT_S = 1000.0
"""The injected clock at START_S."""


class Node:
    """A node whose run began at START_S, with an endpoint; it is `after_s` seconds later."""

    def __init__(self, **changes: Any) -> None:
        self.after_s = 10.0
        self.continued = False
        self.phases: dict[str, float] = {"main": 0.0}
        self.changes = changes
        exporter = PrometheusExporter(
            ExporterSettings(listen=("127.0.0.1", 0)), wall_clock=lambda: START_S + self.after_s
        )
        self.close = exporter.close
        place = exporter.start(lambda: self.snapshot())
        self.port = int(place.split(":")[2].split("/")[0])

    def snapshot(self) -> Snapshot:
        """The newest: two seconds old, as a checkpoint is."""
        whole = node(1, 1, 0)
        clock_s = BOOT_S + self.after_s - 2.0
        begun = {phase: BOOT_S + at_s for phase, at_s in self.phases.items() if BOOT_S + at_s < clock_s}
        rows = tuple(
            run_total(
                device.device.id, device.device.component, "counter", 100.0 * (clock_s - at_s), phase=p
            )._replace(start_s=at_s)
            for p, at_s in begun.items()
            for device in whole.devices
        )
        (run,) = whole.runs
        state: RunState = run._replace(totals=rows, start_s=BOOT_S)
        shown = whole._replace(
            runs=(state,),
            at_s=START_S + self.after_s - 2.0,
            clock_s=clock_s,
            start_s=BOOT_S - 100.0,
            continued=self.continued,
        )
        return shown._replace(**self.changes)


@pytest.fixture
def machine() -> Iterator[Node]:
    made = Node()
    yield made
    made.close()


@contextlib.contextmanager
def server(machine: Node, **headers: str) -> Iterator[Any]:
    """A server's scrape, each on the same connection: the samples of an answer, in their order."""
    asking = HTTPConnection("127.0.0.1", machine.port, timeout=DEADLINE_S)

    def scrape(path: str = "/metrics", method: str = "GET", **more: str) -> list[Sample]:
        asking.request(method, path, headers={**headers, **more})
        answer = asking.getresponse()
        body = answer.read()
        if answer.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        if method == "HEAD":
            return []
        text = body.decode()
        if answer.headers["Content-Type"].startswith("application/openmetrics-text"):
            families = openmetrics_parser.text_string_to_metric_families(text)
        else:
            families = text_string_to_metric_families(text)
        return [sample for family in families for sample in family.samples]

    with contextlib.closing(asking):
        yield scrape


def of(samples: list[Sample], name: str, **labels: str) -> list[tuple[float | None, float]]:
    """The times, in seconds after START_S, and values of the samples of one series' name."""
    return [
        (None if sample.timestamp is None else round(float(sample.timestamp) - START_S, 3), sample.value)
        for sample in samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def stamped(samples: list[Sample]) -> set[str]:
    return {sample.name for sample in samples if sample.timestamp is not None}


GPU = {"component": "gpu"}


def test_a_new_counter_is_shown_at_its_start_and_now_and_from_then_on_without_a_time(machine: Node):
    with server(machine, **PROMETHEUS) as scrape:
        first = scrape()
        assert of(first, RUN, **GPU) == [(0.0, 0.0), (10.0, 800.0)]
        assert of(first, DEVICE, method="counter", **GPU) == [(-100.0, 0.0), (10.0, 900000.0)]
        assert all(name.endswith("_total") for name in stamped(first)), "gauges have no times"
        machine.after_s = 25.0
        second = scrape()
        assert not stamped(second)
        assert of(second, RUN, **GPU) == [(None, 2300.0)]


def test_a_phase_has_its_own_start(machine: Node):
    with server(machine, **PROMETHEUS) as scrape:
        scrape()
        machine.phases["eval"] = 21.0
        machine.after_s = 25.0
        found = scrape()
        assert of(found, RUN, phase="main", **GPU) == [(None, 2300.0)]
        assert of(found, RUN, phase="eval", **GPU) == [(21.0, 0.0), (25.0, 200.0)]
        assert of(found, "carbonmon_run_emissions_grams_total", phase="eval", **GPU)[0] == (21.0, 0.0)


def test_a_phase_that_began_with_the_last_snapshot_shown_is_new(machine: Node):
    with server(machine, **PROMETHEUS) as scrape:
        machine.phases["eval"] = 8.0  # the moment of the snapshot that is shown now
        assert of(scrape(), RUN, phase="eval", **GPU) == []
        machine.after_s = 25.0
        assert of(scrape(), RUN, phase="eval", **GPU) == [(8.0, 0.0), (25.0, 1500.0)]


@for_each_row("headers", [{}, {"Accept": PROMETHEUS["Accept"]}, {"User-Agent": "curl/8.14"}])
def test_whoever_is_no_scraper_sees_plain_totals_and_takes_nothing_away(headers: dict[str, str]):
    machine = Node()
    with contextlib.closing(machine), server(machine, **headers) as look:
        assert of(look(), RUN, **GPU) == [(None, 800.0)]
        with server(machine, **PROMETHEUS) as scrape:
            assert len(of(scrape(), RUN, **GPU)) == 2


def test_two_servers_behind_one_address_both_see_each_start(machine: Node):
    with server(machine, **PROMETHEUS) as one, server(machine, **PROMETHEUS) as other:
        for scrape in (one, other):
            assert of(scrape(), RUN, phase="main", **GPU)[0] == (0.0, 0.0)
        machine.phases["eval"] = 21.0
        machine.after_s = 25.0
        for scrape in (one, other):
            assert of(scrape(), RUN, phase="eval", **GPU)[0] == (21.0, 0.0)


def test_a_server_that_comes_late_sees_starts_that_it_can_store(machine: Node):
    machine.after_s = scrapers.LOOK_BACK_S
    with server(machine, **PROMETHEUS) as scrape:
        found = scrape()
        assert of(found, RUN, **GPU)[0] == (0.0, 0.0)
        assert of(found, DEVICE, method="counter", **GPU) == [(None, 900000.0)], "too old"
    machine.after_s = scrapers.LOOK_BACK_S + 1.0
    with server(machine, **PROMETHEUS) as scrape:
        assert not stamped(scrape())


def test_who_closes_each_connection_sees_only_what_is_young(machine: Node):
    with server(machine, Connection="close", **PROMETHEUS) as scrape:
        for _ in range(2):
            assert len(of(scrape(), RUN, **GPU)) == 2
        machine.after_s = scrapers.CLOSING_LOOK_BACK_S + 1.0
        assert len(of(scrape(), RUN, **GPU)) == 1


def test_heads_and_other_queries_take_no_start_away(machine: Node):
    with server(machine, **PROMETHEUS) as scrape:
        scrape(method="HEAD")
        assert of(scrape("/metrics?name[]=carbonmon_pue_ratio"), RUN) == []
        picked = scrape(f"/metrics?name[]={RUN}", **{"Accept-Encoding": "gzip"})
        assert {sample.name for sample in picked} == {RUN}
        assert len(of(picked, RUN, **GPU)) == 2
        assert len(of(scrape(), RUN, **GPU)) == 2
        for number in range(2 * scrapers.MAX_QUERIES):
            scrape(f"/metrics?name[]=x{number}")


def test_a_series_at_zero_needs_no_start():
    whole = node(1, 0, 0)
    machine = Node(runs=(), devices=tuple(state._replace(counter_j=0.0) for state in whole.devices))
    with contextlib.closing(machine), server(machine, **PROMETHEUS) as scrape:
        assert of(scrape(), DEVICE, method="counter") == [(None, 0.0)]


def test_a_counter_that_appears_with_its_first_event_was_zero_at_the_last_scrape(machine: Node):
    errors = "carbonmon_sensor_read_errors_total"
    sensor = SensorState("nvml", "used", "", up=True, read_s=0.001)
    machine.changes["sensors"] = (sensor,)
    with server(machine, **PROMETHEUS) as scrape:
        assert of(scrape(), errors) == []
        machine.after_s = 25.0
        machine.changes["sensors"] = (sensor._replace(errors=(("timeout", 2),)),)
        assert of(scrape(), errors) == [(10.0, 0.0), (25.0, 2.0)]
        machine.after_s = 40.0
        assert of(scrape(), errors) == [(None, 2.0)]


def test_a_start_that_is_not_before_the_answer_is_left_out(machine: Node):
    """The wall clock was set back: a 0 ahead of stored samples would be a reset."""
    machine.changes["at_s"] = START_S + 3600.0
    with server(machine, **PROMETHEUS) as scrape:
        assert of(scrape(), RUN, **GPU) == [(None, 800.0)]


def test_totals_whose_start_nobody_knows_are_plain(machine: Node):
    machine.changes["start_s"] = None
    with server(machine, **PROMETHEUS) as scrape:
        assert of(scrape(), DEVICE, method="counter", **GPU) == [(None, 900000.0)]


def test_after_a_reboot_what_a_resumed_run_adds_is_new_to_an_open_connection(machine: Node):
    with server(machine, **PROMETHEUS) as scrape:
        scrape()
        old = machine.snapshot()
        machine.after_s = 25.0
        machine.changes["clock_s"] = old.clock_s - 990.0
        row = old.runs[0].totals[0]._replace(phase="eval", start_s=old.clock_s - 991.0)
        machine.changes["runs"] = (old.runs[0]._replace(totals=(row,), start_s=None),)
        assert of(scrape(), RUN, phase="eval", **GPU) == [(22.0, 0.0), (25.0, 800.0)]


# The text format, whose readers may ignore times: a 0 is shown only if no such reader has the series.


def test_in_the_text_format_the_first_to_ask_sees_a_start_and_nobody_after_him(machine: Node):
    with server(machine, **VICTORIA) as one:
        assert of(one(), RUN, **GPU) == [(0.0, 0.0), (10.0, 800.0)]
        machine.after_s = 20.0
        with server(machine, **VICTORIA) as other:
            assert of(other(), RUN, **GPU) == [(None, 1800.0)]
            machine.phases["eval"] = 21.0
            machine.after_s = 25.0
            for scrape in (one, other):
                assert of(scrape(), RUN, phase="eval", **GPU) == [(21.0, 0.0), (25.0, 200.0)]
        with server(machine, **VICTORIA) as again:
            assert not stamped(again())


def test_in_the_text_format_a_continued_monitor_shows_no_start_to_the_first_who_asks(machine: Node):
    machine.continued = True
    with server(machine, **VICTORIA) as scrape:
        assert not stamped(scrape())
        machine.phases["eval"] = 21.0
        machine.after_s = 25.0
        assert of(scrape(), RUN, phase="eval", **GPU)[0] == (21.0, 0.0)


def test_runs_that_come_later_have_their_own_start(machine: Node):
    with server(machine, **PROMETHEUS) as scrape:
        scrape()
        machine.after_s = 100.0
        (run,) = machine.snapshot().runs
        rows = tuple(row._replace(start_s=BOOT_S + 90.0) for row in run.totals)
        later = run._replace(info=run_info("later"), totals=rows, start_s=BOOT_S + 90.0)
        machine.changes["runs"] = (run, later)
        found = scrape()
        assert of(found, RUN, run_id="later", **GPU)[0] == (90.0, 0.0)
        for name in ("carbonmon_run_node_energy_joules_total", "carbonmon_run_cpu_seconds_total"):
            assert [at_s for at_s, _ in of(found, name, run_id=run.info.id)] == [None] * len(
                of(found, name, run_id=run.info.id)
            )
        assert of(found, "carbonmon_run_node_energy_joules_total", run_id="later")[0] == (90.0, 0.0)
        assert of(found, "carbonmon_run_cpu_seconds_total", run_id="later")[0][1] == 0.0
