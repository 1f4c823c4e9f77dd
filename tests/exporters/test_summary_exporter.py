"""summary.json: its shape, its ranges, its nulls, and that it is written whole or not at all."""

from __future__ import annotations

import copy
import errno
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from carbonmon_exporters.summary import SummaryExporter, open_exporter
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import METHODS, Device, NodeTotal, Rank, RunState, RunTotal, Snapshot, Uncertainty
from carbonmon.core.ports import ExporterSettings
from carbonmon.core.times import rfc3339
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import own_peak_rss_bytes, write_summary
from carbonmon.runs.summary.text import (
    describe,
    describe_run,
    duration_text,
    energy_text,
    mass_text,
    percent_text,
    table_text,
)
from carbonmon.runs.summary.validation import fault_of
from tests.support.records import (
    HOSTILE_TEXTS,
    START_S,
    UNDECODABLE,
    budget_state,
    device_state,
    dram,
    forecast,
    gpu,
    node,
    package,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.rows import for_each_row
from tests.support.strictness import strict_schema

SCHEMA = strict_schema()
VALIDATOR = jsonschema.Draft202012Validator(
    SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def of(shown: Snapshot, **options: Any) -> dict[str, Any]:
    """The summary of a snapshot's run, valid and as a reader gets it back from the file."""
    summary = summarize(shown, shown.runs[0], options.pop("state", "final"), **options)
    read = json.loads(json.dumps(summary, allow_nan=False))
    VALIDATOR.validate(read)
    return read


def with_rows(*rows: RunTotal, devices: tuple[Device, ...] = (), **options: Any) -> Snapshot:
    present = devices or (gpu(), package(), dram())
    return snapshot((run_state(totals=rows),), tuple(map(device_state, present)), **options)


def with_phases(*names: str) -> Snapshot:
    """A run with these phases beside main; the first has 1000 J, each next one 1 J more."""
    rows = [run_total(gpu().id, "gpu", "counter", 10.0)]
    rows += [
        run_total(gpu().id, "gpu", "counter", 1000.0 + number, phase=name)
        for number, name in enumerate(names or ("train",))
    ]
    seconds = (("main", 60.0), *((name, 30.0) for name in names or ("train",)))
    return snapshot((run_state(totals=tuple(rows), phases_s=seconds),), (device_state(gpu()),))


# Shape


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


LATER = {
    "": [
        *("advice", "budgets", "charge", "costs", "elsewhere", "embodied", "forecasts", "gpu_time"),
        *("inference", "node_meters", "prometheus", "sci", "settled", "water", "water_off_site"),
        *("what_if", "work"),
    ],
    "carbon": ["market_based", "pue_source", "sources"],
    "run": ["cpu_s", "idle_policy", "notes", "pauses", "progress", "ranks", "uid", "user"],
    "energy": ["facility_j", "facility_kwh", "node", "stated_j"],
    "device": ["is_stated", "node_energy_j", "number"],
    "phase": ["components", "interpolated_ratio", "measured_ratio"],
    "settled": ["by_uid", "former", "region"],
    "settled_intensity": ["year"],
    "budget": ["host"],
    "water": ["known_ratio"],
}
"""Keys that files of earlier versions lack, by the shape that has them."""


def test_the_schema_names_every_key_and_lets_none_be_left_out_that_was_always_there() -> None:
    intensity = SCHEMA["$defs"]["carbon"]["properties"]["intensity"]
    shapes = {"": SCHEMA, **SCHEMA["$defs"], "intensity": intensity}
    for name, shape in shapes.items():
        if "required" in shape:
            assert shape["additionalProperties"] is False
            optional = LATER.get(name, [])
            assert sorted([*shape["required"], *optional]) == sorted(shape["properties"])


def of_an_earlier_version(summary: dict[str, Any]) -> dict[str, Any]:
    """The same summary without what that version did not know."""
    old: dict[str, Any] = copy.deepcopy(summary)
    for name, shapes in {
        "": [old],
        "carbon": [old["carbon"]],
        "run": [old["run"]],
        "energy": [old["energy"]],
        "device": old["energy"]["devices"],
        "phase": old["energy"]["phases"].values(),
    }.items():
        for shape in shapes:
            for key in LATER[name]:
                shape.pop(key, None)
    return old


def test_a_file_of_an_earlier_version_stays_valid_and_has_its_table() -> None:
    new = of(with_phases())
    old = of_an_earlier_version(new)
    VALIDATOR.validate(old)
    assert table_text(old) == table_text(new)


@pytest.mark.parametrize("state", ["running", "final", "recovered"])
def test_a_whole_node_obeys_the_schema(state: str) -> None:
    summary = of(node(), state=state)
    assert summary["schema"] == "carbonmon.summary/1"
    assert summary["state"] == state
    assert len(summary["energy"]["devices"]) == 12


def test_a_run_that_has_just_begun_obeys_the_schema() -> None:
    summary = of(snapshot((run_state(phases_s=(), duration_s=0.0),), samples=0, sensors=()))
    energy, carbon = summary["energy"], summary["carbon"]
    unknown = (
        *(energy[key] for key in ("total_j", "total_kwh", "low_j", "high_j", "measured_ratio")),
        carbon["emissions_g"],
    )
    assert set(unknown) == {None}, "nothing was seen yet, which is not 0 J"
    assert summary["energy"]["devices"] == []


def test_a_run_says_what_it_was_and_how_it_ended() -> None:
    info = run_info(command=("python", "train.py", "--lr", "1e-3"), labels=(("team", "vision"),))
    ended = run_state(info, ended_at_s=1_795_003_600.25, exit_code=137, signal=9)
    run = of(snapshot((ended,)))["run"]
    assert run["command"] == ["python", "train.py", "--lr", "1e-3"]
    assert run["labels"] == {"team": "vision"}
    assert run["started_at"] == "2026-11-18T11:06:40.000Z"
    assert run["ended_at"] == "2026-11-18T12:06:40.250Z"
    assert (run["exit_code"], run["signal"]) == (137, 9)
    assert (run["scheduler"], run["scheduler_job_id"]) == ("slurm", "4242")


def test_a_run_says_who_took_part_and_how_far_it_is() -> None:
    run = run_state(
        run_info(idle_policy="proportional"),
        cpu_s=12.5,
        progress=(600.0, None),
        ranks=(Rank(0, 0, 2), Rank(1, None, None)),
    )
    shown = of(snapshot((run,)))["run"]
    assert shown["idle_policy"] == "proportional"
    assert shown["cpu_s"] == 12.5
    assert shown["progress"] == {"step": 600.0, "total": None}
    assert shown["ranks"] == [
        {"rank": 0, "local_rank": 0, "world_size": 2},
        {"rank": 1, "local_rank": None, "world_size": None},
    ]
    bare = of(snapshot((run_state(),)))["run"]
    assert (bare["cpu_s"], bare["progress"], bare["ranks"]) == (None, None, [])


def test_what_is_unknown_is_null_and_never_zero() -> None:
    device = gpu()
    silent = device_state(
        device,
        power_w=None,
        peak_power_w=None,
        mean_power_w=None,
        utilization_ratio=None,
        utilization_mean_ratio=None,
    )
    info = run_info(scheduler="", scheduler_job_id="")
    summary = of(snapshot((run_state(info, power_w=((device.id, None),)),), (silent,)))
    row = summary["energy"]["devices"][0]
    for key in (
        "mean_power_w",
        "peak_power_w",
        "utilization_ratio",
        "unobserved_s",
        "share_note",
        "node_energy_j",
    ):
        assert row[key] is None
    assert summary["energy"]["node"] is None
    for key in ("ended_at", "exit_code", "signal", "scheduler", "scheduler_job_id"):
        assert summary["run"][key] is None
    assert summary["monitor"]["own_cpu_s"] is None
    assert summary["monitor"]["own_peak_rss_bytes"] is None
    assert summary["carbon"]["intensity"]["note"] is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_unknown(number: float) -> None:
    device = gpu()
    state = device_state(device, peak_power_w=number)
    run = run_state(power_w=((device.id, number),))
    assert of(snapshot((run,), (state,)))["energy"]["devices"][0]["peak_power_w"] is None


@pytest.mark.parametrize(("unix_s", "text"), [(0.0, "1970-01-01T00:00:00.000Z"), (1e30, None), (None, None)])
def test_times_are_rfc_3339_or_unknown(unix_s: float | None, text: str | None) -> None:
    assert rfc3339(unix_s) == text


def test_the_monitor_accounts_for_itself_and_its_sources() -> None:
    monitor = of(node(1, 0, 0), own_peak_rss_bytes=30_000_000)["monitor"]
    assert (monitor["own_cpu_s"], monitor["own_peak_rss_bytes"]) == (1.5, 30_000_000)
    assert (monitor["version"], monitor["interval_s"], monitor["samples"]) == ("0.1.0", 1.0, 3600)
    assert monitor["sources"] == [
        {"sensor": "nvml", "state": "used", "reason": None},
        {"sensor": "rapl", "state": "not used", "reason": "energy_uj cannot be read"},
    ]


# Sums


def test_the_parts_add_up_to_the_whole() -> None:
    energy = of(node())["energy"]
    total_j = energy["total_j"]
    assert total_j == 8 * 901_000.0 + 2 * 300_000.0 + 2 * 40_000.0
    assert energy["total_kwh"] == pytest.approx(total_j / 3.6e6)
    for parts in (
        energy["devices"],
        energy["components"].values(),
        energy["methods"].values(),
        energy["phases"].values(),
    ):
        assert sum(part["energy_j"] for part in parts) == pytest.approx(total_j)
    for device in energy["devices"]:
        assert sum(device["methods"].values()) == pytest.approx(device["energy_j"])


def test_the_measured_share_counts_counters_and_power_and_no_estimate() -> None:
    energy = of(
        with_rows(
            run_total(gpu().id, "gpu", "counter", 50.0),
            run_total(gpu().id, "gpu", "power", 25.0),
            run_total(gpu().id, "gpu", "tdp", 25.0),
            run_total("dram-0", "dram", "tdp", 100.0),
        )
    )["energy"]
    assert energy["measured_ratio"] == 0.375
    assert energy["components"] == {
        "gpu": {"energy_j": 100.0, "measured_ratio": 0.75},
        "dram": {"energy_j": 100.0, "measured_ratio": 0.0},
    }


def test_phases_have_their_energy_emissions_and_seconds() -> None:
    rows = (
        run_total(gpu().id, "gpu", "counter", 10.0, emissions_g=1.0),
        run_total(gpu().id, "gpu", "counter", 20.0, emissions_g=2.0, phase="eval"),
        run_total("dram-0", "dram", "tdp", 5.0, emissions_g=0.5, phase="eval"),
    )
    seconds = (("eval", 30.0), ("main", 60.0), ("idle", 5.0))
    run = run_state(totals=rows, phases_s=seconds)._replace(doubts_j=(("eval", 5.0),))
    phases = of(snapshot((run,), (device_state(gpu()), device_state(dram()))))["energy"]["phases"]
    assert list(phases) == ["main", "eval", "idle"], "main first, then as they came"
    assert phases == {
        "main": {
            "energy_j": 10.0,
            "emissions_g": 1.0,
            "duration_s": 60.0,
            "measured_ratio": 1.0,
            "interpolated_ratio": 0.0,
            "components": {"gpu": {"energy_j": 10.0, "measured_ratio": 1.0}},
        },
        "eval": {
            "energy_j": 25.0,
            "emissions_g": 2.5,
            "duration_s": 30.0,
            "measured_ratio": 0.8,
            "interpolated_ratio": 0.2,
            "components": {
                "gpu": {"energy_j": 20.0, "measured_ratio": 1.0},
                "dram": {"energy_j": 5.0, "measured_ratio": 0.0},
            },
        },
        "idle": {
            "energy_j": 0.0,
            "emissions_g": 0.0,
            "duration_s": 5.0,
            "measured_ratio": None,
            "interpolated_ratio": None,
            "components": {},
        },
    }


def test_a_table_says_which_phases_are_interpolated() -> None:
    rows = (
        run_total(gpu().id, "gpu", "counter", 10.0),
        run_total(gpu().id, "gpu", "counter", 20.0, phase="step"),
    )
    run = run_state(totals=rows)._replace(doubts_j=(("step", 5.0), ("main", 0.1)))
    lines = table_text(of(snapshot((run,), (device_state(gpu()),)))).splitlines()
    assert [line.split()[1] for line in lines if "interpolated" in line] == ["step"]


def test_a_phase_may_have_any_name() -> None:
    rows = tuple(
        run_total(gpu().id, "gpu", "counter", joules, phase=name)
        for joules, name in enumerate((*HOSTILE_TEXTS, UNDECODABLE), start=1)
    )
    phases = of(snapshot((run_state(totals=rows),), (device_state(gpu()),)))["energy"]["phases"]
    for joules, name in enumerate((*HOSTILE_TEXTS, r"caf\udce9"), start=1):
        assert phases[name]["energy_j"] == joules


# The node


def test_the_node_is_every_metered_device_while_the_run_lasted() -> None:
    run = run_state(
        totals=(run_total(gpu(0).id, "gpu", "counter", 250.0),),
        node=(
            NodeTotal(gpu(0).id, 300.0, 100.0, 0.0, 4.0),
            NodeTotal(gpu(1).id, 500.0, 0.0, 0.0, 5.0),
            NodeTotal(dram().id, 0.0, 0.0, 100.0, 1.0),
        ),
    )
    energy = of(snapshot((run,), tuple(map(device_state, (gpu(0), gpu(1), dram())))))["energy"]
    assert energy["node"] == {
        "total_j": 1000.0,
        "emissions_g": 10.0,
        "measured_ratio": 0.9,
        "share_ratio": 0.25,
        "components": {
            "gpu": {"energy_j": 900.0, "measured_ratio": 1.0},
            "dram": {"energy_j": 100.0, "measured_ratio": 0.0},
        },
    }
    assert [(device["id"], device["node_energy_j"]) for device in energy["devices"]] == [(gpu(0).id, 400.0)]


def test_a_run_that_owns_the_node_has_all_of_it() -> None:
    assert of(node())["energy"]["node"]["share_ratio"] == 1.0


def test_of_a_node_that_drew_nothing_no_part_is_known() -> None:
    rows = (run_total(gpu().id, "gpu", "counter", 0.0),)
    run = run_state(totals=rows, node=(NodeTotal(gpu().id, 0.0, 0.0, 0.0, 0.0),))
    shown = of(snapshot((run,), (device_state(gpu()),)))["energy"]["node"]
    assert shown["total_j"] == 0.0
    assert (shown["measured_ratio"], shown["share_ratio"]) == (None, None)


def test_a_rounding_error_makes_no_part_larger_than_the_whole() -> None:
    run = run_state(
        totals=(run_total(gpu().id, "gpu", "counter", 100.000001),),
        node=(NodeTotal(gpu().id, 100.0, 0.0, 0.0, 0.0),),
    )
    assert of(snapshot((run,), (device_state(gpu()),)))["energy"]["node"]["share_ratio"] == 1.0


@pytest.mark.parametrize("node_j", [10.0, 1000.0])
def test_the_part_is_unknown_where_the_node_lacks_a_device_of_the_run(node_j: float) -> None:
    run = run_state(
        totals=(
            run_total(gpu().id, "gpu", "counter", 10.0),
            run_total("GPU-gone", "gpu", "counter", 50.0),
        ),
        node=(NodeTotal(gpu().id, node_j, 0.0, 0.0, 0.0),),
    )
    energy = of(snapshot((run,), (device_state(gpu()),)))["energy"]
    assert energy["node"]["share_ratio"] is None
    assert [device["node_energy_j"] for device in energy["devices"]] == [node_j, None]


def test_a_device_says_how_the_runs_part_was_found() -> None:
    sliced = gpu(1)._replace(share_ratio=0.5, share_note="MIG instance: 3 of 7 slices")
    run = run_state(
        totals=tuple(run_total(gpu(index).id, "gpu", "counter", 1.0) for index in range(2)),
        shares=((gpu(0).id, "shared: by SM utilisation"), ("GPU-other", "x")),
    )
    devices = of(snapshot((run,), (device_state(gpu(0)), device_state(sliced))))["energy"]["devices"]
    assert devices[0]["share_note"] == "shared: by SM utilisation"
    assert devices[1]["share_note"] == "MIG instance: 3 of 7 slices"


# Devices


def test_a_device_shows_the_runs_own_joules_and_the_devices_own_power() -> None:
    state = device_state(gpu(), counter_j=500.0, mean_power_w=240.0, peak_power_w=310.0, jumps=2)
    run = run_state(totals=(run_total(gpu().id, "gpu", "counter", 200.0),), unobserved_s=((gpu().id, 1.5),))
    device = of(snapshot((run,), (state,)))["energy"]["devices"][0]
    assert device["energy_j"] == 200.0
    assert (device["mean_power_w"], device["peak_power_w"]) == (240.0, 310.0)
    assert device["utilization_ratio"] == 0.8
    assert device["unobserved_s"] == 1.5
    assert device["anomalies"] == {"reset": 0, "jump": 2, "step_back": 0, "stuck": 0, "implausible": 0}


def test_a_device_that_the_run_never_touched_is_not_listed() -> None:
    shown = with_rows(run_total(gpu(0).id, "gpu", "counter", 1.0), devices=(gpu(0), gpu(1)))
    assert [device["id"] for device in of(shown)["energy"]["devices"]] == [gpu(0).id]


def test_a_device_that_is_gone_keeps_its_joules_and_its_range_is_unknown() -> None:
    energy = of(with_rows(run_total("GPU-gone", "gpu", "counter", 7.0), devices=(dram(),)))["energy"]
    assert energy["devices"][0]["id"] == "GPU-gone"
    assert energy["devices"][0]["energy_j"] == 7.0
    assert energy["devices"][0]["name"] is None
    assert (energy["low_j"], energy["high_j"]) == (None, None)


# Ranges


def test_each_method_is_widened_by_its_own_uncertainty_and_the_bounds_are_added() -> None:
    energy = of(
        with_rows(run_total(gpu().id, "gpu", "counter", 1000.0), run_total("dram-0", "dram", "tdp", 100.0))
    )["energy"]
    assert energy["low_j"] == pytest.approx(1000 * 0.95 + 100 * 0.6)
    assert energy["high_j"] == pytest.approx(1000 * 1.05 + 100 * 1.2)
    assert energy["methods"]["counter"]["low_ratio"] == pytest.approx(0.05)
    assert energy["methods"]["tdp"]["low_ratio"] == pytest.approx(0.4)
    assert energy["methods"]["tdp"]["high_ratio"] == pytest.approx(0.2)
    assert energy["methods"]["tdp"]["sources"] == ["spread of measured utilisation curves"]


def test_the_range_of_emissions_holds_that_of_the_intensity_and_that_of_the_energy() -> None:
    carbon = of(
        with_rows(
            run_total(
                gpu().id,
                "gpu",
                "power",
                1000.0,
                emissions_g=10.0,
                emissions_low_g=8.0,
                emissions_high_g=15.0,
            )
        )
    )["carbon"]
    assert carbon["emissions_g"] == 10.0
    assert carbon["low_g"] == pytest.approx(8.0 * 0.95)
    assert carbon["high_g"] == pytest.approx(15.0 * 1.05)


def test_one_missing_uncertainty_makes_the_range_unknown_and_not_narrow() -> None:
    bare = Device("dram-9", "dram", "memory", methods=("tdp",))
    summary = of(
        with_rows(
            run_total(gpu().id, "gpu", "counter", 1000.0),
            run_total("dram-9", "dram", "tdp", 1.0),
            devices=(gpu(), bare),
        )
    )
    energy, carbon = summary["energy"], summary["carbon"]
    assert (energy["low_j"], energy["high_j"], carbon["low_g"], carbon["high_g"]) == (None,) * 4
    assert energy["methods"]["counter"]["low_ratio"] is not None
    assert energy["methods"]["tdp"] == {
        "energy_j": 1.0,
        "low_ratio": None,
        "high_ratio": None,
        "sources": [],
    }


def test_a_method_that_gave_nothing_makes_no_range_unknown() -> None:
    bare = Device("dram-9", "dram", "memory", methods=("tdp",))
    shown = with_rows(
        run_total(gpu().id, "gpu", "counter", 1000.0),
        run_total("dram-9", "dram", "tdp", 0.0),
        devices=(gpu(), bare),
    )
    assert of(shown)["energy"]["low_j"] == pytest.approx(950.0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(METHODS),
            st.floats(0.0, 1e9),
            st.floats(0.0, 1.0),
            st.floats(0.0, 2.0),
        ),
        max_size=12,
    )
)
def test_the_total_always_lies_in_its_own_range(parts: list[tuple[Any, float, float, float]]) -> None:
    states, rows = [], []
    for number, (method, joules, low, high) in enumerate(parts):
        uncertainty = Uncertainty(low, high, "x")
        spec = gpu().spec
        assert spec is not None
        device = Device(
            f"GPU-{number}",
            "gpu",
            "x",
            spec=spec._replace(uncertainty=uncertainty),
            measured_uncertainty=uncertainty,
        )
        states.append(device_state(device))
        rows.append(run_total(device.id, "gpu", method, joules))
    summary = of(snapshot((run_state(totals=tuple(rows)),), tuple(states)))
    energy, carbon = summary["energy"], summary["carbon"]
    if not parts:
        assert energy["total_j"] is carbon["emissions_g"] is None
        return
    slack = 1e-9 * (1.0 + energy["total_j"])
    assert energy["low_j"] - slack <= energy["total_j"] <= energy["high_j"] + slack
    assert carbon["low_g"] - slack <= carbon["emissions_g"] <= carbon["high_g"] + slack


# Intensity


def test_the_mean_intensity_is_weighted_by_energy_and_leaves_the_pue_out() -> None:
    kwh = 3.6e6
    shown = with_rows(
        run_total(gpu().id, "gpu", "counter", 3 * kwh, emissions_g=3 * 100.0 * 1.5),
        run_total("dram-0", "dram", "tdp", 1 * kwh, emissions_g=1 * 500.0 * 1.5),
        pue_ratio=1.5,
    )
    carbon = of(shown)["carbon"]
    assert carbon["intensity"]["mean_g_per_kwh"] == pytest.approx(200.0)
    assert carbon["pue"] == 1.5


def test_without_energy_the_intensity_is_the_one_in_force() -> None:
    intensity = of(snapshot((run_state(),)))["carbon"]["intensity"]
    assert intensity == {
        "mean_g_per_kwh": 360.0,
        "zone": "DE",
        "source": "Ember",
        "basis": "lifecycle",
        "accounting": "production",
        "kind": "table",
        "year": 2024,
        "note": None,
    }


# The file


def folder_of(tmp_path: Path, name: str = "slurm-4242") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder


def test_the_file_is_in_the_runs_folder_and_obeys_the_schema(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    exporter = open_exporter(ExporterSettings(run_folders={"slurm-4242": folder}))
    running = node()
    shown = running._replace(runs=(running.runs[0]._replace(ended_at_s=START_S + 60.0),))
    place = exporter.start(lambda: shown)
    assert not (folder / "summary.json").exists()
    exporter.finish(shown)
    assert place == str(folder / "summary.json")
    summary = json.loads(Path(place).read_text(encoding="utf-8"))
    VALIDATOR.validate(summary)
    assert summary["state"] == "final"
    assert summary["monitor"]["own_cpu_s"] > 0
    assert summary["monitor"]["own_peak_rss_bytes"] > 1_000_000
    assert [path.name for path in folder.iterdir()] == ["summary.json"]


def test_a_run_that_goes_on_without_this_monitor_is_left_as_running(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    exporter = open_exporter(ExporterSettings(run_folders={"slurm-4242": folder}))
    exporter.finish(node())
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["state"] == "running"


def test_the_file_can_be_read_by_the_group_and_by_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        path = write_summary(tmp_path, {})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_summary(tmp_path, {"old": True})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_summary(tmp_path, {"new": True})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_file_system_that_cannot_sync_a_folder_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, []

    def sync_files_only(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files_only)
    write_summary(tmp_path, {"new": True})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"new": True}


def test_a_missing_folder_is_an_os_error_for_the_guard(tmp_path: Path) -> None:
    exporter = open_exporter(ExporterSettings(run_folders={"slurm-4242": tmp_path / "gone"}))
    with pytest.raises(FileNotFoundError):
        exporter.finish(node(1, 0, 0))


# Many runs


def read(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    VALIDATOR.validate(summary)
    assert isinstance(summary, dict)
    return summary


def folders_of(tmp_path: Path, *run_ids: str) -> dict[str, Path]:
    return {run_id: folder_of(tmp_path, f"{run_id}-node-7") for run_id in run_ids}


def with_runs(*runs: RunState, samples: int = 1) -> Snapshot:
    return snapshot(runs, samples=samples)


def going(run_id: str) -> RunState:
    return run_state(run_info(run_id))


def ended(run_id: str, ended_at_s: float = 1_795_003_600.0) -> RunState:
    return run_state(run_info(run_id), ended_at_s=ended_at_s, exit_code=0)


def test_without_a_run_there_is_no_place_to_name_and_nothing_to_write(tmp_path: Path) -> None:
    exporter = open_exporter(ExporterSettings())
    shown = with_runs(going("a"))
    assert exporter.start(lambda: shown) == ""
    exporter.checkpoint(shown)
    exporter.finish(shown)


def test_with_several_runs_there_is_no_one_place_to_name(tmp_path: Path) -> None:
    exporter = open_exporter(ExporterSettings(run_folders=folders_of(tmp_path, "a", "b")))
    assert exporter.start(with_runs) == ""


def test_each_run_is_written_into_its_own_folder_whatever_the_folders_name(tmp_path: Path) -> None:
    folders = {"a": folder_of(tmp_path, "b"), "b": folder_of(tmp_path, "c")}
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), going("b"), going("without a folder")))
    assert {run_id: read(folder)["run"]["id"] for run_id, folder in folders.items()} == {"a": "a", "b": "b"}
    assert {read(folder)["state"] for folder in folders.values()} == {"running"}


def test_a_run_that_comes_later_is_written_at_its_first_sight(tmp_path: Path) -> None:
    folders: dict[str, Path] = {}
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs())
    folders.update(folders_of(tmp_path, "a"))
    exporter.checkpoint(with_runs(going("a"), samples=5))
    assert read(folders["a"])["monitor"]["samples"] == 5


def test_a_running_summary_is_written_once_a_minute(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a", "b")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), samples=10))
    exporter.checkpoint(with_runs(going("a"), going("b"), samples=40))
    exporter.checkpoint(with_runs(going("a"), going("b"), samples=69))
    assert read(folders["a"])["monitor"]["samples"] == 10
    exporter.checkpoint(with_runs(going("a"), going("b"), samples=70))
    assert read(folders["a"])["monitor"]["samples"] == 70
    assert read(folders["b"])["monitor"]["samples"] == 40


def test_the_final_summary_of_a_run_is_written_once_and_at_once(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), samples=10))
    exporter.checkpoint(with_runs(ended("a"), samples=15))
    assert (read(folders["a"])["state"], read(folders["a"])["monitor"]["samples"]) == ("final", 15)
    exporter.checkpoint(with_runs(ended("a"), samples=90))
    exporter.finish(with_runs(ended("a"), samples=95))
    assert read(folders["a"])["monitor"]["samples"] == 15


def test_at_the_end_each_run_that_has_no_final_summary_gets_one(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a", "b")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(ended("a"), going("b"), samples=10))
    exporter.finish(with_runs(ended("a"), ended("b"), samples=12))
    assert [(read(folder)["state"], read(folder)["monitor"]["samples"]) for folder in folders.values()] == [
        ("final", 10),
        ("final", 12),
    ]


def test_a_run_that_is_resumed_runs_again_and_ends_again(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a")
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    exporter.checkpoint(with_runs(going("a"), samples=10))
    exporter.checkpoint(with_runs(ended("a"), samples=15))
    exporter.checkpoint(with_runs(going("a"), samples=20))
    assert read(folders["a"])["state"] == "running"
    exporter.checkpoint(with_runs(ended("a", 1_795_009_999.0), samples=25))
    assert (read(folders["a"])["state"], read(folders["a"])["monitor"]["samples"]) == ("final", 25)


def test_one_run_that_cannot_be_written_keeps_no_other_from_it_and_is_tried_again(tmp_path: Path) -> None:
    folders = {"a": tmp_path / "gone", **folders_of(tmp_path, "b"), "c": tmp_path / "gone too"}
    exporter = open_exporter(ExporterSettings(run_folders=folders))
    runs = (going("a"), going("b"), going("c"))
    with pytest.raises(FileNotFoundError, match=r"gone/"):
        exporter.checkpoint(with_runs(*runs, samples=10))
    assert read(folders["b"])["state"] == "running"
    folders["a"].mkdir()
    folders["c"].mkdir()
    exporter.checkpoint(with_runs(*runs, samples=15))
    assert read(folders["a"])["monitor"]["samples"] == 15
    assert read(folders["b"])["monitor"]["samples"] == 10
    folders["a"].rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        exporter.finish(with_runs(*map(ended, "abc")))
    assert (read(folders["b"])["state"], read(folders["c"])["state"]) == ("final", "final")


def test_runs_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, "a", "b")
    exporter = SummaryExporter(folders, tmp_path)
    exporter.checkpoint(with_runs(going("a"), ended("b")))
    exporter.checkpoint(with_runs())
    assert (exporter._due_samples, exporter._final) == ({}, {})


def test_the_monitors_peak_memory_comes_from_the_given_procfs(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n")
    assert own_peak_rss_bytes(tmp_path) == 2048 * 1024


@pytest.mark.parametrize("status", [None, "Name:\tx\n", "VmHWM:\n", "VmHWM:\tmany kB\n"])
def test_peak_memory_that_cannot_be_read_is_unknown(tmp_path: Path, status: str | None) -> None:
    if status is not None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "status").write_text(status)
    assert own_peak_rss_bytes(tmp_path) is None


# The table


def test_the_table_is_short_and_narrow() -> None:
    lines = table_text(of(node()), 100).splitlines()
    assert len(lines) == 7 + 12
    assert max(map(len, lines)) <= 100


def test_the_table_shows_total_range_share_emissions_and_devices() -> None:
    text = table_text(of(node(1, 1, 1)), 100)
    assert "run slurm-4242 (train), 1 h 00 min" in text
    assert "345 Wh (324 to 364), 96.8 % measured, 3.2 % estimated (tdp)" in text
    assert "124 g CO2e (105 to 157)" in text
    assert "360 g CO2e/kWh: DE, table, 2024, lifecycle, Ember" in text
    gpu_line, cpu_line, dram_line = text.splitlines()[7:]
    assert gpu_line.endswith("measured (counter, power)")
    assert "gpu   0 GPU-00000000  A100-SXM4-80GB " in gpu_line
    assert cpu_line.endswith("mean 83.3 W  measured (counter)")
    assert dram_line.endswith("estimated (tdp)")


def test_an_estimate_never_looks_measured() -> None:
    text = table_text(of(with_rows(run_total("dram-0", "dram", "tdp", 5.0), devices=(dram(),))))
    assert "all of it estimated (tdp)" in text
    assert "measured" not in text


def test_a_small_estimated_part_is_not_rounded_away() -> None:
    text = table_text(
        of(with_rows(run_total(gpu().id, "gpu", "counter", 1e6), run_total(gpu().id, "gpu", "tdp", 1.0)))
    )
    assert ">99.9 % measured, <0.1 % estimated (tdp)" in text
    assert ">99.9 % measured (counter), <0.1 % estimated (tdp)" in text


def test_an_unknown_range_and_an_unknown_power_are_said_in_words() -> None:
    bare = Device("dram-9", "dram", "memory", methods=("tdp",))
    shown = snapshot(
        (run_state(totals=(run_total("dram-9", "dram", "tdp", 5.0),)),),
        (device_state(bare, mean_power_w=None),),
    )
    text = table_text(of(shown))
    assert text.count("range unknown") == 2
    assert "power unknown" in text


def test_gaps_and_rejected_readings_have_a_line_only_when_there_are_any() -> None:
    quiet = table_text(of(node(2, 0, 0)))
    assert "not observed" not in quiet
    assert "rejected" not in quiet
    shown = node(8, 0, 0)
    (run,) = shown.runs
    run = run._replace(
        unobserved_s=tuple((gpu(index).id, 2.5) for index in range(8)),
        node=(run.node[0]._replace(resets=1, jumps=2), *run.node[1:]),
    )
    summary = of(shown._replace(runs=(run,)))
    text = table_text(summary, 100)
    assert "not observed, and not counted: 0 GPU-00000000 2.5 s; 1 GPU-00000001 2.5 s" in text
    assert "; and 4 more" in " ".join(text.split())
    in_a_file = table_text(summary)
    assert all(in_a_file.count(gpu(index).id) >= 2 for index in range(8)), "in a file none is left out"
    assert "readings rejected: 0 GPU-00000000 1 reset, 2 jumps" in text
    assert max(map(len, text.splitlines())) <= 100


@for_each_row("name", [*HOSTILE_TEXTS, UNDECODABLE, "\x1b[2Jgone", "x" * 500])
def test_no_name_breaks_the_table_or_the_terminal(name: str) -> None:
    device = Device("GPU-1", "gpu", name, methods=("counter",))
    run = run_state(run_info(name=name), (run_total("GPU-1", "gpu", "counter", 1.0),))
    text = table_text(of(snapshot((run,), (device_state(device),))), 100)
    assert len(text.splitlines()) == 5
    assert all(character.isprintable() or character == "\n" for character in text)
    assert max(map(len, text.splitlines())) <= 100
    text.encode("utf-8")


def other_users(shown: Snapshot) -> Snapshot:
    """The same run on a node that drew four times as much."""
    (run,) = shown.runs
    drawn = {
        row.device_id: sum(other.energy_j for other in run.totals if other.device_id == row.device_id)
        for row in run.totals
    }
    totals = tuple(NodeTotal(device_id, 4 * joules, 0.0, 0.0, 0.0) for device_id, joules in drawn.items())
    return shown._replace(runs=(run._replace(node=totals),))


def test_the_table_says_what_else_the_node_drew() -> None:
    lines = table_text(of(other_users(with_phases()))).splitlines()
    assert lines[2] == "  node       4.04 kJ in all while it ran: 25.0 % of it is this run's"


def test_a_device_line_is_the_run_s_own_part_and_the_node_s_stands_on_the_node_line() -> None:
    rows = (run_total(gpu().id, "gpu", "counter", 250.0),)
    drawn = (NodeTotal(gpu().id, 1000.0, 0.0, 0.0, 0.0),)
    run = run_state(totals=rows, node=drawn, duration_s=110.0, unobserved_s=((gpu().id, 10.0),))
    whole = device_state(gpu(), mean_power_w=240.0)
    for text in (table_text(of(snapshot((run,), (whole,)))), table_text(of(snapshot((run,), (whole,))), 80)):
        lines = text.splitlines()
        assert lines[2] == "  node       1000 J in all while it ran: 25.0 % of it is this run's"
        (line,) = [line for line in lines if line.startswith("  gpu  ")]
        assert "250 J  mean 2.50 W" in line, "joules by the seconds in which they were seen"
        assert "240 W" not in text


def test_the_table_says_nothing_of_a_node_that_the_run_has_to_itself() -> None:
    shown = other_users(with_phases())
    (run,) = shown.runs
    for node_j, is_said in ((1010.0, False), (1010.4, False), (1010.6, True)):
        totals = (NodeTotal(gpu().id, node_j, 0.0, 0.0, 0.0),)
        text = table_text(of(shown._replace(runs=(run._replace(node=totals),))))
        assert ("\n  node " in text) is is_said
    assert "\n  node " not in table_text(of(with_phases()))
    assert "\n  node " not in table_text(of(node()))


def test_what_is_estimated_of_the_node_and_of_a_phase_is_called_so() -> None:
    rows = (
        run_total(gpu().id, "gpu", "counter", 300.0, phase="train"),
        run_total("dram-0", "dram", "tdp", 100.0, phase="train"),
        run_total("dram-0", "dram", "tdp", 50.0),
    )
    drawn = (NodeTotal(gpu().id, 600.0, 0.0, 0.0, 0.0), NodeTotal("dram-0", 0.0, 0.0, 400.0, 0.0))
    run = run_state(totals=rows, phases_s=(("main", 5.0), ("train", 90.0)), node=drawn)
    lines = table_text(of(snapshot((run,), (device_state(gpu()), device_state(dram()))))).splitlines()
    assert lines[2].endswith(": 45.0 % of it is this run's; 40.0 % estimated (tdp)")
    assert (
        lines[-2]
        == "  phase  train            400 J  40.0 mg CO2e  1 min 30 s  88.9 %  25.0 % estimated (tdp)"
    )
    assert lines[-1] == "  phase  outside phases  50.0 J  5.00 mg CO2e       5.0 s  11.1 %  estimated (tdp)"


def test_a_run_without_named_phases_has_no_block_of_phases() -> None:
    assert "  phase  " not in table_text(of(node()))


def test_of_many_phases_the_largest_are_listed() -> None:
    lines = table_text(of(with_phases(*(f"epoch {number}" for number in range(20))))).splitlines()
    phases = [line for line in lines if line.startswith("  phase  ")]
    assert [line.split("  ")[2] for line in phases[:2]] == ["epoch 19", "epoch 18"]
    assert len(phases) == 13
    assert phases[-1] == "  phase  and 9 more"


@for_each_row("name", [*HOSTILE_TEXTS, UNDECODABLE, "\x1b[2Jgone", "x" * 500])
def test_no_name_of_a_phase_breaks_the_table_or_the_terminal(name: str) -> None:
    shown = with_phases(name)
    (run,) = shown.runs
    tiny = run_total(gpu().id, "gpu", "tdp", 0.02, phase=name)  # for the longest words in the last column
    text = table_text(of(shown._replace(runs=(run._replace(totals=(*run.totals, tiny)),))), 100)
    assert len(text.splitlines()) == 8, "the device takes two lines"
    assert all(character.isprintable() or character == "\n" for character in text)
    assert max(len(line) for line in text.splitlines() if line.startswith("  phase  ")) <= 100
    text.encode("utf-8")


def test_shares_that_are_not_exact_are_said_and_others_are_not() -> None:
    notes = (
        "allocated",
        "shared: split equally, SM utilisation is unknown or 0",
        "MIG instance: 3 of 7 slices of the GPU's energy",
        "by CPU time, idle energy in proportion",
        "the run owns the node",
        "seen from a container: all processes on it are taken for the run's",
    )
    devices = tuple(gpu(index) for index in range(len(notes)))
    run = run_state(
        totals=tuple(run_total(device.id, "gpu", "counter", 1.0) for device in devices),
        shares=tuple((device.id, note) for device, note in zip(devices, notes, strict=True)),
    )
    text = table_text(of(snapshot((run,), tuple(map(device_state, devices)))), 100)
    said = " ".join(text.partition("  shared: ")[2].split())
    assert said == (
        "1 GPU-00000001 split equally, SM utilisation is unknown or 0; 2 GPU-00000002 MIG instance: 3 of 7 "
        "slices of the GPU's energy; 5 GPU-00000005 seen from a container: all processes on it are taken for "
        "the run's"
    )
    together = run._replace(shares=tuple((device.id, notes[1]) for device in devices[:2]))
    text = table_text(of(snapshot((together,), tuple(map(device_state, devices)))), 100)
    assert "shared: 0 GPU-00000000, 1 GPU-00000001 split equally" in text
    exact = run._replace(shares=tuple(run.shares[index] for index in (0, 3, 4)))
    assert "shared" not in table_text(of(snapshot((exact,), tuple(map(device_state, devices)))))
    long = run._replace(shares=((devices[0].id, "container\n" + "x" * 500),))
    text = table_text(of(snapshot((long,), tuple(map(device_state, devices)))), 100)
    assert max(map(len, text.splitlines())) <= 100


def test_the_end_of_one_of_several_runs_is_described() -> None:
    shown = snapshot((run_state(run_info("a")), run_state(run_info("b"))))
    assert describe_run(shown, shown.runs[1]).startswith("carbonmon: run b")


def test_the_end_of_a_run_is_described_from_its_last_snapshot() -> None:
    assert describe(node(1, 0, 0)).startswith("carbonmon: run slurm-4242")
    assert describe(snapshot()) == ""


@for_each_row(
    ("joules", "text"),
    [
        (0.0, "0 J"),
        (0.0001, "<0.001 J"),
        (5.0, "5.00 J"),
        (999.0, "999 J"),
        (5_000.0, "5.00 kJ"),
        (72_000.0, "20.0 Wh"),
        (7.2e6, "2.00 kWh"),
        (7.2e9, "2.00 MWh"),
    ],
)
def test_energy_is_said_in_the_unit_that_suits_it(joules: float, text: str) -> None:
    assert energy_text(joules) == text


@pytest.mark.parametrize(
    ("grams", "text"),
    [(0.0, "0 g"), (0.25, "250 mg"), (5.0, "5.00 g"), (1_500.0, "1.50 kg"), (2.5e6, "2.50 t")],
)
def test_mass_is_said_in_the_unit_that_suits_it(grams: float, text: str) -> None:
    assert mass_text(grams) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.25, "1.2 s"),
        (59.99, "60.0 s"),
        (61.0, "1 min 01 s"),
        (7_380.0, "2 h 03 min"),
        (200_000.0, "2 d 7 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0, "0.0 %"), (1e-6, "<0.1 %"), (0.5, "50.0 %"), (0.9999, ">99.9 %"), (1.0, "100.0 %")],
)
def test_a_percentage_never_rounds_a_part_to_all_or_nothing(ratio: float, text: str) -> None:
    assert percent_text(ratio) == text


def test_forecasts_and_budgets_are_beside_the_outcome_in_every_form() -> None:
    run = node().runs[0]._replace(forecasts=(forecast(0.1), forecast(0.25)), budgets=(budget_state(),))
    summary = of(node()._replace(runs=(run,)))
    VALIDATOR.validate(summary)
    assert fault_of(summary) == ""
    assert [made["energy_j"]["expected"] for made in summary["forecasts"]] == [40e3, 40e3]
    table, markdown = table_text(summary), markdown_text(summary)
    assert "  budget     2kWh: 0.5 kWh spent" in table
    assert re.search(r"  forecast   10 %: .* 25 %: .* kWh", table)
    assert "| spent of 2kWh | 0.5 kWh |  |" in markdown
    assert "energy, as expected at 25 % of the steps" in markdown
    foreign = copy.deepcopy(summary)
    foreign["budgets"][0] |= {"budget": "\x1b[2J|", "unit": "\n|", "action": "|"}
    assert "\x1b" not in table_text(foreign) + markdown_text(foreign)
