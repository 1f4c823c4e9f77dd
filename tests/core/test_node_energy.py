"""From a node meter's readings to joules: coarse counters, gaps, resets, and what a run's edge settles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core import node_energy
from carbonmon.core.model import Interval
from carbonmon.core.node_energy import NodeFold
from carbonmon.core.node_meter import MOST_NODE_W, NodeReading

KWH_UJ = 3_600_000_000_000


class Meter:
    """A fold, and the sum of what it settled."""

    def __init__(self, period_s: float = 1.0) -> None:
        self.fold: NodeFold = node_energy.begun("test", period_s, 0.0)
        self.intervals: list[Interval] = []
        self.rejected = 0

    def say(
        self, at_s: float, power_w: float | None = None, energy_uj: int | None = None, line: str = ""
    ) -> None:
        self.fold, intervals, rejected = node_energy.advance(
            self.fold, NodeReading(power_w, energy_uj, line), at_s
        )
        self.intervals += intervals
        self.rejected += rejected

    def settle(self, at_s: float) -> None:
        self.fold, interval = node_energy.settle(self.fold, at_s)
        self.intervals += [interval] if interval else []

    def finish(self, at_s: float) -> None:
        self.settle(at_s)
        interval = node_energy.finish(self.fold, at_s)
        self.intervals += [interval] if interval else []

    @property
    def energy_j(self) -> float:
        return sum(each.energy_j for each in self.intervals)

    @property
    def counter_j(self) -> float:
        return sum(each.counter_j for each in self.intervals)

    @property
    def unobserved_s(self) -> float:
        return sum(each.unobserved_s for each in self.intervals)

    @property
    def resets(self) -> int:
        return sum(each.resets for each in self.intervals)


def test_power_is_integrated_between_two_readings():
    meter = Meter()
    for second in range(11):
        meter.say(float(second), 400.0 + 10.0 * second)
    meter.finish(10.0)
    assert meter.energy_j == pytest.approx(4500.0)
    assert meter.unobserved_s == 0.0


def test_a_counter_that_moves_at_each_reading_gives_the_energy():
    meter = Meter()
    for second in range(11):
        meter.say(float(second), 1.0, 500_000_000 * second)
    assert meter.energy_j == pytest.approx(0.5 * 2 + 500.0 * 9), (
        "the first move is the baseline, power before"
    )
    assert meter.counter_j == pytest.approx(4500.0)


def test_of_a_counter_in_steps_of_a_kwh_no_joule_counts_twice_and_none_is_lost():
    """2 kW for 6 h in readings of 10 s; the power sensor says 5 % too little."""
    meter = Meter(10.0)
    true_w, offset_j = 2000.0, 1_234_567.0
    for at_s in range(0, 6 * 3600 + 1, 10):
        steps = int((offset_j + true_w * at_s) // 3.6e6)
        meter.say(float(at_s), 0.95 * true_w, steps * KWH_UJ)
    meter.finish(6 * 3600.0)
    truth_j = true_w * 6 * 3600
    ends_j = 2 * 3.6e6  # before the first and behind the last step there is power alone
    assert truth_j - 0.05 * ends_j - true_w * 20 <= meter.energy_j <= truth_j + true_w * 20
    assert meter.unobserved_s == 0.0
    assert node_energy.counter_step_j(meter.fold) == 3.6e6


def test_a_coarse_counter_without_power_leaves_its_ends_unobserved():
    meter = Meter(10.0)
    for at_s in range(0, 3601, 10):
        meter.say(float(at_s), None, int(1.5 + at_s / 1000) * KWH_UJ)
    meter.finish(3600.0)
    assert meter.energy_j == pytest.approx(3 * 3.6e6)
    assert meter.unobserved_s == pytest.approx(500.0 + 100.0)


@pytest.mark.parametrize(("after_uj", "line"), [(5, "same"), (900_000_000_000, "another")])
def test_a_counter_that_begins_anew_is_replaced_by_power_until_it_moves_again(after_uj: int, line: str):
    meter = Meter()
    for second in range(5):
        meter.say(float(second), 300.0, 800_000_000_000 + 300_000_000 * second, "same")
    for second in range(5, 10):
        meter.say(float(second), 300.0, after_uj + 300_000_000 * second, line)
    meter.finish(9.0)
    assert meter.energy_j == pytest.approx(2700.0)
    assert meter.resets == 1
    assert meter.unobserved_s == 0.0


def test_a_counter_that_runs_faster_than_a_machine_can_draw_is_a_jump():
    meter = Meter()
    for second, energy_uj in enumerate((0, 500_000_000, 10**15, 10**15 + 500_000_000, 10**15 + 10**9)):
        meter.say(float(second), 500.0, energy_uj)
    assert meter.energy_j == pytest.approx(2000.0)
    assert sum(each.jumps for each in meter.intervals) == 1


@pytest.mark.parametrize("watts", [65535.0, MOST_NODE_W + 1, -1.0])
def test_a_power_that_no_machine_draws_is_rejected_and_counted(watts: float):
    meter = Meter()
    for at_s, power_w in ((0.0, 400.0), (1.0, watts), (2.0, 400.0), (3.0, 400.0)):
        meter.say(at_s, power_w)
    meter.finish(3.0)
    assert meter.rejected == 1
    assert meter.energy_j == pytest.approx(400.0)
    assert meter.unobserved_s == pytest.approx(2.0)


def test_a_silence_beyond_the_limit_is_stated_in_seconds():
    meter = Meter(5.0)
    meter.say(0.0, 400.0)
    meter.say(5.0, 400.0)
    meter.say(105.0, 400.0)
    meter.finish(110.0)
    assert meter.energy_j == pytest.approx(2000.0 + 2000.0)
    assert meter.unobserved_s == pytest.approx(100.0)


def test_the_last_power_lasts_until_a_run_s_edge_and_the_next_reading_adds_only_the_rest():
    meter = Meter(10.0)
    meter.say(0.0, 400.0)
    meter.settle(4.0)
    assert meter.energy_j == pytest.approx(1600.0)
    meter.say(10.0, 400.0)
    meter.settle(10.0)
    assert meter.energy_j == pytest.approx(4000.0)
    assert meter.unobserved_s == 0.0


def test_an_answer_from_before_an_edge_changes_nothing_of_what_was_settled():
    meter = Meter(10.0)
    meter.say(0.0, 400.0)
    meter.settle(4.0)
    meter.say(3.9, 400.0)
    meter.say(8.0, 400.0)
    meter.settle(8.0)
    assert meter.energy_j == pytest.approx(3200.0)


def test_another_monitor_of_the_same_boot_credits_the_outage_by_the_counter():
    meter = Meter()
    for second in range(5):
        meter.say(float(second), 300.0, 300_000_000 * second, "line")
    meter.fold = node_energy.resumed(node_energy.begun("test", 1.0, 104.0), meter.fold.meter)
    meter.say(104.0, 300.0, 300_000_000 * 104, "line")
    assert meter.energy_j == pytest.approx(300.0 * 104)
    assert meter.unobserved_s == 0.0


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0.1, 30.0),
            st.one_of(st.none(), st.floats(1.0, 5000.0)),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=40,
    ),
    step_uj=st.sampled_from([1, 10**6, 10**9, KWH_UJ]),
)
def test_every_second_is_observed_or_stated_and_no_counter_is_exceeded(
    steps: list[tuple[float, float | None, bool, bool]], step_uj: int
):
    """Whatever is read when: intervals join, and by the counter's moves no joule counts twice."""
    meter = Meter(5.0)
    now_s, truth_j = 0.0, 0.0
    for seconds, power_w, has_counter, is_edge in steps:
        now_s += seconds
        truth_j += 500.0 * seconds
        if is_edge:
            meter.settle(now_s)
        meter.say(now_s, power_w, int(truth_j * 1e6) // step_uj * step_uj if has_counter else None)
    meter.finish(now_s)
    ends = [0.0, *(each.end_s for each in meter.intervals)]
    assert all(each.start_s == before for each, before in zip(meter.intervals, ends, strict=False))
    assert meter.counter_j <= truth_j + 1e-3
    assert 0.0 <= meter.unobserved_s <= now_s + 1e-6
    assert all(each.energy_j >= 0.0 for each in meter.intervals)
