"""The metrics: what they say, and that no client can hold up a scrape or the exit."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from carbonmon_exporters import docs
from carbonmon_exporters.collector import OwnProcessCollector, SnapshotCollector
from carbonmon_exporters.endpoint.server import MetricsServer
from carbonmon_exporters.endpoint.stream import MAX_HEAD_BYTES
from carbonmon_exporters.prometheus import PrometheusExporter
from carbonmon_exporters.runs import info_labels
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.process_collector import ProcessCollector

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.labels import RESERVED
from carbonmon.core.metrics import FAMILIES, PROCESS_FAMILIES, RUN_ENERGY, RUN_INFO
from carbonmon.core.model import Cost, NodeTotal, SensorState, Snapshot
from carbonmon.core.node_meter import NodeCharge, NodeEnergy, NodeMeterState
from carbonmon.core.pauses import Pauses
from carbonmon.core.ports import ExporterSettings
from tests.support.records import (
    HOSTILE_TEXTS,
    UNDECODABLE,
    budget_state,
    crowd,
    device_state,
    dram,
    forecast,
    gpu,
    intensity,
    node,
    package,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.rows import for_each_row

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DEADLINE_S = 10.0
"""How long a test waits for what should come at once; only a failure takes that long."""

Address = tuple[str, int]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextlib.contextmanager
def serving(shown: Snapshot | Callable[[], Snapshot], **options: Any) -> Iterator[Address]:
    """Serve a snapshot on a free port of the loopback."""
    latest = shown if callable(shown) else lambda: shown
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)), **options)
    place = exporter.start(latest)
    try:
        yield "127.0.0.1", int(place.removeprefix("http://127.0.0.1:").removesuffix("/metrics"))
    finally:
        exporter.close()


def ask(
    address: Address, path: str = "/metrics", method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer, answer.read()


def ask_raw(address: Address, request: bytes) -> bytes:
    with socket.create_connection(address, timeout=DEADLINE_S) as client:
        client.sendall(request)
        return read_to_end(client)


def read_to_end(client: socket.socket) -> bytes:
    client.settimeout(DEADLINE_S)
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


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


def scraped(shown: Snapshot) -> Samples:
    """The samples of a snapshot as the OpenMetrics parser reads them."""
    with serving(shown) as address:
        _, body = ask(address, headers={"Accept": OPENMETRICS})
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in openmetrics_parser.text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(samples: Samples, name: str, /, **labels: str) -> float | None:
    return samples.get((f"carbonmon_{name}", frozenset(labels.items())))


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


# What the metrics say


def test_both_formats_say_the_same() -> None:
    shown = node()
    with serving(shown) as address:
        plain, text = ask(address)
        opened, openmetrics = ask(address, headers={"Accept": OPENMETRICS})
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text")
    of_text = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("carbonmon_")
    }
    of_openmetrics = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in openmetrics_parser.text_string_to_metric_families(openmetrics.decode())
        for sample in family.samples
        if sample.name.startswith("carbonmon_")
    }
    assert of_text == of_openmetrics
    assert len(of_text) > 100


def test_a_runs_energy_is_shown_by_phase_device_and_method() -> None:
    device = gpu()
    rows = (
        run_total(device.id, "gpu", "counter", 100.5),
        run_total(device.id, "gpu", "counter", 7.0, phase="eval"),
        run_total(device.id, "gpu", "tdp", 0.0),
    )
    samples = scraped(snapshot((run_state(totals=rows),), (device_state(device),)))
    of_run = {"run_id": "slurm-4242", "component": "gpu", "device": device.id}
    assert value(samples, "run_energy_joules_total", **of_run, phase="main", method="counter") == 100.5
    assert value(samples, "run_energy_joules_total", **of_run, phase="eval", method="counter") == 7.0
    assert value(samples, "run_energy_joules_total", **of_run, phase="main", method="tdp") == 0.0


def test_a_runs_emissions_are_summed_over_devices_and_methods() -> None:
    rows = (
        run_total(gpu(0).id, "gpu", "counter", 1.0, emissions_g=2.0),
        run_total(gpu(0).id, "gpu", "tdp", 1.0, emissions_g=3.0),
        run_total(gpu(1).id, "gpu", "counter", 1.0, emissions_g=4.0),
        run_total(package().id, "cpu", "counter", 1.0, emissions_g=5.0),
    )
    samples = scraped(snapshot((run_state(totals=rows),), (device_state(gpu()),)))
    of_main = {"run_id": "slurm-4242", "phase": "main"}
    assert value(samples, "run_emissions_grams_total", **of_main, component="gpu") == 9.0
    assert value(samples, "run_emissions_grams_total", **of_main, component="cpu") == 5.0


def test_what_the_node_drew_while_a_run_lasted_is_shown_by_component() -> None:
    run = run_state(
        node=(
            NodeTotal(gpu(0).id, 100.0, 20.0, 3.0, 0.0),
            NodeTotal(gpu(1).id, 1000.0, 0.0, 0.0, 0.0),
            NodeTotal(dram().id, 0.0, 0.0, 7.0, 0.0),
        )
    )
    samples = scraped(snapshot((run,), (device_state(gpu(0)), device_state(gpu(1)), device_state(dram()))))
    of_run = {"run_id": "slurm-4242"}
    assert value(samples, "run_node_energy_joules_total", **of_run, component="gpu") == 1123.0
    assert value(samples, "run_node_energy_joules_total", **of_run, component="dram") == 7.0
    assert value(samples, "run_node_energy_joules_total", **of_run, component="cpu") is None


def test_a_run_s_processes_and_their_cpu_time_are_shown_once_they_were_counted() -> None:
    samples = scraped(snapshot((run_state(cpu_s=12.5, processes=3),)))
    assert value(samples, "run_cpu_seconds_total", run_id="slurm-4242") == 12.5
    assert value(samples, "run_processes", run_id="slurm-4242") == 3.0
    samples = scraped(snapshot((run_state(cpu_s=0.0, processes=0),)))
    assert value(samples, "run_cpu_seconds_total", run_id="slurm-4242") == 0.0
    assert value(samples, "run_processes", run_id="slurm-4242") == 0.0


@for_each_row(
    ("progress", "ratio"),
    [
        ((0.0, 200.0), 0.0),
        ((50.0, 200.0), 0.25),
        ((201.0, 200.0), 1.0),
        ((-3.0, 200.0), 0.0),
        ((5.0, None), None),
        ((5.0, 0.0), None),
        ((5.0, -1.0), None),
        ((math.nan, 10.0), None),
        ((5.0, math.nan), None),
        ((5.0, math.inf), None),
    ],
)
def test_progress_is_a_ratio_and_absent_without_a_total(
    progress: tuple[float, float | None], ratio: float | None
) -> None:
    samples = scraped(snapshot((run_state(progress=progress),)))
    assert value(samples, "run_progress_ratio", run_id="slurm-4242") == ratio


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_a_phase_may_have_any_name(accept: str) -> None:
    rows = tuple(
        run_total(gpu().id, "gpu", "counter", joules, phase=name, emissions_g=joules)
        for joules, name in enumerate(HOSTILE_TEXTS, start=1)
    )
    with serving(snapshot((run_state(totals=rows),), (device_state(gpu()),))) as address:
        _, body = ask(address, headers={"Accept": accept})
    parser = openmetrics_parser if accept is OPENMETRICS else text_parser
    shown = {
        (sample.name, sample.labels.get("phase", "")): sample.value
        for family in parser.text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    for joules, name in enumerate(HOSTILE_TEXTS, start=1):
        assert shown["carbonmon_run_energy_joules_total", name] == joules
        assert shown["carbonmon_run_emissions_grams_total", name] == joules


def test_no_name_of_a_run_a_phase_or_a_device_fails_a_scrape() -> None:
    rows = (run_total(UNDECODABLE, "gpu", "counter", 5.0, phase=UNDECODABLE),)
    run = run_state(
        run_info(UNDECODABLE, name=UNDECODABLE),
        rows,
        power_w=((UNDECODABLE, 1.0),),
        unobserved_s=((UNDECODABLE, 1.0),),
    )
    text = r"caf\udce9"
    labels = {"run_id": text, "phase": text, "component": "gpu", "device": text, "method": "counter"}
    assert value(scraped(snapshot((run,))), "run_energy_joules_total", **labels) == 5.0


def test_a_hundred_runs_are_shown_each_with_its_own_joules() -> None:
    samples = scraped(crowd(100))
    of_gpu = {"phase": "main", "component": "gpu", "device": gpu().id, "method": "counter"}
    for number in (0, 99):
        assert value(samples, "run_energy_joules_total", run_id=f"slurm-{number}", **of_gpu) == 9000.0
    energies = [joules for (name, _), joules in samples.items() if name.endswith("run_energy_joules_total")]
    assert len(energies) == 100 * (8 * 3 + 2 * 2 + 2)


def test_a_method_is_born_at_zero_for_each_device_that_has_it() -> None:
    samples = scraped(snapshot((), (device_state(gpu()), device_state(dram()))))
    of_gpu = {"component": "gpu", "device": gpu().id}
    for method in ("counter", "power", "tdp"):
        assert value(samples, "device_energy_joules_total", **of_gpu, method=method) == 0.0
    of_dram = {"component": "dram", "device": "dram-0"}
    assert value(samples, "device_energy_joules_total", **of_dram, method="tdp") == 0.0
    assert value(samples, "device_energy_joules_total", **of_dram, method="counter") is None


def test_a_lost_method_keeps_the_energy_it_gave() -> None:
    samples = scraped(snapshot((), (device_state(dram(), power_j=5.0),)))
    labels = {"component": "dram", "device": "dram-0", "method": "power"}
    assert value(samples, "device_energy_joules_total", **labels) == 5.0


def test_what_is_unknown_is_absent_and_never_zero() -> None:
    device = gpu()
    silent = device_state(device, power_w=None, utilization_ratio=None)
    run = run_state(power_w=((device.id, None),))
    sensors = (SensorState("nvml", "used", ""),)
    samples = scraped(snapshot((run,), (silent,), samples=0, sensors=sensors))
    shown = names(samples)
    for name in (
        "run_power_watts",
        "run_end_time_seconds",
        "run_node_energy_joules_total",
        "run_cpu_seconds_total",
        "run_processes",
        "run_progress_ratio",
        "device_power_watts",
        "device_utilization_ratio",
        "grid_intensity_timestamp_seconds",
        "sensor_read_seconds",
        "last_sample_timestamp_seconds",
    ):
        assert f"carbonmon_{name}" not in shown
    assert value(samples, "sensor_up", sensor="nvml") == 0.0


def test_zero_watts_are_zero_and_not_absent() -> None:
    device = gpu()
    samples = scraped(
        snapshot((run_state(power_w=((device.id, 0.0),)),), (device_state(device, power_w=0.0),))
    )
    assert value(samples, "device_power_watts", component="gpu", device=device.id) == 0.0
    assert value(samples, "run_power_watts", run_id="slurm-4242", component="gpu", device=device.id) == 0.0


def test_a_run_has_an_end_once_it_has_ended() -> None:
    samples = scraped(snapshot((run_state(ended_at_s=1_795_003_600.5),)))
    assert value(samples, "run_end_time_seconds", run_id="slurm-4242") == 1_795_003_600.5


def test_anomalies_are_counted_only_where_there_is_a_counter() -> None:
    samples = scraped(snapshot((), (device_state(gpu(), resets=1), device_state(dram()))))
    assert value(samples, "counter_anomalies_total", device=gpu().id, kind="reset") == 1.0
    assert value(samples, "counter_anomalies_total", device=gpu().id, kind="jump") == 0.0
    assert value(samples, "counter_anomalies_total", device="dram-0", kind="reset") is None


def test_the_grid_the_sensors_and_the_exporters_are_shown() -> None:
    samples = scraped(snapshot(now=intensity(360.0, timestamp_s=1_794_999_000.0), pue_ratio=1.2))
    grid = {"zone": "DE", "source": "Ember"}
    assert value(samples, "grid_intensity_grams_per_kilowatt_hour", **grid, kind="table") == 360.0
    assert value(samples, "grid_intensity_timestamp_seconds", **grid) == 1_794_999_000.0
    assert value(samples, "pue_ratio") == 1.2
    assert value(samples, "sensor_up", sensor="nvml") == 1.0
    assert value(samples, "sensor_up", sensor="rapl") is None
    assert value(samples, "sensor_read_seconds", sensor="nvml") == 0.0021
    assert value(samples, "sensor_read_errors_total", sensor="nvml", reason="timeout") == 2.0
    assert value(samples, "exporter_errors_total", exporter="summary") == 0.0
    assert value(samples, "build_info", version="0.1.0") == 1.0


def test_two_exporters_of_a_kind_are_one_series_because_prometheus_takes_no_second_one() -> None:
    failures = (("pushgateway", 2), ("summary", 0), ("pushgateway", 3))
    collector = SnapshotCollector(lambda: snapshot(exporter_errors=failures))
    (family,) = (each for each in collector.collect() if each.name == "carbonmon_exporter_errors")
    found = [(sample.labels["exporter"], sample.value) for sample in family.samples]
    assert found == [("pushgateway", 5.0), ("summary", 0.0)]


def test_a_run_and_its_devices_are_described() -> None:
    samples = scraped(node(1, 1, 0))
    assert (
        value(
            samples,
            "run_info",
            run_id="slurm-4242",
            name="train",
            scheduler="slurm",
            scheduler_job_id="4242",
            zone="DE",
            idle_policy="exclusive",
            uid="1000",
        )
        == 1.0
    )
    labels = {"component": "gpu", "device": gpu().id, "name": "NVIDIA A100-SXM4-80GB", "index": "0"}
    assert value(samples, "device_info", **labels) == 1.0


def test_a_device_without_an_index_has_an_empty_one() -> None:
    state = device_state(gpu())
    state = state._replace(device=type(state.device)("dram-0", "dram", "memory", methods=("tdp",)))
    labels = {"component": "dram", "device": "dram-0", "name": "memory", "index": ""}
    assert value(scraped(snapshot((), (state,))), "device_info", **labels) == 1.0


@for_each_row(
    ("key", "shown"),
    [
        ("team", "team"),
        ("cost-centre", "cost_centre"),
        ("größe", "gr__e"),
        ("1st", "label_1st"),
        ("", "label_"),
        ("__meta", "label___meta"),
        ("job", "label_job"),
        ("instance", "label_instance"),
        ("run_id", "label_run_id"),
        ("run-id", "label_run_id"),
        ("zone", "label_zone"),
        ("idle_policy", "label_idle_policy"),
        ("uid", "label_uid"),
        ("user", "user"),
        ("phase", "label_phase"),
    ],
)
def test_a_users_label_gets_a_name_that_prometheus_accepts(key: str, shown: str) -> None:
    labels = info_labels(run_info(labels=((key, "x"),)), "DE")
    assert labels[shown] == "x"
    assert len(labels) == 8
    assert list(labels)[-1] == shown


def test_no_label_of_a_user_can_pass_for_the_name_that_the_monitor_gives() -> None:
    labels = info_labels(run_info(labels=(("user", "bob"),), user="ada"), "DE")
    assert (labels["uid"], labels["user"], labels["label_user"]) == ("1000", "ada", "bob")


def test_a_run_of_the_monitors_own_user_has_that_number() -> None:
    assert info_labels(run_info()._replace(uid=None), "DE")["uid"] == str(os.geteuid())


def test_the_reserved_names_are_those_of_the_run_and_of_its_joules() -> None:
    ours = {*RUN_INFO.labels, *RUN_ENERGY.labels} - {"user"}
    assert ours | {"job", "instance"} == RESERVED


def test_labels_that_become_the_same_name_are_all_kept() -> None:
    labels = info_labels(run_info(labels=(("a-b", "1"), ("a.b", "2"), ("a_b", "3"))), "DE")
    assert (labels["a_b"], labels["a_b_2"], labels["a_b_3"]) == ("1", "2", "3")


def test_a_scrape_reads_the_snapshot_once() -> None:
    reads = []

    def latest() -> Snapshot:
        reads.append(1)
        return node(1, 0, 0)

    with serving(latest) as address:
        ask(address)
    assert len(reads) == 1


def test_the_last_snapshot_stays_served_after_the_end() -> None:
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)))
    final = node(1, 0, 0)
    place = exporter.start(lambda: final)
    try:
        exporter.finish(final)
        answer, _ = ask(("127.0.0.1", int(place.split(":")[2].split("/")[0])))
        assert answer.status == 200
    finally:
        exporter.close()


# The process's own metrics


def test_the_monitors_own_process_is_shown() -> None:
    assert {family.name for family in PROCESS_FAMILIES} <= names(scraped(snapshot()))


def test_the_described_process_metrics_are_those_that_the_library_gives() -> None:
    given = {(family.name, family.type) for family in ProcessCollector(registry=None).collect()}
    described = {(family.name, family.type) for family in OwnProcessCollector(Path("/proc")).describe()}
    assert described == given


def test_a_procfs_without_the_expected_lines_costs_only_the_process_metrics(tmp_path: Path) -> None:
    (tmp_path / "self" / "fd").mkdir(parents=True)
    (tmp_path / "stat").write_text("btime 1795000000\n")
    (tmp_path / "self" / "stat").write_text("1 (x) S\n")
    (tmp_path / "self" / "limits").write_text("")
    assert list(OwnProcessCollector(tmp_path).collect()) == []
    assert list(OwnProcessCollector(tmp_path / "missing").collect()) == []


# The table of families and its page


def test_every_family_that_is_described_is_shown_and_the_other_way_round() -> None:
    shown = node()
    run = shown.runs[0]._replace(ended_at_s=1_795_003_600.0, water_l=1.5, costs=(Cost("EUR", 0.21, 3.6e6),))
    going_on = shown.runs[0]._replace(
        forecast=forecast(),
        budgets=(budget_state(),),
        pauses=Pauses(300.0),
        node_charges=(NodeCharge("acpi", 5e6, 500.0, 400.0, 600.0),),
        node_meters=(NodeEnergy("acpi", 0.0, 9e6, 8e6, 3600.0),),
    )
    full = shown._replace(
        runs=(run, going_on),
        intensity=intensity(timestamp_s=1.0),
        wue_l_per_kwh=0.3,
        price_per_kwh=0.21,
        currency="EUR",
        fetch_errors=(("uk", "timeout", 2),),
        node_meters=(NodeMeterState(NodeEnergy("acpi", 0.0, 9e6), 2500.0, 0.8, None, True),),
    )
    collector = SnapshotCollector(lambda: full)
    collected = {(family.name, family.type, family.documentation) for family in collector.collect()}
    described = {(family.name, family.type, family.documentation) for family in collector.describe()}
    assert collected == described
    assert len(described) == len(FAMILIES)


def test_every_sample_has_the_labels_of_the_table() -> None:
    shown = node(1, 1, 1, run_info(user="ada"))
    run = shown.runs[0]._replace(ended_at_s=1_795_003_600.0)
    collector = SnapshotCollector(lambda: shown._replace(runs=(run,), intensity=intensity(timestamp_s=1.0)))
    labels = {family.name: set(family.labels) for family in FAMILIES}
    for family in collector.collect():
        for sample in family.samples:
            assert set(sample.labels) == labels[sample.name]


def test_the_page_about_the_metrics_is_up_to_date() -> None:
    path = Path(__file__).parents[2] / "docs" / "use" / "metrics.md"
    assert path.read_text(encoding="utf-8") == docs.page(), (
        "write it again: python -m carbonmon_exporters.docs > docs/use/metrics.md"
    )


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
