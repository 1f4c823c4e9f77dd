"""The summary of a run: its shape, sums, ranges, devices and intensity."""

from __future__ import annotations

import copy
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import METHODS, Device, NodeTotal, Rank, Uncertainty
from carbonmon.core.times import rfc3339
from carbonmon.runs.summary.text import (
    table_text,
)
from tests.support.records import (
    HOSTILE_TEXTS,
    UNDECODABLE,
    device_state,
    dram,
    gpu,
    node,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.summaries import SCHEMA, VALIDATOR, of, with_phases, with_rows

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
    "work": ["each_epoch"],
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
