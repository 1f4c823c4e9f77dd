"""The arithmetic of what a training logs: nothing unknown is a figure, nothing is counted twice."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.integrations.figures import Counts, Spent, Totals, keys, since_begin, since_log

AMOUNTS = st.none() | st.floats(0.0, 1e30)
COUNTS = st.builds(Counts, st.floats(0.0, 1e9), AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
RATIOS = st.none() | st.floats(0.0, 1.0)
TOTALS = st.builds(Totals, st.floats(0.0, 1e15), AMOUNTS, AMOUNTS, RATIOS, AMOUNTS)
SPENT = st.builds(Spent, st.floats(0.0, 1e15), st.floats(0.0, 1e9), st.booleans())

NAMES = {
    *("carbonmon_energy_j", "carbonmon_energy_kwh", "carbonmon_emissions_kg", "carbonmon_power_w"),
    *("carbonmon_energy_per_step_j", "carbonmon_energy_per_sample_j", "carbonmon_energy_per_token_j"),
    *("carbonmon_flops_per_joule", "carbonmon_mfu", "carbonmon_measured_ratio", "carbonmon_is_interpolated"),
}


@given(st.none() | TOTALS, st.none() | TOTALS, SPENT, COUNTS, COUNTS)
def test_whatever_is_unknown_each_key_has_a_finite_float(
    begin: Totals | None, now: Totals | None, spent: Spent, before: Counts, after: Counts
):
    found = keys(since_begin(begin, now) | since_log(spent, before, after, now))
    assert found.keys() <= NAMES
    assert all(type(value) is float and math.isfinite(value) and value >= 0.0 for value in found.values())


def test_totals_are_those_since_the_training_began():
    begin = Totals(energy_j=1000.0, measured_j=1000.0, emissions_g=50.0)
    now = Totals(energy_j=3_601_000.0, measured_j=901_000.0, emissions_g=1050.0)
    assert keys(since_begin(begin, now)) == {
        "carbonmon_energy_j": 3.6e6,
        "carbonmon_energy_kwh": 1.0,
        "carbonmon_emissions_kg": 1.0,
        "carbonmon_measured_ratio": 0.25,
    }


def test_each_figure_of_a_step_is_that_of_the_steps_since_the_last_log():
    before = Counts(steps=100, samples=800, tokens=8000, flops=8e12)
    now = Counts(steps=110, samples=880, tokens=8800, flops=8.8e12)
    totals = Totals(5000.0, job_ratio=1.0, peak_flop_per_s=1e12)
    assert keys(since_log(Spent(400.0, 2.0, is_interpolated=True), before, now, totals)) == {
        "carbonmon_power_w": 200.0,
        "carbonmon_energy_per_step_j": 40.0,
        "carbonmon_energy_per_sample_j": 5.0,
        "carbonmon_energy_per_token_j": 0.5,
        "carbonmon_flops_per_joule": pytest.approx(2e9),
        "carbonmon_mfu": pytest.approx(0.4),
        "carbonmon_is_interpolated": 1.0,
    }


def test_a_node_of_two_has_half_of_the_tokens_and_its_own_steps():
    totals = Totals(5000.0, job_ratio=0.5)
    found = keys(since_log(Spent(400.0, 2.0), Counts(0, tokens=0), Counts(10, tokens=800), totals))
    assert found["carbonmon_energy_per_token_j"] == 1.0
    assert found["carbonmon_energy_per_step_j"] == 40.0


@pytest.mark.parametrize(
    "now",
    [
        None,
        Totals(999.0, 0.0, 0.0),  # another run, or a monitor that began anew
    ],
)
def test_a_total_that_fell_or_is_unknown_is_left_out(now: Totals | None):
    assert keys(since_begin(Totals(1000.0, 0.0, 0.0), now)) == {}


def test_counts_that_went_back_to_a_checkpoint_give_no_figure():
    found = keys(since_log(Spent(400.0, 2.0), Counts(600, tokens=6000), Counts(500, tokens=5000), None))
    assert found.keys() == {"carbonmon_power_w", "carbonmon_is_interpolated"}
