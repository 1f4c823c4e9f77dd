"""The loop: its grid, its edges, its gauges, and the conservation of every joule."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, Failure, Reading, SensorState, Spec
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.loop import SamplingLoop
from carbonmon.monitor.requests import RequestQueue
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.safe_interval import safe_interval_s
from carbonmon.monitor.sampler import Sampler
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

SPEC = Spec(400.0, TDP_UNCERTAINTY, "test")


class Source:
    """A sensor whose words come from a function of the time; it notes when it was asked."""

    name = "source"

    def __init__(
        self, devices: Sequence[Device], say: Callable[[float], Sequence[Reading | Failure]]
    ) -> None:
        self._devices = devices
        self._say = say
        self.asked: list[tuple[float, bool]] = []

    def devices(self) -> Sequence[Device]:
        return self._devices

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(self.name, "used", "test")]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self.asked.append((now_s, edge))
        yield from self._say(now_s)

    def close(self) -> None:
        pass


class Stop(threading.Event):
    """An event on which waiting moves the fake clock, late by what the test says; set after the last."""

    def __init__(self, clock: FakeClock, late_s: Sequence[float]) -> None:
        super().__init__()
        self._clock = clock
        self._late_s = list(late_s)
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self._clock.time_s += timeout + self._late_s.pop(0)
        return not self._late_s


def gpu(device_id: str = "d", share_ratio: float = 1.0) -> Device:
    return Device(
        device_id,
        "gpu",
        device_id,
        methods=("counter", "power", "tdp"),
        max_power_w=400.0,
        spec=SPEC,
        share_ratio=share_ratio,
    )


def sampler_of(source: Source, clock: FakeClock, interval_s: float = 1.0) -> Sampler:
    devices = {device.id: device for device in source.devices()}
    return make_sampler(
        [GuardedSensor(source)], devices, [], FixedIntensity(), clock, interval_s, Overheads(), "test"
    )


def begun(source: Source, clock: FakeClock) -> Sampler:
    sampler = sampler_of(source, clock)
    sampler.tick(edge=True)
    sampler.begin(RunAccount(INFO, source.devices()))
    return sampler


def run_until(sampler: Sampler, clock: FakeClock, stop: Stop) -> None:
    SamplingLoop(sampler, RequestQueue(clock), clock).run_until(stop)


# ---- the grid ----


@pytest.mark.parametrize(
    ("late_s", "at_s"),
    [
        ([0, 0, 0, 0], [1, 2, 3, 4]),
        ([0.25, 0, 0.5, 0], [1.25, 2, 3.5, 4]),
        ([0, 3.5, 0, 0], [1, 5.5, 6, 7]),
        ([7.0, 0, 0, 0], [8, 9, 10, 11]),
    ],
)
def test_ticks_sit_on_a_fixed_grid_and_late_ones_are_skipped_and_not_bunched(
    late_s: list[float], at_s: list[float]
):
    clock = FakeClock(1000.0)
    source = Source([gpu()], lambda now_s: [Reading("d", power_w=100.0)])
    stop = Stop(clock, late_s)
    run_until(sampler_of(source, clock), clock, stop)
    assert [now_s - 1000.0 for now_s, _ in source.asked] == at_s
    assert all(0.0 < wait_s <= 1.0 for wait_s in stop.waits)


@pytest.mark.parametrize("interval_s", [0.1, 0.3, 0.7])
def test_a_grid_that_floats_cannot_hold_exactly_is_not_bunched_either(interval_s: float):
    clock = FakeClock(1000.0)
    source = Source([gpu()], lambda now_s: [Reading("d", power_w=100.0)])
    run_until(sampler_of(source, clock, interval_s), clock, Stop(clock, [0.0] * 12))
    assert [now_s for now_s, _ in source.asked] == pytest.approx(
        [1000.0 + n * interval_s for n in range(1, 13)]
    )


def test_a_slow_sensor_delays_its_own_tick_and_not_the_grid():
    clock = FakeClock(1000.0)

    def say(now_s: float) -> Sequence[Reading]:
        clock.time_s += 0.75
        return [Reading("d", power_w=100.0)]

    source = Source([gpu()], say)
    run_until(sampler_of(source, clock), clock, Stop(clock, [0.0] * 6))
    assert [now_s - 1000.0 for now_s, _ in source.asked] == [1, 2, 3, 4, 5, 6]


def test_the_last_sample_is_taken_at_once_and_at_an_edge():
    clock = FakeClock(1000.0)
    source = Source([gpu()], lambda now_s: [Reading("d", power_w=100.0)])
    run_until(sampler_of(source, clock), clock, Stop(clock, [0.0, 0.0, -0.75]))
    assert source.asked == [(1001.0, False), (1002.0, False), (1002.25, True)]


# ---- intervals that are short enough ----


def test_an_interval_in_which_no_counter_can_wrap_twice_is_kept():
    package = Device("package-0", "cpu", "p", counter_range_uj=262_143_328_850, max_power_w=1000.0)
    assert safe_interval_s(60.0, {"package-0": package}) == (60.0, "")
    assert safe_interval_s(3600.0, {"d": gpu()}) == (3600.0, "")


def test_the_counter_that_could_wrap_soonest_decides():
    package = Device("package-0", "cpu", "p", counter_range_uj=262_143_328_850, max_power_w=1000.0)
    memory = Device("dram-0", "dram", "m", counter_range_uj=65_712_999_613, max_power_w=500.0)
    interval_s, note = safe_interval_s(600.0, {"package-0": package, "dram-0": memory})
    assert interval_s == pytest.approx(65.7, rel=0.01)
    assert "dram-0" in note


# ---- gauges ----


def test_a_device_s_power_is_fresh_while_its_counter_is_held_for():
    clock = FakeClock(1000.0)
    power_w = 300.0

    def say(now_s: float) -> Sequence[Reading]:
        energy_uj = int((now_s - 1000.0) * 300e6) if now_s < 1003.5 else None
        return [Reading("d", energy_uj, power_w, None, power_w / 400.0)]

    sampler = begun(Source([gpu()], say), clock)
    for _ in range(3):
        clock.time_s += 1.0
        sampler.tick()
    assert sampler.latest.devices[0].power_w == 300.0
    power_w = 100.0
    clock.time_s += 1.0
    sampler.tick()
    state = sampler.latest.devices[0]
    assert (state.power_w, state.utilization_ratio) == (100.0, 0.25)
    assert (state.energy_j, state.unobserved_s) == (900.0, 0.0)


def test_a_run_s_power_is_fresh_while_a_counter_is_held_for():
    clock = FakeClock(1000.0)
    words = [Reading("d", 0, 300.0), Reading("d", 300_000_000, 300.0), Reading("d", None, 100.0)]
    sampler = begun(Source([gpu("d", 0.5)], lambda now_s: [words[min(2, int(now_s - 1000.0))]]), clock)
    for _ in range(2):
        clock.time_s += 1.0
        sampler.tick()
    assert dict(sampler.latest.runs[0].power_w) == {"d": 50.0}


def test_a_device_that_falls_silent_has_no_power_and_not_its_last():
    clock = FakeClock(1000.0)
    device = gpu()
    words: list[Reading | Failure] = [
        Reading("d", 0, 100.0),
        Reading("d", 10**8, 100.0),
        Failure("d", "lost"),
    ]
    sampler = begun(Source([device], lambda now_s: [words[min(2, int(now_s - 1000.0))]]), clock)
    for _ in range(2):
        clock.time_s += 1.0
        sampler.tick()
    state = sampler.latest.devices[0]
    assert (state.power_w, state.utilization_ratio, state.energy_j) == (None, None, 100.0)


def test_a_device_that_no_sensor_speaks_of_is_silent_and_its_seconds_are_unobserved():
    clock = FakeClock(1000.0)
    sampler = begun(Source([gpu()], lambda now_s: []), clock)
    for _ in range(20):
        clock.time_s += 1.0
        sampler.tick()
    final = sampler.finish(0, None)
    assert (final.devices[0].energy_j, final.devices[0].unobserved_s) == (0.0, pytest.approx(20.0))
    assert dict(final.runs[0].unobserved_s) == {"d": pytest.approx(20.0)}


# ---- conservation ----

SAID = st.sampled_from(["all", "power", "utilisation", "nothing"])


@given(
    st.floats(0.01, 1.0),
    st.integers(0, 5),
    st.lists(st.tuples(st.floats(0.05, 3.0), st.floats(0.0, 400.0), SAID), min_size=1, max_size=25),
)
def test_what_the_runs_get_and_what_stays_unattributed_is_what_was_drawn(
    share_ratio: float, begin_at: int, steps: list[tuple[float, float, str]]
):
    clock = FakeClock(1000.0)
    drawn_j, power_w, kind = 0.0, 0.0, "all"

    def say(now_s: float) -> Sequence[Reading | Failure]:
        whole = Reading("whole", int(drawn_j * 1e6), power_w, None, 0.5)
        said: dict[str, Reading | Failure] = {
            "all": Reading("slice", int(drawn_j * 1e6), power_w, None, 0.5),
            "power": Reading("slice", None, power_w, None, 0.5),
            "utilisation": Reading("slice", None, None, None, 0.5),
            "nothing": Failure("slice", "lost"),
        }
        return [whole, said[kind]]

    devices = [gpu("whole"), gpu("slice", share_ratio)]
    sampler = sampler_of(Source(devices, say), clock)
    sampler.tick(edge=True)
    for number, (step_s, power_w, kind) in enumerate(steps):  # noqa: B007 (say() reads them)
        if number == begin_at:
            sampler.begin(RunAccount(INFO, devices))
        clock.time_s += step_s
        drawn_j += step_s * power_w
        sampler.tick()
    final = sampler.finish(0, None)
    for state in final.devices:
        run_j = sum(
            total.energy_j for run in final.runs for total in run.totals if total.device_id == state.device.id
        )
        assert run_j + state.unattributed_j == pytest.approx(state.energy_j, abs=1e-6)
        assert state.unattributed_j >= -1e-9
        if begin_at == 0 and state.device.id == "slice":
            assert run_j == pytest.approx(state.energy_j * share_ratio, abs=1e-6)
        if begin_at >= len(steps):
            assert run_j == 0.0


def test_a_run_s_end_is_in_its_last_snapshot():
    clock = FakeClock(1000.0)
    sampler = begun(Source([gpu()], lambda now_s: [Reading("d", power_w=1.0)]), clock)
    clock.time_s += 2.5
    sampler.tick(edge=True)
    final = sampler.finish(None, 9)
    assert final is sampler.latest
    (run,) = final.runs
    assert (run.exit_code, run.signal, run.duration_s, run.ended_at_s) == (None, 9, 2.5, clock.wall_s())
    assert final.samples == 2
