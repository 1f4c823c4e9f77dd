"""The gate: what a device cannot do is rejected, counted, logged once, and replaced by the next method."""

from __future__ import annotations

import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, Reading, Spec, Uncertainty
from carbonmon.core.plausibility import believed_limit_w, believed_range_uj, bound_w, check, is_working
from carbonmon.monitor.device_account import DeviceAccount
from carbonmon.monitor.gate import Gate
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.run_account import RunAccount
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

SPEC = Spec(100.0, Uncertainty(0.5, 1.0, "test"), "test")
GPU = Device("GPU-1", "gpu", "A GPU", methods=("power", "tdp"), max_power_w=160.0, spec=SPEC)
PACKAGE = Device("package-0", "cpu", "A CPU", methods=("counter",), max_power_w=600.0)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([-1.0, 0.0, 65535.0, 4294967.295])
SAMPLES = st.lists(st.tuples(st.floats(0.0, 10.0), NUMBERS), max_size=4).map(tuple)


@given(st.none() | NUMBERS, st.none() | NUMBERS, st.none() | SAMPLES, st.none() | SAMPLES)
def test_whatever_a_sensor_says_only_what_the_device_can_do_passes_and_the_rest_is_counted(
    power_w: float | None, ratio: float | None, trace, shape
):
    said = Reading(GPU.id, 7, power_w, trace, ratio, shape)
    passed, rejected = check(GPU, said)
    assert passed.energy_uj == 7
    assert passed.power_w is None or 0.0 <= passed.power_w <= 160.0
    assert passed.utilization_ratio is None or 0.0 <= passed.utilization_ratio <= 1.0
    for samples in (passed.trace, passed.shape):
        assert samples is None or all(0.0 <= sample_w <= 160.0 for _, sample_w in samples)
    lost = [
        name
        for name, before, after in (
            ("power", said.power_w, passed.power_w),
            ("utilization", said.utilization_ratio, passed.utilization_ratio),
            ("power sample", said.trace, passed.trace),
        )
        if before is not None and after is None
    ]
    assert sorted(each.quantity for each in rejected) == sorted(lost)


@pytest.mark.parametrize("power_w", [600_000.0, 4294967.295, -1.0, math.nan, math.inf])
def test_one_broken_reading_of_power_credits_nothing_and_the_estimate_stands_in(
    power_w: float, caplog: pytest.LogCaptureFixture
):
    said = [100.0] * 5 + [power_w] * 3 + [100.0] * 4

    class Sensor:
        name = "test"

        def devices(self):
            return [GPU]

        def sources(self):
            return []

        def read(self, now_s: float, edge: bool = False):
            yield Reading(GPU.id, power_w=said[round(now_s - 1000.0)], utilization_ratio=0.5)

        def close(self) -> None:
            pass

    clock = FakeClock()
    sampler = make_sampler(
        [GuardedSensor(Sensor())], {GPU.id: GPU}, [], FixedIntensity(), clock, 1.0, Overheads()
    )
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, [GPU]))
    with caplog.at_level(logging.WARNING):
        for _ in said[1:]:
            clock.time_s += 1.0
            sampler.tick()
    (state,) = sampler.finish(0, None).devices
    assert state.implausible == 3
    assert state.power_j == pytest.approx(700.0), "only between two plausible readings"
    assert state.tdp_j == pytest.approx(3 * 50.0) or state.tdp_j == pytest.approx(4 * 50.0)
    assert state.peak_power_w == 100.0
    assert [record.message for record in caplog.records] == [
        f"GPU-1: power {power_w:g} is not plausible (expected more than 0 to 160 W): it is not counted, the "
        "next method stands in",
        "GPU-1: power is plausible again",
    ]


def test_a_working_gpu_that_says_0_w_has_a_sensor_that_stands_still():
    gate, account = Gate(), DeviceAccount(GPU)
    assert gate.passed(account, Reading(GPU.id, power_w=0.0, utilization_ratio=1.0)).power_w is None
    assert gate.passed(account, Reading(GPU.id, power_w=0.0, utilization_ratio=0.0)).power_w == 0.0
    zeros = ((1.0, 0.0), (2.0, 0.0))
    assert gate.passed(account, Reading(GPU.id, None, None, zeros, 1.0)).trace is None
    assert account.implausible == 2


def test_the_bound_is_the_device_s_own():
    assert bound_w("gpu", 400.0, 250.0) == 800.0
    assert bound_w("gpu", None, 250.0) == 500.0
    assert bound_w("gpu", None, None) == 6000.0
    assert bound_w("cpu", None, 65.0) == 325.0
    assert bound_w("cpu", 253.0, 65.0) == pytest.approx(379.5)
    assert bound_w("cpu", None, None) == 1000.0


def test_a_limit_that_no_board_has_is_not_believed():
    assert believed_limit_w(4294967.295, None) is None
    assert believed_limit_w(2700.0, None) == 2700.0
    assert believed_limit_w(2700.0, 180.0) is None
    assert believed_limit_w(0.0, 180.0) is None
    assert believed_limit_w(350.0, 300.0) == 350.0


def test_a_package_always_works_and_a_gpu_when_it_is_used_or_draws():
    assert is_working(PACKAGE, Reading(PACKAGE.id))
    assert not is_working(GPU, Reading(GPU.id, power_w=5.0, utilization_ratio=0.0))
    assert is_working(GPU, Reading(GPU.id, utilization_ratio=0.05))
    assert is_working(GPU, Reading(GPU.id, power_w=10.0))


def test_a_range_that_no_counter_has_is_not_believed():
    """It would make the sampler read thousands of times a second, and hide a wrap in every interval."""
    assert believed_range_uj(1000) is None
    assert believed_range_uj(65_712_999_613) == 65_712_999_613
    assert believed_range_uj(None) is None
