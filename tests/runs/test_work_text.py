"""What a run has done, in words that people read."""

from __future__ import annotations

from typing import Any

from carbonmon.runs.report import sections
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.work_text import (
    counts_text,
    epoch_text,
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
    ("first", "last", "text"),
    [
        (0.0, 1.0, "1"),
        (6.0, 7.0, "7"),
        (0.0, 8.0, "1–8"),
        (3.0, 3.2, "4 (to 3.2)"),
        (0.5, 1.0, "1 (from 0.5)"),
        (0.5, 2.25, "1–3 (from 0.5 to 2.25)"),
    ],
)
def test_an_epoch_has_its_number_and_says_what_of_it_is_missing(first: float, last: float, text: str):
    assert epoch_text({"first": first, "last": last}) == text


def test_reports_have_a_table_of_epochs_where_there_are_two():
    row = {"first": 0.0, "last": 1.0, "duration_s": 90.0, "energy_j": 36_000.0}
    other = {"first": 1.0, "last": 1.5, "duration_s": 30.0, "energy_j": None}
    table = sections.epochs(summary_of(each_epoch=[row, other]))
    assert table.rows == [
        ["1", "10.0 Wh", "400 W", "1 min 30 s", "10.0 Wh"],
        ["2 (to 1.5)", "–", "–", "30.0 s", "–"],
    ]
    for only in ([row], [], None):
        assert sections.epochs(summary_of(each_epoch=only)).rows == []
    assert "## Epochs" in markdown_text(summary_of(each_epoch=[row, other]))
    assert "## Epochs" not in markdown_text(summary_of(each_epoch=[row]))


@for_each_row(
    ("joules", "text"),
    [
        (5.4e6, "1.50 kWh"),
        (12.3, "12.3 J"),
        (0.0123, "12.3 mJ"),
        (4.5e-6, "4.50 µJ"),
        (6e-10, "0.600 nJ"),
        (3.6e15 - 3.6e9, "999999 MWh"),
        (1e30, ">1,000,000 MWh"),
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


def test_counts_in_units_that_are_far_too_small_make_no_long_figures():
    counts = dict.fromkeys(("epochs", "samples", "tokens"), 9e29)
    assert counts_text({**counts, "steps": 3e16, "total_steps": 3e16}) == (
        "3e+16 of 3e+16 steps, 9e+29 epochs, 9e+29 samples, 9e+29 tokens"
    )
    lines = work_lines(summary_of(flops_per_joule=1e28, mfu=1e16, precision="bf16"), None)
    text = " ".join(" ".join(lines).split())
    assert ">1,000,000 TFLOP a joule, MFU >1,000,000 % (bf16)" in text


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


def test_a_count_that_never_went_above_0_is_unknown_and_no_steps_are_none():
    snapshot = node()
    (run,) = snapshot.runs
    assert run.work is not None
    begun = run.work._replace(steps=0.0, tokens=0.0, samples=12.0)
    found = summarize(snapshot, run._replace(work=begun), "final")["work"]
    assert (found["steps"], found["tokens"], found["samples"]) == (0.0, None, 12.0)
