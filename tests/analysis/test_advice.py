"""Advice: only what a run's own data shows, each line with how much and how that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carbonmon.analysis.advice import advice, documents, section
from carbonmon.analysis.advice.gpus import TUNING_RATIO
from carbonmon.hardware.device_names import gpu_idle
from carbonmon.runs import layout
from carbonmon.runs.summaries import Part
from carbonmon.runs.summary.document import summarize
from tests.support.records import node
from tests.support.run_folders import a_run
from tests.support.series import ROW, series_text

START_S = 1_795_000_000.0 // 3600 * 3600
A100 = "NVIDIA A100-SXM4-40GB"


def a_summary(**device: Any) -> dict[str, Any]:
    """One A100 for an hour, wholly the run's; keys of the device may be replaced."""
    whole = node(1, 0, 0)
    run = whole.runs[0]._replace(gpu_time=None, work=None)
    summary = summarize(whole._replace(runs=(run,)), run, "final")
    (found,) = summary["energy"]["devices"]
    found.update(name=A100, share_ratio=1.0, utilization_ratio=0.8, mean_power_w=250.0, peak_power_w=300.0)
    found.update(device)
    return summary


def topics(summary: dict[str, Any], *parts: Part) -> dict[str, Any]:
    return {each.topic: each for each in advice(summary, parts)}


def test_a_run_that_wastes_nothing_gets_no_advice():
    assert advice(a_summary()) == []
    assert "Nothing in the run's data" in section([]).notes[0]


def test_idle_gpus_cost_what_they_drew():
    summary = a_summary()
    summary["gpu_time"] = {
        "held_s": 7200.0,
        "unknown_s": 0.0,
        "idle_s": 1800.0,
        "idle_energy_j": 90_000.0,
        "idle_below_ratio": 0.01,
    }
    found = topics(summary)["idle GPUs"]
    total_j, total_g = summary["energy"]["total_j"], summary["carbon"]["emissions_g"]
    assert found.saves_j == 90_000.0
    assert found.saves_g == pytest.approx(total_g * 90_000 / total_j)
    assert "30 min 00 s of 2 h 00 min of GPU time" in found.finding


def test_time_without_a_kernel_costs_idle_power_without_what_was_idle_altogether():
    idle = gpu_idle(A100)
    assert idle is not None
    summary = a_summary(utilization_ratio=0.4)
    assert topics(summary)["low utilisation"].saves_j == pytest.approx(idle[0] * 0.6 * 3600)
    summary["gpu_time"] = {
        "held_s": 3600.0,
        "unknown_s": 0.0,
        "idle_s": 600.0,
        "idle_energy_j": 10_000.0,
        "idle_below_ratio": 0.01,
    }
    assert topics(summary)["low utilisation"].saves_j == pytest.approx(idle[0] * 0.6 * 3600 - 10_000)


def test_a_gpu_whose_idle_power_nobody_published_gets_no_figure():
    found = topics(a_summary(name="NVIDIA H100 PCIe", utilization_ratio=0.4))["low utilisation"]
    assert (found.saves_j, found.saves_g) == (None, None)
    assert "never published" in found.how


def test_a_gpu_that_is_busy_at_half_of_its_power_waits_for_memory():
    summary = a_summary(utilization_ratio=0.97, mean_power_w=200.0)
    unknown = topics(summary)["memory-bound"]
    assert unknown.saves_j is None and "no precision was told" in unknown.how
    summary["work"] = {"precision": "fp32"}
    assert topics(summary)["memory-bound"].saves_j == pytest.approx(summary["energy"]["total_j"] / 2)
    summary["work"] = {"precision": "fp8"}
    assert "fp8 is the narrowest" in topics(summary)["memory-bound"].how


def test_computing_in_fp32_could_be_as_much_faster_as_the_peak_is_higher():
    summary = a_summary(utilization_ratio=0.97, mean_power_w=330.0)
    summary["work"] = {"precision": "tf32"}
    assert topics(summary)["precision"].saves_j == pytest.approx(
        summary["energy"]["total_j"] * (1 - 156 / 312)
    )
    summary["work"] = {"precision": "bf16"}
    assert "precision" not in topics(summary)


def test_a_gpu_at_its_limit_has_the_least_that_was_saved_elsewhere():
    found = topics(a_summary(utilization_ratio=1.0, mean_power_w=390.0))["power limit"]
    assert found.saves_j == pytest.approx(a_summary()["energy"]["total_j"] * TUNING_RATIO)
    assert "97.5 %" in found.finding and "NSDI" in found.how


def test_nothing_is_said_of_a_gpu_that_others_used_too():
    assert advice(a_summary(utilization_ratio=0.2, share_ratio=0.5)) == []


@pytest.mark.parametrize("phase", ["evaluation", "eval", "validate", "val", "test_set", "my-eval"])
def test_evaluation_has_its_share(phase: str):
    summary = a_summary()
    energy = summary["energy"]
    energy["phases"][phase] = {"energy_j": energy["total_j"] / 4}
    found = topics(summary)["evaluation"]
    assert found.saves_j == pytest.approx(energy["total_j"] / 8)
    assert "25.0 %" in found.finding


@pytest.mark.parametrize("phase", ["main", "medieval", "latest", "train", "interval"])
def test_a_phase_that_is_no_evaluation_is_taken_for_none(phase: str):
    summary = a_summary()
    summary["energy"]["phases"][phase] = {"energy_j": summary["energy"]["total_j"] / 4}
    assert "evaluation" not in topics(summary)


def test_a_cloud_region_has_the_best_of_its_provider():
    summary = a_summary()
    summary["carbon"]["intensity"].update(zone="US-VA", note="aws:us-east-1 lies in US-VA (Virginia)")
    found = topics(summary)["region"]
    assert found.saves_j is None
    assert 0 < found.saves_g < summary["carbon"]["emissions_g"]
    assert found.action.startswith("run it in aws:")
    assert "region" not in topics(a_summary())


def test_the_hours_of_a_run_with_a_changing_grid_are_compared(tmp_path: Path):
    folder = a_run(tmp_path, "a", start_s=START_S, duration_s=4 * 3600.0, kwh=4.0, drawn=[])
    rates = (100.0, 200.0, 300.0, 400.0)
    rows = [
        ROW._replace(
            at_s=START_S + 3600.0 * number,
            duration_s=3600.0,
            energy_j=3.6e6,
            emissions_g=rate,
            intensity_g_per_kwh=rate,
        )
        for number, rate in enumerate(rates, 1)
    ]
    (folder / layout.SERIES_FILE).write_text("".join(map(series_text, rows)))
    summary = a_summary()
    found = topics(summary, Part(summary, folder))["hour"]
    assert found.saves_j is None
    assert found.saves_g == pytest.approx(summary["carbon"]["emissions_g"] * (1 - 100 / 250))


def test_small_change_and_estimates_are_passed_over():
    summary = a_summary()
    summary["energy"]["phases"]["eval"] = {"energy_j": summary["energy"]["total_j"] * 0.01}
    assert advice(summary) == []
    summary = a_summary(utilization_ratio=0.2)
    summary["state"] = "estimated"
    assert advice(summary) == []


def test_the_largest_saving_comes_first_and_each_line_says_how_it_follows():
    summary = a_summary(utilization_ratio=0.97, mean_power_w=200.0)
    summary["work"] = {"precision": "fp32"}
    summary["energy"]["phases"]["eval"] = {"energy_j": summary["energy"]["total_j"] / 2}
    found = advice(summary)
    assert [each.topic for each in found] == ["memory-bound", "evaluation"]
    shown = section(documents(found))
    assert [row[0] for row in shown.rows] == ["memory-bound", "evaluation"]
    assert all(each.how for each in found)
    assert shown.notes[-1].endswith("not to be added up.")
