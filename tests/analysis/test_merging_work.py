"""Counts are the job's and are divided by once, whatever the number of nodes that tell them."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.runs.report.merging import merged
from carbonmon.runs.summary.text import table_text
from tests.analysis.test_merging import on
from tests.support import records
from tests.support.records import START_S
from tests.support.strictness import strict_schema

VALIDATOR = jsonschema.Draft202012Validator(strict_schema())


def part(host: str, joules: float = 1e6, job_ratio: float = 0.5, **options: Any) -> dict[str, Any]:
    """A node's part with one GPU, on which all the job's steps were told."""
    summary = on(host, joules=joules, work=records.work(joules, job_ratio), **options)
    summary["work"]["peak_flop_per_s"] = 312e12
    return summary


def test_energies_of_nodes_are_added_and_divided_by_the_job_s_counts_once():
    one, other = part("a", 1e6), part("b", 3e6)
    work = merged([one, other])["work"]
    assert work["tokens"] == one["work"]["tokens"]
    assert work["energy_per_token_j"] == pytest.approx(
        one["work"]["energy_per_token_j"] + other["work"]["energy_per_token_j"]
    )
    assert work["job_ratio"] == 1.0
    assert one["work"]["mfu"] is one["work"]["flops_per_joule"] is None, "of half of the job's energy"
    assert work["flops_per_joule"] == pytest.approx(6e17 / (4e6 * 59 / 60))
    assert work["mfu"] == pytest.approx(6e17 / (2 * 312e12 * 3540))
    assert work["peak_flop_per_s"] == 2 * 312e12


@given(st.lists(st.floats(1.0, 1e9), min_size=2, max_size=6))
def test_the_whole_is_the_sum_of_the_nodes_for_any_number_of_them(joules: list[float]):
    parts = [part(f"host-{number}", each, 1.0 / len(joules)) for number, each in enumerate(joules)]
    whole = merged(parts)
    VALIDATOR.validate(whole)
    assert whole["work"]["energy_per_step_j"] == pytest.approx(
        sum(each["work"]["energy_per_step_j"] for each in parts)
    )
    assert whole["work"]["flops_per_joule"] is not None


def with_epochs(host: str, joules: tuple[float, ...], ends: tuple[float, ...] = (1.0, 2.0)) -> dict[str, Any]:
    summary = part(host)
    summary["work"]["each_epoch"] = [
        {"first": end - 1.0, "last": end, "duration_s": 10.0, "energy_j": energy_j}
        for end, energy_j in zip(ends, joules, strict=True)
    ]
    return summary


def test_each_epoch_is_the_sum_of_the_nodes_where_all_have_the_same():
    whole = merged([with_epochs("a", (1e3, 2e3)), with_epochs("b", (3e3, 4e3))])
    VALIDATOR.validate(whole)
    rows = whole["work"]["each_epoch"]
    assert [(row["last"], row["energy_j"], row["duration_s"]) for row in rows] == [
        (1.0, 4e3, 10.0),
        (2.0, 6e3, 10.0),
    ]
    other = with_epochs("b", (3e3, 4e3), (1.0, 3.0))
    assert merged([with_epochs("a", (1e3, 2e3)), other])["work"]["each_epoch"] == []
    older = part("b")
    del older["work"]["each_epoch"]
    assert merged([with_epochs("a", (1e3, 2e3)), older])["work"]["each_epoch"] == []


def test_where_one_node_was_told_nothing_only_the_whole_run_s_energy_is_divided():
    silent = on("b", joules=3e6)
    work = merged([part("a", 1e6), silent])["work"]
    assert work["energy_per_step_j"] is work["mfu"] is work["flops_per_joule"] is None
    assert work["run_energy_per_step_j"] == pytest.approx(4e6 / 600)
    assert work["spans"]["steps"]["energy_j"] is None


def test_parts_of_one_node_that_follow_one_another_are_one_count():
    first, again = part("a", 1e6, 1.0), part("a", 1e6, 1.0, start_s=START_S + 5000)
    for span in again["work"]["spans"].values():
        span.update(first=span["last"] * 0.9, last=span["last"] * 1.5)
    work = merged([first, again])["work"]
    assert work["spans"]["steps"] == {
        "first": 0.0,
        "last": 900.0,
        "duration_s": 2 * 3540.0,
        "energy_j": pytest.approx(2e6 * 59 / 60),
    }
    assert work["job_ratio"] == 1.0
    assert work["peak_flop_per_s"] == 312e12


def test_gpu_time_is_added_and_unknown_where_one_node_did_not_note_it():
    one, other = on("a"), on("b")
    one["gpu_time"] = {"held_s": 10.0, "unknown_s": 1.0, "idle_s": 2.0, "idle_energy_j": 30.0}
    one["gpu_time"]["idle_below_ratio"] = 0.01
    other["gpu_time"] = {**one["gpu_time"], "idle_s": None, "idle_energy_j": None, "unknown_s": 10.0}
    assert merged([one, on("c")])["gpu_time"] == one["gpu_time"], "the other held none"
    whole = merged([one, other])["gpu_time"]
    assert (whole["held_s"], whole["idle_s"], whole["idle_energy_j"]) == (20.0, None, None)
    del other["gpu_time"]
    assert merged([one, other])["gpu_time"] is None


def test_the_table_says_whose_part_a_figure_is():
    one = " ".join(table_text(part("a")).split())
    assert "from the first to the last report, this node's part" in one
    whole = " ".join(table_text(merged([part("a"), part("b")])).split())
    assert "this node's part" not in whole
    assert "MFU" in whole
