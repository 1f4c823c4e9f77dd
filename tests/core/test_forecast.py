"""What the whole run will come to: the range holds the outcome, narrows, and is not given out of nothing."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.forecast import Forecast, Forecaster, Spent, is_due
from carbonmon.core.pace import FIRST, MAX_BLOCKS, RECENT, Pace
from tests.support.records import forecast as example
from tests.support.training import training

EARLY = (0.02, 0.05)
STAGES = (0.10, 0.25, 0.50, 0.75)
RUNS = 200


class Asked(NamedTuple):
    """What was forecast of a run at each stage, and what it came to."""

    made: dict[float, Forecast]
    energy_j: float
    duration_s: float

    def width(self, stage: float) -> float:
        """Half of the range of the energy, as a ratio of what was expected."""
        low, expected, high = self.made[stage].energy_j
        return (high - low) / 2.0 / expected


def asked(seed: int, rare: bool = False, announces: bool = False) -> Asked:
    """One training, told as a monitor hears it: at each sample, once a second, the newest step."""
    forecaster, made = Forecaster(), dict[float, Forecast]()
    sampled_s = -math.inf
    for report in training(seed, rare):
        forecaster.tell(report.at_s, report.step, report.total)
        if announces:
            forecaster.announce(report.evaluates_each, report.evaluation_steps)
        if report.at_s - sampled_s >= 1.0 or report.step == report.total:
            sampled_s = report.at_s
            forecaster.look(report.at_s, report.energy_j)
        for stage in (*EARLY, *STAGES):
            if stage not in made and report.step >= stage * report.total:
                found = forecaster.forecast(Spent(report.at_s, report.energy_j, 0.0, 0.0))
                if found is not None:
                    made[stage] = found
    return Asked(made, report.energy_j, report.at_s)


@pytest.fixture(scope="module")
def runs() -> list[Asked]:
    return [asked(seed) for seed in range(RUNS)]


@pytest.mark.parametrize("stage", EARLY)
def test_what_may_be_warm_up_is_not_taken_for_the_run(runs: list[Asked], stage: float):
    made = [(run.made[stage].energy_j, run.energy_j) for run in runs if stage in run.made]
    assert len(made) > 0.8 * RUNS
    assert sum(span.low <= energy_j <= span.high for span, energy_j in made) >= 0.9 * len(made)
    assert not any(span.low > energy_j for span, energy_j in made), (
        "no budget is exceeded by a forecast of it"
    )


def holds(runs: list[Asked], stage: float) -> bool:
    """Whether the ranges of energy and time hold the outcome in nine of ten runs."""
    energies = [run.made[stage].energy_j.low <= run.energy_j <= run.made[stage].energy_j.high for run in runs]
    times = [
        run.made[stage].duration_s.low <= run.duration_s <= run.made[stage].duration_s.high for run in runs
    ]
    return sum(energies) >= 0.9 * len(runs) and sum(times) >= 0.9 * len(runs)


@pytest.mark.parametrize("stage", STAGES)
def test_the_range_holds_in_nine_of_ten_generated_runs(runs: list[Asked], stage: float):
    assert holds(runs, stage)


@pytest.fixture(scope="module")
def announced() -> list[Asked]:
    return [asked(seed, rare=True, announces=True) for seed in range(RUNS)]


@pytest.mark.parametrize("stage", STAGES)
def test_the_range_holds_where_evaluations_are_rare_and_announced(announced: list[Asked], stage: float):
    assert holds(announced, stage)


def test_announced_evaluations_keep_the_range_below_20_percent_before_one_was_seen(announced: list[Asked]):
    widths = sorted(run.width(0.10) for run in announced)
    assert sum(width < 0.2 for width in widths) >= 0.95 * RUNS
    assert widths[RUNS // 2] < 0.12
    assert not holds([asked(seed, rare=True) for seed in range(RUNS // 5)], 0.10), (
        "what nobody announces is missing"
    )


def test_the_range_is_below_20_percent_after_a_tenth_and_narrows(runs: list[Asked]):
    widths = {stage: sorted(run.width(stage) for run in runs) for stage in STAGES}
    assert sum(width < 0.2 for width in widths[0.10]) >= 0.95 * RUNS, "short runs with few reports are wider"
    assert widths[0.10][-1] < 0.3
    medians = [widths[stage][RUNS // 2] for stage in STAGES]
    assert medians == sorted(medians, reverse=True)
    assert medians[0] < 0.1


def test_what_is_expected_is_near_the_outcome(runs: list[Asked]):
    errors = sorted(abs(run.made[0.25].energy_j.expected / run.energy_j - 1.0) for run in runs)
    assert errors[RUNS // 2] < 0.01
    assert errors[int(0.9 * RUNS)] < 0.05


def steady(total: float | None, steps: int = 20) -> Forecaster:
    """A training of which each step takes a second and 100 J."""
    forecaster = Forecaster()
    for step in range(steps):
        forecaster.tell(step, step, total)
        forecaster.look(step, 100.0 * step)
    return forecaster


SPENT = Spent(19.0, 1900.0, 19.0, 0.01, 0.19, 0.0001, "EUR")


@pytest.mark.parametrize("total", [None, -1, 0, math.inf, math.nan, 9223372036854775807])
def test_an_unknown_length_gives_no_forecast(total: float | None):
    assert steady(total).forecast(SPENT) is None


def test_a_step_beyond_the_last_one_gives_no_forecast():
    assert steady(10).forecast(SPENT) is None


def test_there_is_no_forecast_before_there_is_something_to_compare():
    assert steady(100, FIRST).forecast(SPENT) is None
    assert steady(100, FIRST + 1).forecast(SPENT) is not None


def test_grams_and_money_are_those_of_the_joules_that_are_left():
    made = steady(100).forecast(SPENT)
    assert made is not None
    assert made.energy_j.expected == pytest.approx(1900.0 + 81 * 100.0)
    assert made.emissions_g.expected == pytest.approx(19.0 + 81 * 100.0 * 0.01)
    assert made.cost is not None
    assert made.cost.expected == pytest.approx(0.19 + 81 * 100.0 * 0.0001)
    assert made.duration_s.expected == pytest.approx(100.0)


def test_a_negative_price_keeps_the_low_end_below_the_high_one():
    made = steady(100).forecast(SPENT._replace(money=-0.0001))
    assert made is not None
    assert made.cost is not None
    assert made.cost.low < made.cost.expected < made.cost.high


def test_what_was_drawn_since_the_last_step_is_not_counted_twice():
    forecaster = steady(100)
    before = forecaster.forecast(SPENT)
    forecaster.look(20.0, 2000.0)
    after = forecaster.forecast(SPENT._replace(energy_j=2000.0, duration_s=20.0))
    assert before is not None
    assert after is not None
    assert after.energy_j.expected == pytest.approx(before.energy_j.expected)


def test_a_training_that_goes_back_to_a_checkpoint_keeps_its_pace():
    forecaster = steady(100)
    forecaster.tell(19.5, 9, 100)
    forecaster.tell(20.0, 10, 100)
    forecaster.look(20.0, 2000.0)
    made = forecaster.forecast(SPENT._replace(energy_j=2000.0, duration_s=20.0))
    assert made is not None
    assert made.energy_j.expected == pytest.approx(2000.0 + 90 * 100.0)


def test_a_rank_that_is_behind_the_others_changes_nothing():
    alone, beside = steady(100), steady(100)
    for step in range(20, 40):
        alone.tell(step, step, 100)
        for each in (step, step - 1, step - 1, step - 3):
            beside.tell(step, each, 100)
        for each in (alone, beside):
            each.look(step, 100.0 * step)
    assert beside.forecast(SPENT) == alone.forecast(SPENT)


def test_periodic_evaluations_that_are_still_to_come_are_counted():
    pace, at_s, energy_j = Pace(), 0.0, 0.0
    for step in range(101):
        pace.see(at_s, energy_j, step)
        at_s, energy_j = at_s + 1.0, energy_j + 100.0
        if step % 20 == 0:
            at_s, energy_j = at_s + 10.0, energy_j + 500.0
    left = pace.left(100)
    assert left is not None
    assert left[1].low <= 100 * 100.0 + 5 * 500.0 <= left[1].high
    assert left[1].expected == pytest.approx(100 * 100.0 + 5 * 500.0, rel=0.05)
    assert pace.dearest_pause == (pytest.approx(10.0), pytest.approx(500.0))


def test_a_day_of_reports_takes_no_more_memory_than_an_hour():
    pace = Pace()
    for second in range(86_400):
        pace.see(second, 100.0 * second, second)
    assert len(pace._blocks) <= MAX_BLOCKS
    assert len(pace._recent) == RECENT
    assert sum(map(sys.getsizeof, pace._blocks)) < 10_000
    assert sum(block[0] for block in pace._blocks) == 86_399


reports = st.lists(
    st.tuples(st.floats(0.0, 1e6), st.floats(0.0, 1e9), st.floats(0.0, 1e6)), min_size=1, max_size=60
)


@given(reports, st.floats(0.0, 1e6))
def test_whatever_is_told_a_range_is_a_range(told: list[tuple[float, float, float]], total: float):
    forecaster, at_s, energy_j = Forecaster(), 0.0, 0.0
    for seconds, joules, step in told:
        at_s, energy_j = at_s + seconds, energy_j + joules
        forecaster.tell(at_s, step, total)
        forecaster.look(at_s, energy_j)
        made = forecaster.forecast(Spent(at_s, energy_j, 0.0, 0.01))
        if made is not None:
            for span in (made.energy_j, made.duration_s, made.emissions_g):
                assert 0.0 <= span.low <= span.expected * (1 + 1e-9)
                assert span.expected <= span.high * (1 + 1e-9)
            assert made.energy_j.low >= energy_j * (1 - 1e-9), "what is spent is spent"


def test_a_forecast_is_kept_at_a_tenth_a_quarter_and_a_half():
    kept: list[Forecast] = []
    for percent in range(101):
        if is_due(kept, percent / 100):
            kept.append(example(percent / 100))
    assert [made.done_ratio for made in kept] == [0.10, 0.25, 0.50]


def test_a_run_that_is_first_forecast_late_keeps_one():
    assert is_due([], 0.6)
    assert not is_due([example(0.6)], 0.7)
    assert not is_due([], 1.0)


def test_a_pause_between_two_steps_makes_none_of_them_slower():
    forecaster = steady(100)
    forecaster.skip(500.0, 2000.0)
    for step in range(20, 30):
        forecaster.tell(500.0 + step, step, 100)
        forecaster.look(500.0 + step, 2000.0 + 100.0 * step)
    made = forecaster.forecast(SPENT._replace(duration_s=529.0, energy_j=4900.0))
    assert made is not None
    assert made.energy_j.expected == pytest.approx(4900.0 + 71 * 100.0)
    assert made.duration_s.expected == pytest.approx(529.0 + 71.0)
