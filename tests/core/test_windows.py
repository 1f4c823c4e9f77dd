"""The energy of a stretch of a run: what its intervals say, and the range that holds the truth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import Curve, Device, Interval
from carbonmon.core.windows import INTERPOLATED_RATIO, MAX_WINDOWS, REFRESH_S, Marks, Windows
from tests.simulator.profiles import Sine, Square

GPU = Device("GPU-1", "gpu", "board", methods=("counter",), max_power_w=800.0)
CPU = Device("package-0", "cpu", "package", methods=("counter",), max_power_w=300.0)
KEY = (1, 1)


def even(
    device: Device, start_s: float, end_s: float, power_w: float, curve: Curve | None = None
) -> Interval:
    joules = power_w * (end_s - start_s)
    return Interval(device.id, start_s, end_s, counter_j=joules, power_w=power_w, curve=curve)


def figures(windows: Windows, now_s: float = 100.0, **power_w: float) -> dict[str, float | bool]:
    found = windows.figures(KEY, now_s, power_w)
    assert found is not None
    return found


def test_a_window_whose_edges_are_readings_is_their_sum():
    windows = Windows()
    windows.mark(1.0, Marks(begun=KEY))
    for second in range(1, 4):
        windows.add(CPU, even(CPU, second, second + 1.0, 100.0))
    windows.mark(3.0, Marks(ended=KEY))
    found = figures(windows)
    assert found["energy_j"] == pytest.approx(200.0)
    assert found["is_settled"]
    assert not found["is_interpolated"]
    edges_j = REFRESH_S["cpu"] * 300.0
    assert (found["low_j"], found["high_j"]) == pytest.approx((200.0 - edges_j, 200.0 + edges_j))


def test_windows_beside_one_another_add_up_to_the_intervals():
    windows = Windows()
    keys = [(1, number) for number in range(5)]
    edges_s = [0.0, 0.31, 0.33, 1.9, 2.4, 4.0]
    windows.mark(0.0, Marks(begun=keys[0]))
    intervals = [even(GPU, 0.0, 1.0, 90.0), even(GPU, 1.0, 2.5, 200.0), even(GPU, 2.5, 4.0, 10.0)]
    for before, after, at_s in zip(keys, keys[1:], edges_s[1:], strict=False):
        windows.mark(at_s, Marks(begun=after, ended=before))
    for part in intervals:
        windows.add(GPU, part)
    windows.mark(4.0, Marks(ended=keys[-1]))
    total_j = sum(float((windows.figures(key, 9.0, {}) or {})["energy_j"]) for key in keys)
    assert total_j == pytest.approx(sum(part.energy_j for part in intervals))


def test_an_end_and_a_begin_that_are_told_late_count_from_their_time():
    windows = Windows()
    windows.add(CPU, even(CPU, 0.0, 1.0, 100.0))
    windows.mark(0.9, Marks(begun=KEY))
    windows.add(CPU, even(CPU, 1.0, 2.0, 100.0))
    windows.add(CPU, even(CPU, 2.0, 3.0, 100.0))
    windows.mark(2.4, Marks(ended=KEY))
    assert figures(windows)["energy_j"] == pytest.approx(150.0)


def test_what_no_counter_has_told_yet_is_reckoned_and_said():
    windows = Windows()
    windows.add(GPU, even(GPU, 0.0, 1.0, 100.0))
    windows.add(CPU, even(CPU, 0.0, 1.5, 10.0))
    windows.mark(1.0, Marks(begun=KEY))
    windows.mark(1.5, Marks(ended=KEY))
    found = figures(windows, **{"GPU-1": 120.0})
    assert found["energy_j"] == pytest.approx(5.0 + 60.0)
    assert not found["is_settled"]
    assert found["is_interpolated"]
    assert found["low_j"] <= 5.0
    assert found["high_j"] >= 5.0 + 800.0 * 0.5
    windows.foresee(GPU.id, Curve((1.0, 1.2, 1.6), (0.0, 20.0, 120.0)), 0.5)
    assert figures(windows)["energy_j"] == pytest.approx(5.0 + 0.5 * (20.0 + 75.0))
    assert not figures(windows)["is_settled"]
    windows.add(GPU, even(GPU, 1.0, 2.0, 300.0))
    found = figures(windows)
    assert found["energy_j"] == pytest.approx(5.0 + 150.0)
    assert found["is_settled"]


def test_a_device_that_is_gone_is_not_waited_for():
    windows = Windows()
    windows.add(GPU, even(GPU, 0.0, 1.0, 100.0))
    windows.mark(1.0, Marks(begun=KEY))
    windows.mark(2.0, Marks(ended=KEY))
    windows.add(CPU, even(CPU, 1.0, 20.0, 10.0))
    assert figures(windows)["is_settled"]


def test_a_power_curve_says_on_which_side_of_an_edge_it_was_drawn():
    curve = Curve((0.0, 0.5, 0.52, 1.0), (0.0, 0.0, 4.0, 100.0))
    windows = Windows()
    windows.mark(0.5, Marks(begun=KEY))
    windows.add(GPU, even(GPU, 0.0, 1.0, 100.0, curve))
    windows.mark(1.0, Marks(ended=KEY))
    assert figures(windows)["energy_j"] == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("seconds", "is_interpolated"), [(0.02, True), (0.7, True), (3.0, True), (20.0, False)]
)
def test_short_windows_on_a_gpu_are_called_interpolated(seconds: float, is_interpolated: bool):
    windows = Windows()
    windows.mark(0.5, Marks(begun=KEY))
    windows.mark(0.5 + seconds, Marks(ended=KEY))
    for second in range(22):
        times_s = tuple(second + 0.02 * step for step in range(51))
        curve = Curve(times_s, tuple(2.0 * step for step in range(51)))
        windows.add(GPU, even(GPU, second, second + 1.0, 100.0, curve))
    found = figures(windows)
    assert found["is_interpolated"] is is_interpolated
    assert found["energy_j"] == pytest.approx(100.0 * seconds)


@given(
    start_s=st.floats(0.0, 3.0),
    seconds=st.floats(0.02, 3.0),
    refresh_s=st.floats(0.001, 0.1),
    square=st.booleans(),
    by_samples=st.booleans(),
)
def test_the_truth_is_within_the_range(
    start_s: float, seconds: float, refresh_s: float, square: bool, by_samples: bool
):
    """The counter's value at a reading is up to one refresh old; it is read once a second."""
    power = Square(60.0, 380.0, 0.9) if square else Sine(250.0, 120.0, 1.3)

    def counter_j(at_s: float) -> float:
        return power.integral(at_s // refresh_s * refresh_s)

    windows = Windows()
    windows.mark(start_s, Marks(begun=KEY))
    windows.mark(start_s + seconds, Marks(ended=KEY))
    for second in range(8):
        curve = None
        if by_samples:
            times_s = tuple(second + 0.02 * step for step in range(51))
            curve = Curve(times_s, tuple(power.integral(at_s) - power.integral(second) for at_s in times_s))
        joules = counter_j(second + 1.0) - counter_j(second)
        windows.add(GPU, Interval(GPU.id, second, second + 1.0, counter_j=joules, curve=curve))
    found = figures(windows)
    truth_j = power.integral(start_s + seconds) - power.integral(start_s)
    assert found["low_j"] - 1e-6 <= truth_j <= found["high_j"] + 1e-6
    assert found["low_j"] <= found["energy_j"] <= found["high_j"]
    if not found["is_interpolated"]:
        assert found["energy_j"] == pytest.approx(truth_j, rel=5 * INTERPOLATED_RATIO)


def test_a_run_keeps_a_limited_number_of_windows_and_no_open_one_is_forgotten():
    windows = Windows()
    windows.mark(0.0, Marks(begun=(1, 0)))
    for number in range(1, 2 * MAX_WINDOWS):
        windows.mark(float(number), Marks(begun=(1, number)))
        windows.mark(float(number), Marks(ended=(1, number)))
    assert windows.figures((1, 0), 1.0, {}) is not None
    assert windows.figures((1, 1), 1.0, {}) is None
    assert len(windows.keys_of(1)) == MAX_WINDOWS
    windows.mark(0.0, Marks(forgotten=windows.keys_of(1)))
    assert windows.keys_of(1) == []
