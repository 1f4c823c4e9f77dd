"""The nodes of a run add up to one summary of the same shape, and nothing is counted twice."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.cli import report
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity, Rank, SensorState
from carbonmon.core.node_meter import NodeCharge, NodeEnergy
from carbonmon.runs.report.csv_table import csv_text
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.report.merging import check_no_duplicates, merged
from carbonmon.runs.report.modelcard import model_card_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import write_summary
from carbonmon.runs.summary.node_meters import charge_summary, node_meters_summary
from carbonmon.runs.summary.text import table_text
from tests.fuzz.folders import invoke
from tests.support.records import (
    START_S,
    device_state,
    gpu,
    intensity,
    node,
    package,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.strictness import strict_schema

VALIDATOR = jsonschema.Draft202012Validator(strict_schema())

Summary = dict[str, Any]


def on(
    host: str,
    *,
    joules: float = 100.0,
    run_id: str = "slurm-4242",
    name: str = "train",
    start_s: float = START_S,
    duration_s: float = 3600.0,
    now: Intensity | None = None,
    pue_ratio: float = 1.0,
    state: Any = "final",
    sensors: tuple[SensorState, ...] = (SensorState("nvml", "used", ""),),
    **run: Any,
) -> Summary:
    """What a node with one package says of its part of a run; its emissions follow from its intensity."""
    now = now or intensity()
    info = run_info(run_id, name=name)._replace(host=host, started_at_s=start_s)
    grams = joules / 3.6e6 * pue_ratio * now.g_per_kwh
    ended = {"ended_at_s": start_s + duration_s, "exit_code": 0} if state == "final" else {}
    totals = (run_total("package-0", "cpu", "counter", joules, emissions_g=grams),)
    made = run_state(info, totals, duration_s=duration_s, **{**ended, **run})
    shown = snapshot((made,), (device_state(package()),), now=now, sensors=sensors, pue_ratio=pue_ratio)
    summary: Summary = summarize(shown, made._replace(monitor_cpu_s=1.0), state, 30_000_000)
    VALIDATOR.validate(summary)
    return summary


def whole(*parts: Summary) -> Summary:
    """The merged summary, which has the shape of any other and leaves its parts as they were."""
    before = copy.deepcopy(parts)
    summary = merged(parts)
    assert parts == before
    VALIDATOR.validate(json.loads(json.dumps(summary, allow_nan=False)))
    return summary


# Amounts


def test_energies_and_emissions_of_the_nodes_add_up_with_their_ranges() -> None:
    summary = whole(on("a", joules=100.0), on("b", joules=50.0))
    energy, carbon = summary["energy"], summary["carbon"]
    assert energy["total_j"] == 150.0
    assert energy["total_kwh"] == pytest.approx(150.0 / 3.6e6)
    assert (energy["low_j"], energy["high_j"]) == (pytest.approx(142.5), pytest.approx(157.5))
    assert carbon["emissions_g"] == pytest.approx(0.015)
    assert carbon["low_g"] == pytest.approx(0.015 * 0.9 * 0.95)
    assert carbon["high_g"] == pytest.approx(0.015 * 1.2 * 1.05)


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_every_split_of_the_merged_energy_adds_up_in_any_order(joules: list[float], chance: Any) -> None:
    parts = [on(f"node-{number}", joules=amount) for number, amount in enumerate(joules)]
    expected = whole(*parts)["energy"]
    chance.shuffle(parts)
    energy = whole(*parts)["energy"]
    assert energy["total_j"] == pytest.approx(sum(joules))
    assert energy["total_j"] == pytest.approx(expected["total_j"])
    for split in (
        energy["devices"],
        energy["components"].values(),
        energy["methods"].values(),
        energy["phases"].values(),
    ):
        assert sum(part["energy_j"] for part in split) == pytest.approx(energy["total_j"])


def test_a_whole_node_twice_is_twice_a_whole_node() -> None:
    shown = node()
    one = summarize(shown, shown.runs[0], "final")
    other = copy.deepcopy(one)
    other["run"]["host"] = "node-8"
    energy = whole(one, other)["energy"]
    for key in ("total_j", "low_j", "high_j"):
        assert energy[key] == pytest.approx(2 * one["energy"][key])
    assert energy["measured_ratio"] == pytest.approx(one["energy"]["measured_ratio"])
    assert energy["node"]["total_j"] == pytest.approx(2 * one["energy"]["node"]["total_j"])
    assert energy["node"]["share_ratio"] == pytest.approx(one["energy"]["node"]["share_ratio"])
    assert energy["methods"]["tdp"]["low_ratio"] == pytest.approx(
        one["energy"]["methods"]["tdp"]["low_ratio"]
    )
    assert len(energy["devices"]) == 2 * len(one["energy"]["devices"])


def test_the_measured_share_is_that_of_all_energy() -> None:
    summary = whole(on("a", joules=100.0), tdp_node("b", 300.0))
    assert summary["energy"]["measured_ratio"] == pytest.approx(0.25)
    assert summary["energy"]["components"]["cpu"]["measured_ratio"] == pytest.approx(0.25)
    assert summary["energy"]["methods"]["tdp"]["energy_j"] == 300.0


def tdp_node(host: str, joules: float) -> Summary:
    info = run_info()._replace(host=host)
    made = run_state(info, (run_total("package-0", "cpu", "tdp", joules),))
    shown = snapshot((made,), (device_state(package()),))
    summary: Summary = summarize(shown, made, "final")
    return summary


@pytest.mark.parametrize("key", ["low_j", "high_j", "recovered_j"])
def test_what_one_node_does_not_know_the_whole_does_not_know(key: str) -> None:
    lacking = on("b")
    lacking["energy"][key] = None
    assert whole(on("a"), lacking)["energy"][key] is None


def test_a_node_that_drew_nothing_changes_no_ratio() -> None:
    summary = whole(on("a"), on("b", joules=0.0))
    assert summary["energy"]["measured_ratio"] == 1.0
    assert summary["carbon"]["pue"] == 1.0
    assert whole(on("a", joules=0.0), on("b", joules=0.0))["energy"]["measured_ratio"] is None


# Carbon


def test_intensity_and_pue_are_weighted_by_energy() -> None:
    clean, dirty = intensity(100.0), intensity(500.0)
    summary = whole(
        on("a", joules=300.0, now=clean, pue_ratio=1.0), on("b", joules=100.0, now=dirty, pue_ratio=2.0)
    )
    carbon = summary["carbon"]
    assert carbon["pue"] == pytest.approx(1.25)
    assert carbon["emissions_g"] == pytest.approx((300 * 100 + 100 * 2 * 500) / 3.6e6)
    kwh = summary["energy"]["total_kwh"]
    assert carbon["intensity"]["mean_g_per_kwh"] * kwh * carbon["pue"] == pytest.approx(carbon["emissions_g"])


def test_different_origins_are_listed_and_the_largest_is_named() -> None:
    direct = intensity()._replace(zone="CA-QC", basis="direct", source="Green Algorithms")
    carbon = whole(on("a", joules=100.0), on("b", joules=300.0, now=direct))["carbon"]
    assert (carbon["intensity"]["zone"], carbon["intensity"]["basis"]) == ("CA-QC", "direct")
    assert "DE, Ember, table, 2024; CA-QC, Green Algorithms, table, 2024" in carbon["intensity"]["note"]
    assert "different basis are added: lifecycle, direct" in carbon["intensity"]["note"]
    assert {source["zone"]: source["energy_j"] for source in carbon["sources"]} == {
        "DE": 100.0,
        "CA-QC": 300.0,
    }


def test_equal_origins_stay_one_without_a_note() -> None:
    carbon = whole(on("a"), on("b"))["carbon"]
    assert carbon["intensity"] == on("a")["carbon"]["intensity"]
    assert len(carbon["sources"]) == 1


def test_water_and_money_are_added_where_they_are_known() -> None:
    parts = [on("a", joules=100.0), on("b", joules=300.0)]
    for part, litres in zip(parts, (1.0, 2.0), strict=True):
        amounts = {"litres": litres, "low_litres": litres, "high_litres": litres}
        part["water"] = {**amounts, "wue_l_per_kwh": 1.8, "source": "provider"}
    ends = {"low_amount": None, "high_amount": None, "priced_ratio": 1.0, "source": "user"}
    parts[0]["costs"] = [{"currency": "EUR", "amount": 5.0, **ends}]
    summary = whole(*parts)
    assert summary["water"]["litres"] == 3.0
    assert summary["water"]["wue_l_per_kwh"] == 1.8
    (cost,) = summary["costs"]
    assert (cost["currency"], cost["amount"], cost["priced_ratio"]) == ("EUR", 5.0, 0.25)
    assert summary["water"]["known_ratio"] == 1.0, "of a file that does not say so"
    parts[0]["water"].update(known_ratio=0.5, wue_l_per_kwh=0.1)
    merged = whole(*parts)["water"]
    assert merged["known_ratio"] == pytest.approx((50.0 + 300.0) / 400.0)
    assert merged["wue_l_per_kwh"] == pytest.approx((50.0 * 0.1 + 300.0 * 1.8) / 350.0)
    parts[1]["water"] = None
    assert whole(*parts)["water"] is None, "a part alone would look like the whole"


def settled(part: Summary, grams: float) -> Summary:
    facts = {**part["carbon"]["intensity"], "source": f"source of {part['run']['host']}", "kind": "live"}
    facts["mean_g_per_kwh"] = grams / part["energy"]["total_kwh"]
    del facts["year"]
    part["settled"] = {
        "emissions_g": grams,
        "low_g": grams,
        "high_g": grams,
        "pue": 1.0,
        "settled_at": "2026-11-24T10:00:00.000Z",
        "intensity": facts,
        "covered_ratio": 1.0,
    }
    return part


def test_a_forecast_in_one_node_makes_the_settled_whole_a_forecast() -> None:
    parts = [settled(on("a", joules=500.0), 10.0), settled(on("b"), 5.0)]
    parts[1]["settled"]["intensity"]["kind"] = "forecast"
    assert whole(*parts)["settled"]["intensity"]["kind"] == "forecast"


def test_settled_emissions_are_added_where_every_node_is_settled() -> None:
    summary = whole(settled(on("a"), 10.0), settled(on("b"), 5.0))
    assert summary["settled"]["emissions_g"] == 15.0
    assert summary["settled"]["covered_ratio"] == 1.0
    intensity = summary["settled"]["intensity"]
    assert "year" not in intensity
    assert "DE, source of a, live; DE, source of b, live" in intensity["note"]
    assert intensity["mean_g_per_kwh"] == pytest.approx(15.0 / summary["energy"]["total_kwh"])
    summary = whole(settled(on("a"), 10.0), on("b"))
    assert "settled" not in summary
    assert "1 of 2 parts are settled" in summary["carbon"]["intensity"]["note"]


# Time and phases


def test_nodes_that_run_at_the_same_time_last_as_long_as_one_of_them_runs() -> None:
    run = whole(on("a", duration_s=3600.0), on("b", start_s=START_S + 600, duration_s=3600.0))["run"]
    assert run["started_at"] == "2026-11-18T11:06:40.000Z"
    assert run["ended_at"] == "2026-11-18T12:16:40.000Z"
    assert run["duration_s"] == pytest.approx(4200.0)


def test_the_time_between_two_parts_is_no_part_of_the_run() -> None:
    summary = whole(on("a", duration_s=100.0), on("a", start_s=START_S + 50_000, duration_s=200.0))
    assert summary["run"]["duration_s"] == pytest.approx(300.0)
    assert summary["run"]["host"] == "a"


def test_a_phase_lasts_as_long_as_on_the_node_that_is_longest_in_it() -> None:
    first = on("a", duration_s=100.0, phases_s=(("main", 10.0), ("train", 90.0)))
    second = on("b", duration_s=100.0, phases_s=(("main", 40.0), ("eval", 60.0)))
    again = on("a", start_s=START_S + 500, duration_s=10.0, phases_s=(("main", 3.0), ("train", 7.0)))
    phases = whole(first, second, again)["energy"]["phases"]
    assert list(phases) == ["main", "train", "eval"]
    assert {name: phase["duration_s"] for name, phase in phases.items()} == {
        "main": 40.0,
        "train": 97.0,
        "eval": 60.0,
    }


def test_an_unknown_time_makes_the_whole_unknown() -> None:
    lacking = on("b")
    lacking["run"].update(started_at=None, ended_at=None, duration_s=None)
    run = whole(on("a"), lacking)["run"]
    assert (run["started_at"], run["ended_at"], run["duration_s"]) == (None, None, None)


# What the run was


def test_the_first_that_failed_says_how_the_run_ended() -> None:
    killed = on("b", start_s=START_S + 1, exit_code=None, signal=9)
    failed = on("c", start_s=START_S + 2, exit_code=3)
    run = whole(on("a"), failed, killed)["run"]
    assert (run["exit_code"], run["signal"]) == (None, 9)
    assert whole(on("a"), failed)["run"]["exit_code"] == 3
    assert whole(on("a"), on("b"))["run"]["exit_code"] == 0
    assert whole(on("a"), on("b", exit_code=None))["run"]["exit_code"] is None


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (("final", "final"), "final"),
        (("final", "running"), "running"),
        (("final", "recovered"), "recovered"),
        (("recovered", "running"), "running"),
    ],
)
def test_a_run_is_final_only_if_all_its_nodes_are(states: tuple[str, str], state: str) -> None:
    assert whole(*[on(host, state=each) for host, each in zip("ab", states, strict=True)])["state"] == state


def test_who_took_part_is_listed_and_what_differs_is_not_hidden() -> None:
    one = on("a", ranks=(Rank(0, 0, 2),), cpu_s=5.0, progress=(10.0, 20.0))
    other = on("b", ranks=(Rank(1, 0, 2),), cpu_s=7.0, progress=(8.0, 20.0))
    one["run"]["labels"] = {"team": "vision", "rack": "1"}
    other["run"]["labels"] = {"team": "vision", "rack": "2"}
    run = whole(one, other)["run"]
    assert run["host"] == "a,b"
    assert [rank["rank"] for rank in run["ranks"]] == [0, 1]
    assert run["cpu_s"] == 12.0
    assert run["progress"] == {"step": 8.0, "total": 20.0}
    assert run["labels"] == {"team": "vision", "rack": "1, 2"}


def test_many_hosts_are_a_list_with_an_end() -> None:
    run = whole(*(on(f"node-{number:04d}") for number in range(100)))["run"]
    assert run["host"].startswith("node-0000,node-0001,")
    assert run["host"].endswith("more")
    assert len(run["host"]) < 240


def test_monitors_are_one_with_the_hosts_of_what_differs() -> None:
    lacking = SensorState("nvml", "not used", "no driver")
    monitor = whole(on("a"), on("b", sensors=(lacking,)))["monitor"]
    assert (monitor["samples"], monitor["own_cpu_s"], monitor["own_peak_rss_bytes"]) == (
        7200,
        2.0,
        30_000_000,
    )
    assert monitor["sources"] == [
        {"sensor": "nvml", "state": "used", "reason": "on a"},
        {"sensor": "nvml", "state": "not used", "reason": "on b: no driver"},
    ]
    assert whole(on("a"), on("b"))["monitor"]["sources"] == [
        {"sensor": "nvml", "state": "used", "reason": None}
    ]


# Devices


def test_a_device_that_two_hosts_have_gets_its_hosts_name() -> None:
    devices = whole(on("a.example.org"), on("b.example.org"))["energy"]["devices"]
    assert [device["id"] for device in devices] == ["a/package-0", "b/package-0"]
    devices = whole(on("a.north"), on("a.south"))["energy"]["devices"]
    assert [device["id"] for device in devices] == ["a.north/package-0", "a.south/package-0"]


def test_a_device_that_is_unique_keeps_its_id() -> None:
    shown = snapshot(
        (run_state(run_info()._replace(host="b"), (run_total(gpu().id, "gpu", "counter", 1.0),)),),
        (device_state(gpu()),),
    )
    devices = whole(on("a"), summarize(shown, shown.runs[0], "final"))["energy"]["devices"]
    assert {device["id"] for device in devices} == {"package-0", gpu().id}


def test_parts_of_one_host_one_after_the_other_are_one_device() -> None:
    one, other = on("a", duration_s=100.0), on("a", start_s=START_S + 500, duration_s=300.0, joules=40.0)
    one["energy"]["devices"][0].update(mean_power_w=100.0, peak_power_w=150.0, unobserved_s=0.0)
    other["energy"]["devices"][0].update(mean_power_w=200.0, peak_power_w=120.0, unobserved_s=100.0)
    (device,) = whole(one, other)["energy"]["devices"]
    assert (device["id"], device["energy_j"], device["methods"]) == ("package-0", 140.0, {"counter": 140.0})
    assert device["mean_power_w"] == pytest.approx((100 * 100 + 200 * 200) / 300)
    assert (device["peak_power_w"], device["unobserved_s"]) == (150.0, 100.0)


# What is refused


def test_the_same_summary_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run slurm-4242 \(train\) of host a, started .* is given twice"):
        merged([on("a"), on("b"), on("a")])
    running = on("a", state="running", joules=50.0)
    with pytest.raises(ConfigError, match="given twice"):
        check_no_duplicates([running, on("a")])


def test_one_host_measured_twice_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match="of the same time"):
        merged([on("a"), on("a", start_s=START_S + 10)])


def test_a_merged_summary_and_one_of_its_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="of the same time"):
        merged([whole(on("a"), on("b")), on("b", start_s=START_S + 1)])


def test_merged_summaries_of_different_nodes_can_be_merged_again() -> None:
    parts = [on(host) for host in "abcd"]
    again = whole(whole(*parts[:2]), whole(*parts[2:]))
    assert again["energy"]["total_j"] == whole(*parts)["energy"]["total_j"]
    assert again["run"]["host"] == "a,b,c,d"


def test_different_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match="are different runs"):
        merged([on("a"), on("b", run_id="other", name="evaluate")])
    with pytest.raises(ConfigError, match="are different runs"):
        merged([on("a", name=""), on("b", run_id="other", name="")])


def test_one_name_is_one_run_only_on_different_hosts_at_the_same_time() -> None:
    assert whole(on("a", run_id="x"), on("b", run_id="y"))["run"]["id"] == "x"
    with pytest.raises(ConfigError, match="different hosts at the same time"):
        merged([on("a", run_id="x"), on("a", run_id="y")])
    with pytest.raises(ConfigError, match="different hosts at the same time"):
        merged([on("a", run_id="x"), on("b", run_id="y", start_s=START_S + 50_000)])


def test_an_estimate_is_no_node() -> None:
    with pytest.raises(ConfigError, match="estimate"):
        merged([on("a"), on("b", state="estimated")])


def test_one_summary_alone_is_itself() -> None:
    assert whole(on("a")) == on("a")


def test_files_of_an_earlier_version_can_be_merged() -> None:
    parts = [on("a"), on("b")]
    for part in parts:
        for key in ("cpu_s", "idle_policy", "progress", "ranks"):
            part["run"].pop(key)
        part["energy"].pop("node")
        for key in ("water", "costs"):
            part.pop(key, None)
        part["carbon"].pop("sources", None)
        for phase in part["energy"]["phases"].values():
            del phase["measured_ratio"], phase["components"]
        for device in part["energy"]["devices"]:
            del device["node_energy_j"]
    summary = whole(*parts)
    assert summary["energy"]["total_j"] == 200.0
    assert "node" not in summary["energy"]
    assert "ranks" not in summary["run"]


def test_every_form_shows_a_merged_run() -> None:
    summary = whole(on("node-1"), on("node-2"))
    for text in (
        table_text(summary),
        markdown_text(summary),
        csv_text([summary]),
        model_card_text(summary, "Germany (DE)"),
    ):
        assert "2 × AMD EPYC 7742" in text or "node-1/package-0" in text


# The command


def written(folder: Path, summary: Summary) -> Path:
    folder.mkdir(parents=True)
    return write_summary(folder, summary)


def test_the_command_merges_what_it_is_given(tmp_path: Path) -> None:
    paths = [written(tmp_path / host, on(host)) for host in "ab"]
    done = invoke(report.command, "--merge", "--format", "json", *paths)
    assert json.loads(done.stdout) == whole(on("a"), on("b"))


def test_the_command_finds_all_nodes_of_a_run_by_its_id(tmp_path: Path) -> None:
    for host in ("a", "b"):
        written(tmp_path / f"slurm-4242.{host}", on(host))
    written(tmp_path / "slurm-42421.a", on("a", run_id="slurm-42421"))
    written(tmp_path / "slurm-4242.old.a", on("a", run_id="slurm-4242.old"))
    done = invoke(report.command, "--merge", "--output", tmp_path, "--format", "json", "slurm-4242")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["run"]["host"] == "a,b"
    done = invoke(report.command, "--merge", "--output", tmp_path, "slurm-9")
    assert done.exit_code == 2
    assert "no run 'slurm-9'" in done.output


def test_embodied_carbon_is_that_of_each_node_for_its_own_time(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "a", on("a", duration_s=3600.0)),
        written(tmp_path / "b", on("b", duration_s=60.0)),
    ]
    shown = [invoke(report.command, path, "--embodied", "--format", "json").stdout for path in paths]
    parts = [json.loads(text)["embodied"] for text in shown]
    done = invoke(report.command, "--merge", "--embodied", "--format", "json", *paths)
    found = json.loads(done.stdout)["embodied"]
    for key in ("low_g", "high_g"):
        assert found[key] == pytest.approx(parts[0][key] + parts[1][key])
        assert parts[1][key] < parts[0][key]
    assert found["lifetime_years"] == parts[0]["lifetime_years"]


def test_a_mistake_in_merging_ends_with_2_and_says_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path / "a", on("a"))
    done = invoke(report.command, "--merge", path, path)
    assert done.exit_code == 2
    assert "leave one out" in done.output


def test_node_meters_that_all_nodes_have_add_up_and_a_charge_by_the_node_needs_all_of_them() -> None:
    def part(host: str, *meters: str, charged_j: float | None = 500.0) -> Summary:
        summary = on(host)
        run = run_state()._replace(
            node_meters=tuple(NodeEnergy(meter, 0.0, 1000.0, 600.0, 3600.0, 2.0) for meter in meters),
            node_charges=() if charged_j is None else (NodeCharge("acpi", charged_j, 5.0, 4.0, 6.0),),
        )
        shown = snapshot((run,))
        summary["node_meters"] = node_meters_summary(shown, run)
        summary["charge"] = charge_summary(run)
        return summary

    whole = merged([part("a", "acpi", "ipmi"), part("b", "acpi")])
    VALIDATOR.validate(whole)
    (row,) = whole["node_meters"]
    assert (row["meter"], row["energy_j"], row["devices_energy_j"]) == ("acpi", 2000.0, 1200.0)
    assert (row["rest_energy_j"], row["coverage_ratio"], row["unobserved_s"]) == (800.0, 0.6, 4.0)
    assert (whole["charge"]["by"], whole["charge"]["energy_j"]) == ("node", 1000.0)
    mixed = merged([part("a", "acpi"), part("b", "acpi", charged_j=None)])
    assert (mixed["charge"]["by"], mixed["charge"]["energy_j"]) == ("devices", None)
