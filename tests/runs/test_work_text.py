"""What a run has done, in words that people read."""

from __future__ import annotations

from typing import Any

from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.work_text import (
    counts_text,
    flops_text,
    joules_text,
    work_lines,
)
from tests.support.records import node
from tests.support.rows import for_each_row


def summary_of(**work: Any) -> dict[str, Any]:
    snapshot = node(1, 1, 0)
    summary = summarize(snapshot, snapshot.runs[0], "final")
    summary["work"].update(work)
    return summary


@for_each_row(
    ("joules", "text"),
    [
        (5.4e6, "1.50 kWh"),
        (12.3, "12.3 J"),
        (0.0123, "12.3 mJ"),
        (4.5e-6, "4.50 µJ"),
        (6e-10, "0.600 nJ"),
    ],
)
def test_joules_of_a_token_have_a_unit_of_their_size(joules: float, text: str):
    assert joules_text(joules) == text


def test_counts_say_how_many_of_how_many():
    none = dict.fromkeys(("epochs", "samples", "tokens"))
    assert counts_text({**none, "steps": 600.0, "total_steps": 1000.0}) == "600 of 1,000 steps"
    assert counts_text({**none, "steps": 1.0, "total_steps": None}) == "1 step"
    assert (
        counts_text({**none, "steps": None, "total_steps": None, "tokens": 2.5e12}) == "2.50 trillion tokens"
    )
    assert counts_text({**none, "steps": None, "total_steps": None, "epochs": 0.5}) == "0.5 epochs"


def test_the_lines_fit_the_table_and_say_which_energy_it_is():
    lines = work_lines(summary_of(), 100)
    assert max(map(len, lines)) <= 100
    text = " ".join(" ".join(lines).split())
    assert "work 600 of 1,000 steps" in text
    assert "(from the first to the last report)" in text
    assert "estimated" not in text


@for_each_row(
    ("measured_ratio", "word"), [(0.5, "partly estimated"), (0.0, "report, estimated"), (None, "estimated")]
)
def test_what_is_estimated_is_called_so(measured_ratio: float | None, word: str):
    summary = summary_of()
    summary["energy"]["measured_ratio"] = measured_ratio
    assert word in " ".join(" ".join(work_lines(summary, 100)).split())


def test_a_precision_of_somebody_else_s_file_does_no_harm_to_a_terminal():
    work = summary_of(precision="\x1b[2J\x9b31m")["work"]
    assert flops_text(work).isprintable()


def test_idle_gpus_have_a_line_where_it_is_worth_one():
    summary = summary_of()
    assert not [line for line in work_lines(summary, 100) if "GPUs" in line], "a hundredth"
    summary["gpu_time"].update(held_s=100.0, idle_s=25.0, unknown_s=50.0, idle_energy_j=3600.0)
    first, second = work_lines(summary, 100)[-2:]
    assert first.startswith(
        "  idle       GPUs did nothing for 25.0 s of GPU time (50.0 %) and drew 3.60 kJ in it"
    )
    assert (len(first) <= 100, second.split()[-2:]) == (True, ["is", "unknown"])
