"""The table at the end of a run, and how its figures are said."""

from __future__ import annotations

import copy
import re

import pytest

from carbonmon.core.model import Device, NodeTotal, Snapshot
from carbonmon.runs.report.markdown import markdown_text
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
    UNDECODABLE,
    budget_state,
    device_state,
    dram,
    forecast,
    gpu,
    node,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.rows import for_each_row
from tests.support.summaries import VALIDATOR, of, with_phases, with_rows

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
        (0.0, "0.0 s"),
        (0.013, "<0.1 s"),
        (0.05, "0.1 s"),
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
