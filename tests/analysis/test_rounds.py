"""Two commands in turn: medians, and the chance that their ranks differ by nothing but chance."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.analysis.comparison.rounds import chance, compare_rounds, least_chance
from carbonmon.core.errors import ConfigError
from carbonmon.runs.summaries import summary_of
from carbonmon.service.rounds import turns
from tests.support import command
from tests.support.rows import for_each_row
from tests.support.run_folders import a_run, carbonmon

FIGURES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=5)


def test_five_runs_below_five_others_have_the_chance_of_two_in_252():
    assert chance([1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]) == pytest.approx(2 / 252)
    assert least_chance(5) == pytest.approx(2 / 252)


def test_figures_that_are_all_the_same_say_nothing():
    assert chance([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]) == 1.0


@given(FIGURES, FIGURES)
def test_the_chance_is_that_of_all_ways_to_deal_the_figures(ours: list[float], theirs: list[float]):
    figures = [*ours, *theirs]

    def distance(places: tuple[int, ...]) -> float:
        """How far the sum of ranks at these places is from its mean, of ranks with ties."""
        ranks = [
            sum(each < figure for each in figures) + (sum(each == figure for each in figures) + 1) / 2
            for figure in figures
        ]
        return abs(sum(ranks[place] for place in places) - len(places) * sum(ranks) / len(ranks))

    deals = list(itertools.combinations(range(len(figures)), len(ours)))
    found = distance(tuple(range(len(ours))))
    expected = sum(distance(deal) >= found - 1e-9 for deal in deals) / math.comb(len(figures), len(ours))
    assert chance(ours, theirs) == pytest.approx(expected)


def test_medians_are_compared_and_an_outlier_moves_nothing(tmp_path: Path):
    base = [summary_of(a_run(tmp_path, f"a{n}", kwh=kwh)) for n, kwh in enumerate((1.0, 1.1, 9.0))]
    other = [summary_of(a_run(tmp_path, f"b{n}", kwh=kwh)) for n, kwh in enumerate((0.5, 0.55, 0.6))]
    found = compare_rounds(base, other)
    assert found.energy_j is not None
    assert found.energy_j.difference.ratio == pytest.approx(-0.5)
    assert found.energy_j.chance == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="no energy was seen in run 'none'"):
        compare_rounds(base, [summary_of(a_run(tmp_path, "none", kwh=0.0))])


def test_each_command_is_first_as_often_as_second():
    plan = turns(4, 1_795_000_000.0)
    assert "".join(turn.side for turn in plan) == "abbaabba"
    assert plan[0].run_id == "compare-20261118-110640-a1"
    assert len({turn.run_id for turn in plan}) == 8


@for_each_row(
    ("arguments", "said"),
    [
        (("--rounds", "5", "--", "true"), "--rounds: give two commands"),
        (("--rounds", "5", "--", "--versus", "true"), "--rounds: give two commands"),
        (("--rounds", "5", "--", "true", "--versus"), "--rounds: give two commands"),
        (("--rounds", "1", "--", "true", "--versus", "true"), "'1' is not a whole number from 2 to 100"),
        (("--", "true", "--versus", "true"), "--versus goes with --rounds N"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(arguments: tuple[str, ...], said: str, tmp_path: Path):
    text = carbonmon("compare", "--output", tmp_path, *arguments, code=2).output
    assert said in " ".join(text.split())
    assert list(tmp_path.iterdir()) == []


def busy(millions: int) -> list[str]:
    """A command that adds so many millions of numbers."""
    return [sys.executable, "-c", f"sum(range({millions}_000_000))"]


@pytest.mark.e2e
def test_two_commands_run_in_turn_and_are_compared(tmp_path: Path):
    words = ["--", *busy(2), "--versus", *busy(20)]
    done = command.run(["compare", "--rounds", "2", "--format", "json", *words], tmp_path)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["comparisons"]
    assert found["energy_j"]["ratio"] > 0.2, "ten times the work"
    assert found["energy_j"]["chance"] == pytest.approx(1 / 3)
    runs = json.loads(command.run(["runs", "--format", "json"], tmp_path).stdout)["runs"]
    assert [run["run_id"][-2:] for run in runs] == ["a1", "b1", "b2", "a2"]


@pytest.mark.e2e
def test_a_command_that_fails_ends_the_comparison(tmp_path: Path):
    done = command.run(["compare", "--rounds", "2", "--", "false", "--versus", "true"], tmp_path)
    assert done.returncode == 1
    assert "round 1: 'false' ended with 1" in done.stderr
