"""The metrics: what they say, and that no client can hold up a scrape or the exit."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from carbonmon_exporters import docs
from carbonmon_exporters.collector import OwnProcessCollector, SnapshotCollector
from carbonmon_exporters.prometheus import PrometheusExporter
from carbonmon_exporters.runs import info_labels
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.process_collector import ProcessCollector

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
from tests.support.scraping import ask, serving

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


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
