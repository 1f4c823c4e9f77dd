"""The meter, case by case: what counters, power sensors and silence turn into."""

from __future__ import annotations

import pytest

from carbonmon.core import energy
from carbonmon.core.energy import Limits
from carbonmon.core.model import Device, Failure, Interval, Meter, Reading, Spec, Uncertainty

LIMITS = Limits(hold_s=5.0, max_gap_s=10.0)
RANGE_UJ = 262_143_328_850
SPEC = Spec(400.0, Uncertainty(0.5, 1.0, "test"), "test")
GPU = Device("GPU-1", "gpu", "A GPU", methods=("counter", "power", "tdp"), max_power_w=400.0, spec=SPEC)
PACKAGE = Device(
    "package-0", "cpu", "A CPU", methods=("counter",), counter_range_uj=RANGE_UJ, max_power_w=1000.0
)


def joules(value: float) -> int:
    return round(value * 1_000_000)


class Metered:
    """Feeds readings to a meter and adds up what comes out."""

    def __init__(self, device: Device, limits: Limits = LIMITS) -> None:
        self.device = device
        self.limits = limits
        self.meter: Meter | None = None
        self.at_s = 0.0
        self.intervals: list[Interval] = []

    def at(self, at_s: float, reading: Reading | Failure | None = None, **said: object) -> Interval | None:
        reading = reading or Reading(self.device.id, **said)  # type: ignore[arg-type]
        self.at_s = at_s
        if self.meter is None:
            self.meter = energy.start(self.device, reading, at_s)
            return None
        self.meter, interval = energy.advance(self.meter, self.device, reading, at_s, self.limits)
        if interval is not None:
            self.intervals.append(interval)
        return interval

    def fail(self, at_s: float) -> Interval | None:
        return self.at(at_s, Failure(self.device.id, "broken"))

    def finish(self) -> None:
        assert self.meter is not None
        interval = energy.finish(self.meter, self.device, self.at_s)
        if interval is not None:
            self.intervals.append(interval)

    def total(self, field: str) -> float:
        return sum(getattr(interval, field) for interval in self.intervals)


def test_a_counter_s_difference_is_the_energy_of_the_interval():
    metered = Metered(GPU)
    metered.at(10.0, energy_uj=joules(5000))
    interval = metered.at(11.0, energy_uj=joules(5300))
    assert interval == Interval("GPU-1", 10.0, 11.0, 300.0, 0.0, 0.0, 300.0)


def test_an_interval_of_a_millisecond_tells_no_power_and_loses_no_joule():
    """A counter is refreshed each 20 to 100 ms: just before that it says 0 W, just behind it kilowatts."""
    meter = Metered(GPU)
    shown: float | None = None
    for at_s, counter_j in ((0.0, 0.0), (1.0, 300.0), (1.001, 300.0), (1.002, 330.0), (2.0, 600.0)):
        if interval := meter.at(at_s, energy_uj=joules(counter_j)):
            shown = energy.last_power_w(shown, interval)
            assert shown == pytest.approx(300.0, rel=0.1), at_s
            assert meter.meter is not None and meter.meter.rate_w == shown
    assert meter.total("counter_j") == 600.0


def test_a_counter_that_wraps_loses_nothing():
    metered = Metered(PACKAGE)
    metered.at(0.0, energy_uj=RANGE_UJ - joules(50))
    metered.at(1.0, energy_uj=joules(70))
    assert metered.total("counter_j") == pytest.approx(120.0 + 1e-6)
    assert metered.total("resets") == 0


def test_a_counter_without_a_range_never_wraps_so_a_decrease_that_stays_is_a_reset():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=joules(9_000_000))
    for second in (1, 2, 3):
        assert metered.total("energy_j") == metered.total("resets") == 0.0
        metered.at(float(second), energy_uj=joules(5 + 200 * (second - 1)))
    assert metered.total("resets") == 1
    assert metered.total("unobserved_s") == 1.0
    assert metered.total("counter_j") == 400.0, "from its new line on the counter is exact"
    metered.at(4.0, energy_uj=joules(605))
    assert metered.total("counter_j") == 600.0


def test_a_reset_of_a_counter_that_wraps_is_not_taken_for_a_wrap():
    metered = Metered(PACKAGE)
    metered.at(0.0, energy_uj=joules(100_000))
    for second in (1, 2, 3):
        metered.at(float(second), energy_uj=joules(10))
    assert metered.total("energy_j") == 0.0
    assert metered.total("resets") == 1


def test_integrated_power_stands_in_until_a_reset_and_the_counter_from_then_on():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=joules(9000), power_w=200.0)
    for second in (1, 2, 3):
        interval = metered.at(float(second), energy_uj=joules(300 * (second - 1)), power_w=300.0)
    assert interval is not None
    assert (interval.start_s, interval.end_s) == (0.0, 3.0)
    assert (interval.power_j, interval.counter_j, interval.unobserved_s) == (250.0, 600.0, 0.0)


@pytest.mark.parametrize("readings", [1, 2])
@pytest.mark.parametrize("device", [GPU, PACKAGE])
def test_a_counter_that_steps_back_and_returns_loses_nothing_and_gains_nothing(device: Device, readings: int):
    """A Ryzen 7840HS read 860 J too low for a second, an NVIDIA board 500 J (public bug reports, 2026)."""
    metered = Metered(device)
    for second in range(12):
        glitch_j = 860 if 5 <= second < 5 + readings else 0
        metered.at(float(second), energy_uj=joules(65_000 + 8 * second - glitch_j))
    assert metered.total("counter_j") == metered.total("energy_j") == 88.0
    assert metered.total("step_backs") == readings
    assert metered.total("resets") == metered.total("jumps") == metered.total("unobserved_s") == 0
    assert max(interval.power_w or 0.0 for interval in metered.intervals) == 8.0


def test_a_jump_above_what_the_device_can_draw_is_rejected_and_counted():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0, power_w=300.0)
    metered.at(1.0, energy_uj=joules(262_000), power_w=300.0)
    assert metered.total("energy_j") == 0.0
    metered.at(2.0, energy_uj=joules(262_300), power_w=300.0)
    assert metered.total("jumps") == 1
    assert (metered.total("power_j"), metered.total("counter_j")) == (300.0, 300.0)
    metered.at(3.0, energy_uj=joules(262_600), power_w=300.0)
    assert metered.total("energy_j") == 900.0


def test_a_jump_that_time_alone_would_make_plausible_stays_rejected():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0)
    for second in range(1, 6):
        metered.at(float(second), energy_uj=joules(2000 + 10 * second))
    assert metered.total("jumps") == 1
    assert metered.total("energy_j") == 40.0


def test_a_counter_that_jumps_and_returns_is_exact():
    metered = Metered(GPU)
    for second in range(6):
        jump_j = 262_000 if second == 2 else 0
        metered.at(float(second), energy_uj=joules(300 * second + jump_j))
    assert metered.total("counter_j") == 1500.0
    assert (metered.total("jumps"), metered.total("unobserved_s")) == (1, 0.0)


def test_a_counter_that_makes_no_sense_is_replaced_after_the_hold_and_each_value_is_counted():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=joules(500_000), power_w=100.0)
    for second in range(1, 21):
        metered.at(float(second), energy_uj=joules(400_000 if second % 2 else 90_000_000), power_w=100.0)
    metered.finish()
    assert metered.total("energy_j") == metered.total("power_j") == 2000.0
    assert metered.total("counter_j") == 0.0
    assert metered.total("step_backs") + metered.total("jumps") + metered.total("resets") >= 18


def test_at_the_end_a_decrease_that_is_not_understood_yet_is_counted_and_not_credited():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=joules(9000))
    metered.at(1.0, energy_uj=joules(10))
    metered.finish()
    assert metered.total("energy_j") == 0.0
    assert metered.total("resets") == metered.total("unobserved_s") == 1


# ---- a counter that stands still ----


def test_a_package_s_counter_that_stands_at_0_is_estimated():
    """VirtualBox and some KVM guests show powercap whose energy_uj is 0 for ever."""
    package = PACKAGE._replace(methods=("counter", "tdp"), spec=SPEC)
    metered = Metered(package)
    for second in range(13):
        metered.at(float(second), energy_uj=0, utilization_ratio=0.5)
    metered.finish()
    assert metered.total("counter_j") == 0.0
    assert metered.total("tdp_j") == 12 * 0.5 * SPEC.tdp_w
    assert metered.total("stuck") == 1


def test_a_package_s_counter_that_never_moves_and_that_nothing_replaces_is_unknown_and_not_0():
    metered = Metered(PACKAGE)
    for second in range(13):
        metered.at(float(second), energy_uj=0)
    metered.finish()
    assert (metered.total("energy_j"), metered.total("unobserved_s")) == (0.0, 12.0)


def test_a_gpu_that_is_switched_off_draws_0_and_its_counter_is_believed():
    metered = Metered(GPU)
    for second in range(13):
        metered.at(float(second), energy_uj=joules(100), utilization_ratio=0.0)
    assert metered.total("unobserved_s") == metered.total("tdp_j") == metered.total("stuck") == 0
    assert metered.intervals[-1].power_w == 0.0


@pytest.mark.parametrize(("seconds", "unobserved_s", "stuck"), [(3, 0.0, 0), (60, 60.0, 1)])
def test_a_busy_gpu_s_counter_that_stands_still_and_that_nothing_replaces_is_unknown_and_not_0(
    seconds: int, unobserved_s: float, stuck: int
):
    metered = Metered(GPU._replace(methods=("counter",), spec=None))
    for second in range(seconds + 1):
        metered.at(float(second), energy_uj=joules(100), utilization_ratio=1.0)
    metered.finish()
    assert metered.total("energy_j") == 0.0
    assert metered.total("unobserved_s") == unobserved_s
    assert metered.total("stuck") == stuck


def test_a_counter_that_catches_up_is_credited_less_what_stood_in():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0, power_w=300.0)
    for second in range(1, 11):
        metered.at(float(second), energy_uj=0, power_w=310.0, utilization_ratio=0.9)
    assert metered.total("power_j") == pytest.approx(305.0 + 9 * 310.0)
    metered.at(11.0, energy_uj=joules(11 * 310), power_w=310.0)
    assert metered.total("energy_j") == pytest.approx(11 * 310.0)
    assert metered.total("stuck") == 1


def test_a_counter_that_lost_the_time_it_stood_still_counts_again_at_once():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0, power_w=300.0)
    for second in range(1, 101):
        metered.at(float(second), energy_uj=0, power_w=300.0, utilization_ratio=0.9)
    for second in range(101, 111):
        metered.at(float(second), energy_uj=joules(300 * (second - 100)), power_w=300.0)
    assert metered.total("energy_j") == pytest.approx(110 * 300.0, rel=0.01)
    assert metered.total("counter_j") == 9 * 300.0


def test_a_counter_that_is_read_faster_than_it_is_refreshed_does_not_stand_still():
    metered = Metered(PACKAGE)
    for step in range(101):
        metered.at(0.02 * step, energy_uj=joules(10 * (step // 5)))
    assert metered.total("counter_j") == 200.0
    assert metered.total("stuck") == 0


def test_one_failed_read_of_a_counter_is_bridged_exactly():
    metered = Metered(PACKAGE)
    metered.at(0.0, energy_uj=0)
    assert metered.fail(1.0) is None
    interval = metered.at(2.0, energy_uj=joules(240))
    assert interval is not None
    assert (interval.start_s, interval.end_s, interval.counter_j) == (0.0, 2.0, 240.0)
    assert metered.total("unobserved_s") == 0.0


def test_a_long_silence_of_a_lone_counter_is_still_bridged_when_it_speaks_again():
    metered = Metered(PACKAGE)
    metered.at(0.0, energy_uj=0)
    for second in range(1, 60):
        assert metered.fail(float(second)) is None
    metered.at(60.0, energy_uj=joules(6000))
    assert metered.total("counter_j") == 6000.0
    assert metered.total("unobserved_s") == 0.0
    assert metered.intervals[-1].power_w == 100.0, "no phantom peak from the energy of the silence"


def test_a_silence_in_which_a_wrap_could_hide_is_reported_and_not_guessed():
    metered = Metered(PACKAGE)
    metered.at(0.0, energy_uj=0)
    metered.fail(1.0)
    metered.at(600.0, energy_uj=joules(75_000))
    assert metered.total("energy_j") == 0.0
    assert metered.total("unobserved_s") == 600.0
    assert metered.total("resets") == 0


def test_a_silent_counter_steps_down_to_power_after_the_hold_and_nothing_is_counted_twice():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0, power_w=300.0)
    for second in range(1, 21):
        metered.at(float(second), power_w=310.0)
    assert metered.total("power_j") == pytest.approx(305.0 + 19 * 310.0)
    assert metered.total("counter_j") == 0.0
    metered.at(21.0, energy_uj=joules(6300), power_w=310.0)
    assert metered.total("energy_j") == pytest.approx(6300.0), "the total returns to the counter's truth"


def test_lower_rungs_that_were_too_high_are_paid_back_by_the_counter_and_the_total_never_falls():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0, power_w=400.0)
    for second in range(1, 11):
        metered.at(float(second), power_w=400.0)
    before_j = metered.total("energy_j")
    metered.at(11.0, energy_uj=joules(2200), power_w=400.0)
    assert metered.total("energy_j") == before_j
    for second in range(12, 25):
        metered.at(float(second), energy_uj=joules(second * 200), power_w=200.0)
    assert metered.total("energy_j") == pytest.approx(24 * 200.0)


def test_within_the_hold_a_power_reading_credits_nothing_and_the_counter_everything():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0, power_w=300.0)
    for tenth in range(1, 10):
        assert metered.at(tenth / 10, power_w=300.0) is None
    metered.at(1.0, energy_uj=joules(290), power_w=300.0)
    assert (metered.total("counter_j"), metered.total("power_j")) == (290.0, 0.0)


def test_what_was_held_for_a_counter_is_credited_to_power_when_metering_ends():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0, power_w=300.0)
    metered.at(1.0, power_w=300.0)
    metered.at(2.0, power_w=300.0)
    metered.finish()
    assert (metered.total("power_j"), metered.total("unobserved_s")) == (600.0, 0.0)


def test_a_counter_that_never_speaks_again_leaves_its_seconds_unobserved():
    metered = Metered(PACKAGE)
    metered.at(0.0, energy_uj=0)
    for second in range(1, 31):
        metered.fail(float(second))
    metered.finish()
    assert (metered.total("energy_j"), metered.total("unobserved_s")) == (0.0, 30.0)


def test_power_is_integrated_by_trapezoid():
    metered = Metered(GPU)
    metered.at(0.0, power_w=100.0)
    metered.at(1.0, power_w=300.0)
    metered.at(3.0, power_w=300.0)
    assert metered.total("power_j") == 200.0 + 600.0


def test_repeated_power_values_count_like_any_other():
    metered = Metered(GPU)
    for second in range(11):
        metered.at(float(second), power_w=250.0)
    assert metered.total("power_j") == 2500.0


def test_a_failed_power_read_is_a_gap_in_seconds_and_no_energy():
    device = Device("GPU-1", "gpu", "no TDP known", methods=("power",))
    metered = Metered(device)
    metered.at(0.0, power_w=100.0)
    metered.fail(1.0)
    metered.at(2.0, power_w=100.0)
    metered.at(3.0, power_w=100.0)
    assert (metered.total("power_j"), metered.total("unobserved_s")) == (100.0, 2.0)


def test_a_failed_power_read_falls_back_to_tdp_for_that_second_alone():
    metered = Metered(GPU)
    metered.at(0.0, power_w=100.0, utilization_ratio=0.5)
    metered.at(1.0, utilization_ratio=0.5)
    metered.at(2.0, power_w=100.0, utilization_ratio=0.5)
    metered.at(3.0, power_w=100.0, utilization_ratio=0.5)
    assert metered.total("tdp_j") == 2 * 200.0
    assert metered.total("power_j") == 100.0
    assert metered.total("unobserved_s") == 0.0


def test_two_power_readings_too_far_apart_leave_a_gap():
    metered = Metered(GPU)
    metered.at(0.0, power_w=100.0)
    metered.at(30.0, power_w=100.0)
    assert (metered.total("energy_j"), metered.total("unobserved_s")) == (0.0, 30.0)


def test_tdp_times_utilisation_is_the_plain_product():
    metered = Metered(GPU)
    metered.at(0.0, utilization_ratio=0.0)
    interval = metered.at(2.0, utilization_ratio=0.25)
    assert interval is not None
    assert (interval.tdp_j, interval.power_j, interval.counter_j) == (0.25 * 400.0 * 2.0, 0.0, 0.0)


def test_an_unknown_utilisation_is_never_taken_for_zero():
    metered = Metered(GPU)
    metered.at(0.0, utilization_ratio=0.5)
    metered.at(1.0)
    metered.finish()
    assert metered.total("energy_j") == 0.0
    assert metered.total("unobserved_s") == 1.0


def test_a_stated_assumption_serves_where_nothing_tells_the_utilisation():
    device = Device(
        "gpu-0", "gpu", "named", methods=("tdp",), spec=SPEC._replace(assumed_utilization_ratio=1.0)
    )
    metered = Metered(device)
    metered.at(0.0)
    metered.at(1.0)
    assert metered.total("tdp_j") == 400.0


def trace(
    start_s: float, end_s: float, power_w: float, step_s: float = 0.02
) -> tuple[tuple[float, float], ...]:
    count = round((end_s - start_s) / step_s)
    return tuple((start_s + index * step_s, power_w) for index in range(count + 1))


def test_a_trace_of_the_driver_s_samples_gives_its_own_resolution():
    metered = Metered(GPU)
    metered.at(0.0, power_w=100.0)
    spiky = ((100.0, 0.0), (100.5, 400.0), (101.0, 0.0))
    metered.at(1.0, power_w=0.0, trace=spiky)
    assert metered.total("power_j") == 200.0


def test_a_trace_that_reaches_back_over_a_failed_read_bridges_it():
    metered = Metered(GPU)
    metered.at(0.0, power_w=100.0)
    metered.at(1.0, power_w=100.0, trace=trace(100.0, 101.0, 100.0))
    metered.fail(2.0)
    metered.at(3.0, power_w=100.0, trace=trace(101.0, 103.0, 100.0))
    metered.finish()
    assert metered.total("power_j") == pytest.approx(300.0)
    assert metered.total("unobserved_s") == 0.0


def test_a_trace_without_anything_new_waits_for_the_next():
    metered = Metered(GPU)
    metered.at(0.0, power_w=100.0)
    metered.at(0.05, power_w=100.0, trace=((100.0, 100.0),))
    metered.at(0.10, power_w=100.0, trace=trace(100.0, 100.1, 100.0))
    metered.finish()
    assert metered.total("power_j") == pytest.approx(10.0)


def test_a_driver_clock_that_was_stepped_does_not_invent_energy():
    metered = Metered(GPU)
    metered.at(0.0, power_w=100.0)
    metered.at(1.0, power_w=100.0, trace=((0.0, 100.0), (3600.0, 100.0)))
    assert metered.total("power_j") == pytest.approx(100.0)


def test_a_clock_that_stands_still_for_one_tick_changes_nothing():
    metered = Metered(GPU)
    metered.at(0.0, energy_uj=0)
    metered.at(1.0, energy_uj=joules(100))
    metered.at(1.0, energy_uj=joules(100))
    metered.at(2.0, energy_uj=joules(200))
    assert metered.total("counter_j") == 200.0
    assert all(interval.power_w in (None, 100.0) for interval in metered.intervals)
