"""The idle power of packages and memory: when it is observed, and what `--idle none` makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.idle_power import (
    AT_FIRST,
    UNKNOWN_NOTE,
    IdlePower,
    dynamic_part,
    is_idle,
    joined_note,
    observe,
)
from carbonmon.core.model import Device, Interval
from carbonmon.core.ports import Roots
from carbonmon.monitor.run_account import RunAccount
from tests.monitor.test_run_figures import PACKAGE, Machine, device_of, info, monitor_of, summary_of, watch
from tests.support.harness import FakeClock

MEMORY = Device("dram-0", "dram", "memory", methods=("tdp",))


def second(power_w: float, at_s: float = 0.0, method: str = "counter") -> Interval:
    interval = Interval("package-0", at_s, at_s + 1.0, power_w=power_w)
    return interval._replace(**{f"{method}_j": power_w})


def after(*watts: float, idle: bool = True, start: IdlePower | None = None) -> IdlePower:
    state = start or IdlePower()
    for power_w in watts:
        state = observe(state, PACKAGE, second(power_w), idle)
    return state


def test_idle_is_less_than_two_percent_and_less_than_half_a_cpu():
    assert is_idle(0.01, 2.0, 1.0)
    assert not is_idle(0.04, 2.0, 1.0)
    assert is_idle(0.4, 128.0, 1.0)
    assert not is_idle(0.5, 128.0, 1.0)
    assert not is_idle(0.0, 0.0, 1.0), "nobody counted"


def test_the_idle_power_is_the_mean_of_ten_idle_seconds():
    assert after(*[50.0] * 9).idle_w is None
    assert after(*[50.0] * 9, 60.0).idle_w == pytest.approx(51.0)


def test_the_lowest_of_several_idle_times_counts():
    assert after(*[50.0] * 10, *[70.0] * 10, *[45.0] * 10, *[60.0] * 10).idle_w == pytest.approx(45.0)


def test_a_busy_second_begins_the_idle_time_anew():
    nine = after(*[50.0] * 9)
    assert after(*[50.0] * 9, start=after(300.0, idle=False, start=nine)).idle_w is None


def test_an_estimate_says_nothing_of_a_measured_device_and_something_of_an_estimated_one():
    state = estimated = IdlePower()
    for _ in range(10):
        state = observe(state, PACKAGE, second(5.0, method="tdp"), True)
        estimated = observe(estimated, MEMORY, second(5.0, method="tdp"), True)
    assert (state.idle_w, estimated.idle_w) == (None, 5.0)


def test_a_gap_ends_an_idle_time_and_no_power_at_all_is_not_believed():
    gap = second(50.0)._replace(unobserved_s=0.5)
    assert observe(after(*[50.0] * 9), PACKAGE, gap, True) == IdlePower()
    assert after(*[0.0] * 10).idle_w is None


def test_the_dynamic_part_is_what_is_above_the_idle_power():
    assert dynamic_part(40.0, 100.0).ratio == pytest.approx(0.6)
    assert dynamic_part(40.0, 30.0).ratio == 0.0
    assert dynamic_part(None, 100.0) == (1.0, UNKNOWN_NOTE)
    assert "idle power of 40 W (observed)" in dynamic_part(40.0, 100.0).note


@given(st.none() | st.floats(0.0, 1e4), st.none() | st.floats(0.0, 1e4))
def test_a_dynamic_part_is_a_part(idle_w: float | None, power_w: float | None):
    assert 0.0 <= dynamic_part(idle_w, power_w).ratio <= 1.0


def test_a_note_says_that_idle_power_was_unknown_at_first():
    known = dynamic_part(40.0, 100.0).note
    assert joined_note(None, known) == known
    assert joined_note(UNKNOWN_NOTE, known) == known + AT_FIRST
    assert joined_note(known + AT_FIRST, known) == known + AT_FIRST
    assert joined_note(UNKNOWN_NOTE, "by CPU time") == "by CPU time" + AT_FIRST


def test_a_run_without_idle_energy_is_charged_what_the_package_draws_above_its_idle_power():
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    machine.power_w[PACKAGE.id] = 40.0
    watch(sampler, machine, 12)
    machine.power_w[PACKAGE.id], machine.busy = 100.0, 5.0
    sampler.begin(RunAccount(info("run", "none"), []), Roots())
    machine.runs["run"] = 3.0
    watch(sampler, machine, 10)
    package = device_of(summary_of(sampler, "run"), PACKAGE)
    assert package["energy_j"] == pytest.approx(360.0), "3/5 of 60 W for 10 s"
    assert package["share_note"] == "by CPU time, without its idle power of 40 W (observed)"
    (state,) = [state for state in sampler.latest.devices if state.device.id == PACKAGE.id]
    assert state.unattributed_j == pytest.approx(12 * 40.0 + 640.0)
    assert state.idle_w == pytest.approx(40.0)


def test_a_run_pays_in_proportion_until_the_idle_power_is_observed():
    machine = Machine(FakeClock())
    sampler = monitor_of(machine)
    machine.power_w[PACKAGE.id], machine.busy = 100.0, 5.0
    sampler.begin(RunAccount(info("run", "none"), []), Roots())
    machine.runs["run"] = 3.0
    watch(sampler, machine, 10)
    package = device_of(summary_of(sampler, "run"), PACKAGE)
    assert package["energy_j"] == pytest.approx(600.0)
    assert package["share_note"] == UNKNOWN_NOTE
    machine.power_w[PACKAGE.id], machine.busy, machine.runs["run"] = 40.0, 0.0, 0.0
    watch(sampler, machine, 11)
    machine.power_w[PACKAGE.id], machine.busy, machine.runs["run"] = 100.0, 5.0, 3.0
    watch(sampler, machine, 10)
    package = device_of(summary_of(sampler, "run"), PACKAGE)
    assert package["energy_j"] == pytest.approx(600.0 + 360.0)
    assert package["share_note"].endswith("W (observed); in proportion at first")
