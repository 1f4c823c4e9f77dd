"""The exporter `otlp`: what a collector decodes, and what becomes of us when it does not answer."""

from __future__ import annotations

import gzip
import os
import platform
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from carbonmon_exporters.otlp import OtlpExporter, open_exporter
from carbonmon_exporters.push import pusher
from carbonmon_exporters.push.otlpnames import otlp_name
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from carbonmon.core import metrics as families
from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.ports import ExporterSettings
from carbonmon.monitor.guard import GuardedExporter
from tests.support.gridserver import GridServer, Reply
from tests.support.otlp import decoded, exported
from tests.support.receivers import Receiver, eventually
from tests.support.records import START_S, dram, gpu, node, run_info, run_state, run_total

HOST = platform.node()


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(pusher, "RETRY_S", 0.01)


def run(run_id: str = "mine", energy_j: float = 500.0) -> RunState:
    row = run_total(gpu().id, "gpu", "counter", energy_j)
    return run_state(run_info(run_id), (row,))


def at(clock_s: float, *runs: RunState, continued: bool = False) -> Snapshot:
    whole = node(1, 1, 1)
    return whole._replace(runs=runs, clock_s=clock_s, samples=1 + int(clock_s), continued=continued)


def test_a_run_s_energy_arrives_with_its_labels_its_unit_and_since_when_it_counts(collector: Receiver):
    (shown,) = exported(collector, node(1, 1, 1))
    found = {point.labels["device"]: point for point in shown["carbonmon.run.energy"] if point.value}
    point = found["package-0"]
    assert (point.value, point.unit, point.is_counter) == (300_000.0, "J", True)
    assert point.labels == {
        "run_id": "slurm-4242",
        "phase": "main",
        "component": "cpu",
        "device": "package-0",
        "method": "counter",
    }
    assert (point.start_s, point.at_s) == (START_S, START_S + 3600.0)


def test_devices_follow_the_conventions_for_hardware_and_estimates_say_so(collector: Receiver):
    (shown,) = exported(collector, node(1, 1, 1))
    energy = {(p.labels["hw.id"], p.labels["carbonmon.method"]): p for p in shown["hw.energy"]}
    memory = energy["dram-0", "tdp"]
    assert (memory.value, memory.unit, memory.is_counter) == (40_000.0, "J", True)
    assert memory.labels["hw.type"] == "memory"
    card = energy[gpu().id, "counter"]
    assert (card.value, card.labels["hw.type"], card.labels["hw.name"]) == (900_000.0, "gpu", gpu().name)
    power = {point.labels["hw.id"]: point for point in shown["hw.power"]}
    assert (power["dram-0"].value, power["dram-0"].unit, power["dram-0"].is_counter) == (11.5, "W", False)
    assert power["dram-0"].labels["carbonmon.methods"] == "tdp"
    assert power["package-0"].labels["carbonmon.methods"] == "counter,tdp"
    assert not any(name.startswith("hw.host") for name in shown), "the sum of devices is not the whole host"


NODE_METERS = ("power", "energy", "covered_energy", "coverage", "unobserved", "unattributed_energy")


def test_everything_that_a_scrape_shows_arrives(collector: Receiver):
    (shown,) = exported(collector, node(2, 2, 2))
    expected = {otlp_name(family)[0] for family in families.FAMILIES}
    unknown_here = {
        "carbonmon.run.water",
        "carbonmon.run.cost",
        "carbonmon.run.end_time",
        "carbonmon.grid.intensity_timestamp",
        "carbonmon.grid.fetch_errors",
        "carbonmon.wue",
        "carbonmon.price",
        *(f"carbonmon.run.forecast_{what}" for what in ("energy", "emissions", "cost", "end_time")),
        *(f"carbonmon.node.{what}" for what in NODE_METERS),
        *("carbonmon.run.charged_energy", "carbonmon.run.charged_emissions"),
        *(f"carbonmon.run.node_meter_{what}" for what in ("energy", "covered_energy", "unobserved")),
        *("carbonmon.run.budget_limit", "carbonmon.run.budget_spent"),
        *("carbonmon.run.paused", "carbonmon.run.pause"),
    }
    assert set(shown) == expected - unknown_here | {"hw.energy", "hw.power"}


def test_what_is_unknown_is_absent(collector: Receiver):
    whole = node(1, 0, 0)
    silent = whole.devices[0]._replace(power_w=None, utilization_ratio=None)
    (shown,) = exported(collector, whole._replace(devices=(silent,)))
    assert "hw.power" not in shown
    assert "carbonmon.device.power" not in shown
    assert "hw.energy" in shown


SUFFIXES, PLAIN, DOTTED_SUFFIXES, DOTTED = range(4)
"""Prometheus' strategies: UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
NoUTF8EscapingWithSuffixes and NoTranslation, the columns of the table in push.md."""


def in_prometheus(name: str, unit: str, kind: str, strategy: int = SUFFIXES) -> str:
    """The name that Prometheus and Mimir make of it (their otlptranslator)."""
    base = name.replace(".", "_") if strategy in (SUFFIXES, PLAIN) else name
    if strategy in (PLAIN, DOTTED):
        return base
    units = {"J": "joules", "W": "watts", "g": "grams", "s": "seconds", "1": ""}
    main, _, per = unit.partition("/")
    known = name.replace(".", "_").split("_")
    suffixes = ("" if "{" in main else units.get(main, main), f"per_{per}" if per else "")
    words = [base, *(word for word in suffixes if word and word not in known)]
    if kind == "counter":
        words.append("total")
    if unit == "1" and kind == "gauge":
        words.append("ratio")
    return "_".join(words)


def test_the_page_s_table_of_names_is_by_the_rules_of_prometheus():
    sent = {otlp_name(family)[0]: (otlp_name(family)[1], family.kind) for family in families.FAMILIES}
    sent |= {"hw.energy": ("J", "counter"), "hw.power": ("W", "gauge")}
    page = (Path(__file__).parents[2] / "docs/use/push.md").read_text()
    rows = [re.findall(r"`([^`]+)`", line) for line in page.splitlines() if line.startswith(("| `c", "| `h"))]
    assert len(rows) >= 7
    for name, *shown in rows:
        assert shown == [in_prometheus(name, *sent[name], strategy) for strategy in range(4)]


OTHER_IN_PROMETHEUS = {
    "carbonmon_run_water_liters_total": "carbonmon_run_water_L_total",
    "carbonmon_grid_intensity_grams_per_kilowatt_hour": "carbonmon_grid_intensity_grams_per_kWh",
    "carbonmon_wue_liters_per_kilowatt_hour": "carbonmon_wue_L_per_kWh",
    "carbonmon_price_per_kilowatt_hour": "carbonmon_price_per_kWh",
}


def test_prometheus_makes_the_names_of_a_scrape_of_them_again():
    again = {family.name: in_prometheus(*otlp_name(family), family.kind) for family in families.FAMILIES}
    assert {name: made for name, made in again.items() if made != name} == OTHER_IN_PROMETHEUS


def test_runs_belong_to_the_host_and_devices_to_this_monitor(collector: Receiver):
    (shown,) = exported(collector, node(1, 1, 1))
    of_run = shown["carbonmon.run.energy"][0].resource
    of_device = shown["hw.energy"][0].resource
    common = {"service.name": "carbonmon", "service.version": "0.1.0", "host.name": HOST}
    assert of_run == {**common, "service.instance.id": HOST}
    assert of_device == {**common, "service.instance.id": f"{HOST}:{os.getpid()}"}


def test_what_a_run_s_figures_are_joined_with_has_the_run_s_instance_and_id(collector: Receiver):
    """Rules and dashboards multiply by PUE and uncertainty on (job, instance)."""
    (shown,) = exported(collector, at(0.0, run("a"), run("b")))
    for family in (families.PUE, families.UNCERTAINTY, families.GRID_INTENSITY, families.DEVICE_INFO):
        points = shown[otlp_name(family)[0]]
        found = {(point.resource["service.instance.id"], point.labels.get("run_id")) for point in points}
        assert found == {(HOST, "a"), (HOST, "b"), (f"{HOST}:{os.getpid()}", None)}, family.name


def test_a_machine_that_has_another_name_has_it_here_as_well(collector: Receiver):
    """In a cluster the daemon's pod has a new name after each restart, and the runs' series are to go on."""
    exporter = open_exporter(ExporterSettings(argument=collector.url, host="node-7"))
    exporter.start(lambda: at(0.0))
    exporter.finish(node(1, 1, 1))
    exporter.close()
    (shown,) = map(decoded, collector.received)
    of_run, of_device = (shown[name][0].resource for name in ("carbonmon.run.energy", "hw.energy"))
    assert (of_run["host.name"], of_run["service.instance.id"]) == ("node-7", "node-7")
    assert of_device["service.instance.id"] == f"node-7:{os.getpid()}"


def test_a_run_that_is_gone_on_with_keeps_its_start_and_its_total(collector: Receiver):
    first, _ = exported(collector, at(0.0, run(), continued=True), at(20.0, run(), continued=True))
    (energy,) = first["carbonmon.run.energy"]
    assert (energy.value, energy.start_s) == (500.0, START_S)
    assert {point.start_s for point in first["hw.energy"]} == {0.0}, "unknown: another monitor began"
    assert sum(point.value for point in first["hw.energy"]) == 1_241_000.0


def test_devices_count_since_the_monitor_began(collector: Receiver):
    before = at(0.0)._replace(at_s=START_S + 100.0)
    shown = exported(collector, before, at(20.0, run()))
    assert {point.start_s for point in shown[-1]["hw.energy"]} == {START_S + 100.0}
    assert all(point.start_s == 0.0 for point in shown[-1]["hw.power"])


def test_no_series_is_left_out_or_added_up_however_many_there_are(collector: Receiver):
    """OpenTelemetry's own SDK adds up what is beyond 2000."""
    runs = tuple(run(f"run-{number}", 1.0) for number in range(2001))
    (shown,) = exported(collector, at(0.0, *runs))
    assert len(shown["carbonmon.run.energy"]) == 2001
    assert not any("otel.metric.overflow" in point.labels for point in shown["carbonmon.run.energy"])


def test_a_job_s_own_choices_for_opentelemetry_change_neither_names_nor_sums(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "trainer")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=vision,host.name=elsewhere")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20eHg=")
    _, second = exported(collector, at(0.0, run()), at(20.0, run()))
    (energy,) = second["carbonmon.run.energy"]
    assert energy.value == 500.0
    assert (energy.resource["service.name"], energy.resource["host.name"]) == ("carbonmon", HOST)
    assert energy.resource["team"] == "vision"
    headers = {name.lower(): value for name, value in collector.received[0].headers.items()}
    assert headers["authorization"] == "Basic eHg="
    assert headers["content-type"] == "application/x-protobuf"


def test_messages_are_packed_and_headers_are_those_of_metrics_where_the_environment_says_so(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "X-Scope-OrgID=all")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "X-Scope-OrgID=lab, broken, X-Two = a%20b")
    exporter = OtlpExporter(collector.url)
    exporter.finish(at(0.0, run()))
    exporter.close()
    (request,) = collector.received
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert (headers["x-scope-orgid"], headers["x-two"]) == ("lab", "a b")
    assert headers["content-encoding"] == "gzip"
    assert "carbonmon.run.energy" in decoded(request._replace(body=gzip.decompress(request.body)))


def test_a_header_that_would_be_two_is_an_error_that_does_not_repeat_it(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=hunter2%0d%0aX: y")
    exporter = OtlpExporter(collector.url)
    with pytest.raises(CarbonmonError, match="no header may hold") as error:
        exporter.finish(at(0.0, run()))
    exporter.close()
    assert "hunter2" not in str(error.value)


def test_it_sends_every_15_s_and_at_the_end(collector: Receiver):
    exporter = OtlpExporter(collector.url)
    for number, clock_s in enumerate((0.0, 15.0), start=1):
        exporter.checkpoint(at(clock_s, run()))
        collector.wait_for(number)
        exporter.checkpoint(at(clock_s + 5.0, run()))
    exporter.finish(at(21.0, run()))
    exporter.close()
    assert len(collector.received) == 3


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (400, b"", "answers 400 Bad Request"),
        (404, b"", "answers 404 Not Found"),
        (302, b"", "answers 302 Found"),
        (200, b"\xff\xff", None),
        (204, b"", None),
        (200, b"<html>", None),
    ],
)
def test_what_is_not_a_yes_is_an_error(collector: Receiver, status: int, answer: bytes, expected: str | None):
    collector.status, collector.answer = status, answer
    exporter = OtlpExporter(collector.url)
    if expected is None:
        exporter.finish(at(0.0, run()))
    else:
        with pytest.raises(CarbonmonError, match=expected):
            exporter.finish(at(0.0, run()))
    exporter.close()


def test_a_collector_that_refuses_a_part_is_an_error_in_its_own_words(collector: Receiver):
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 3
    answer.partial_success.error_message = "out of order"
    collector.answer = answer.SerializeToString()
    exporter = OtlpExporter(collector.url)
    with pytest.raises(CarbonmonError, match="refuses a part of the metrics: out of order"):
        exporter.finish(at(0.0, run()))
    exporter.close()


@pytest.mark.parametrize("no_proxy", ["", "127.0.0.0/8"])
def test_a_collector_on_this_machine_is_sent_to_whatever_proxy_the_shell_names(
    no_proxy: str, collector: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", no_proxy)
    exporter = OtlpExporter(collector.url)
    exporter.finish(at(0.0, run()))
    exporter.close()
    assert len(collector.received) == 1


def test_a_collector_elsewhere_is_sent_to_through_the_proxy_which_errors_name(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("http_proxy", collector.url)
    exporter = OtlpExporter("http://collector.example:4318/v1/metrics")
    exporter.finish(at(0.0, run()))
    assert collector.received[0].path == "http://collector.example:4318/v1/metrics"
    collector.close()
    place = collector.url.removeprefix("http://")
    with pytest.raises(CarbonmonError, match=f"reached through the proxy {place}: Connection refused"):
        exporter.finish(at(1.0, run()))
    exporter.close()


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_CERTIFICATE", "REQUESTS_CA_BUNDLE"])
def test_a_collector_s_certificate_is_verified_by_the_authority_that_the_environment_names(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with GridServer(lambda request: Reply(b""), context) as server:
        exporter = OtlpExporter(server.url)
        with pytest.raises(CarbonmonError, match="cannot be trusted: its certificate cannot be verified"):
            exporter.finish(at(0.0, run()))
        exporter.close()
        assert server.requests == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "another.pem"))
        monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
        exporter = OtlpExporter(server.url)
        exporter.finish(at(0.0, run()))
        exporter.close()
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["it hangs", "it fails", "nobody is there"])
def test_a_collector_that_does_not_work_is_told_of_once_by_us_and_never_by_the_sdk(
    collector: Receiver, fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    if fault == "it hangs":
        collector.open.clear()
    elif fault == "it fails":
        collector.status = 503
    else:
        collector.close()
    guarded = GuardedExporter(OtlpExporter(collector.url, timeout_s=0.3))
    guarded.start(lambda: at(0.0))
    guarded.checkpoint(at(0.0, run()))
    eventually(lambda: not guarded.checkpoint(at(1.0, run())), "the failure")
    for clock_s in (5.0, 16.0):
        assert not guarded.checkpoint(at(clock_s, run()))
    guarded.close()
    assert [record.name for record in caplog.records] == ["carbonmon.monitor.guard"]
    words = {
        "it hangs": "did not answer in 0.3 s",
        "it fails": "answers 503 Service Unavailable",
        "nobody is there": "cannot be reached: Connection refused",
    }
    assert words[fault] in caplog.text
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("", "/v1/metrics"),
        ("/", "/v1/metrics"),
        ("/v1/metrics", "/v1/metrics"),
        ("/otlp", "/otlp/v1/metrics"),
        ("/opentelemetry", "/opentelemetry/v1/metrics"),
        ("/opentelemetry/api/v1/push", "/opentelemetry/api/v1/push"),
    ],
)
def test_the_signal_s_path_is_added_to_an_address_that_lacks_it(
    collector: Receiver, argument: str, path: str
):
    exporter = open_exporter(ExporterSettings(argument=collector.url + argument))
    assert exporter.start(lambda: at(0.0)) == f"sent to {collector.url}{path}"
    exporter.finish(at(0.0, run()))
    exporter.close()
    assert collector.received[0].path == path


@pytest.mark.parametrize("argument", ["", "collector:4317", "grpc://collector:4317"])
def test_an_address_that_is_none_is_an_error_that_shows_a_good_one(argument: str):
    with pytest.raises(ConfigError, match="give for example otlp:http://collector:4318"):
        open_exporter(ExporterSettings(argument=argument))


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match="set OTEL_EXPORTER_OTLP_HEADERS=") as error:
        open_exporter(ExporterSettings(argument="http://me:hunter2@collector:4318"))
    assert "hunter2" not in str(error.value)


def test_opentelemetry_is_imported_only_when_the_exporter_opens():
    program = (
        "import sys\n"
        "from carbonmon.service import plugins, single_run\n"
        "for name in ('textfile', 'pushgateway', 'otlp'):\n"
        "    plugins.load('carbonmon.exporters', name)\n"
        "heavy = {'opentelemetry', 'requests', 'google'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_opentelemetry_the_error_says_what_to_install():
    program = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "from carbonmon.cli import main\n"
        "sys.argv = ['carbonmon', 'run', '--exporter', 'otlp:http://collector:4318', '--', 'true']\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 2
    assert "pip install 'carbonmon[otlp]'" in ended.stderr


def test_a_device_that_only_an_estimate_knows_is_never_told_as_measured(collector: Receiver):
    (shown,) = exported(collector, node(0, 0, 2))
    assert {point.labels["carbonmon.method"] for point in shown["hw.energy"]} == {"tdp"}
    assert {point.labels["method"] for point in shown["carbonmon.device.energy"]} == {"tdp"}
    assert dram().methods == ("tdp",)


def test_the_names_that_come_back_otherwise_are_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "use" / "push.md").read_text(encoding="utf-8")
    for name in OTHER_IN_PROMETHEUS.values():
        assert f"`{name}`" in page
