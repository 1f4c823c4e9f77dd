"""From what a run drew to the rows of its series: what a row holds, and when it closes."""

from __future__ import annotations

import json
import math
from collections import deque

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carbonmon.core.footprint import Overheads, rates
from carbonmon.core.model import PEAK_WINDOW_S, Device
from carbonmon.core.phases import Weights
from carbonmon.runs.layout import SERIES_VERSION, SERIES_VERSION_KEY
from carbonmon.runs.series_rows import Moment, Part, SeriesFold, SeriesRow
from tests.support import records
from tests.support.rows import for_each_row
from tests.support.series import sums

GPU = records.gpu()
CPU = records.package()
RATES = rates(records.intensity(360.0), Overheads(pue_ratio=1.25))
MAIN: Weights = (("main", 1.0),)


def part(
    sample: int,
    counter_j: float = 0.0,
    device: Device = GPU,
    seconds: float = 1.0,
    *,
    at_s: float | None = None,
    power_j: float = 0.0,
    tdp_j: float = 0.0,
    phases: Weights = MAIN,
) -> Part:
    """A device's part of a sample; by default sample N is of second N."""
    moment = Moment(sample, float(sample) if at_s is None else at_s)
    return moment, device, seconds, counter_j, power_j, tdp_j, phases, RATES


def folded(parts: list[Part], period_s: float) -> list[SeriesRow]:
    """The rows of parts; those that are open at the end are closed."""
    fold = SeriesFold()
    lines, _ = fold.take(deque(parts), parts[-1][0].sample + 1, period_s)
    lines += fold.end_sample(period_s)
    lines += fold.close(parts[-1][0].at_s)
    rows = []
    for key, joules, grams, line in lines:
        found = json.loads(line)
        assert line == json.dumps(found, separators=(",", ":")) + "\n", "what json itself writes"
        assert found.pop(SERIES_VERSION_KEY) == SERIES_VERSION
        row = SeriesRow(**found)
        assert (key, joules, grams) == (row.key, row.energy_j, row.emissions_g)
        assert list(found) == list(SeriesRow._fields)
        rows.append(row)
    return rows


def test_with_a_period_of_the_interval_each_sample_is_a_row_of_each_device():
    rows = folded([part(n, 300.0 + n, device) for n in range(1, 4) for device in (GPU, CPU)], 1.0)
    assert [(row.at_s, row.device) for row in rows] == [
        (float(n), device.id) for n in range(1, 4) for device in (GPU, CPU)
    ]
    row = rows[0]
    assert (row.duration_s, row.energy_j, row.power_w) == (1.0, 301.0, 301.0)
    assert (row.power_min_w, row.power_max_w) == (301.0, 301.0)
    assert (row.component, row.phase, row.method) == ("gpu", "main", "counter")
    assert row.emissions_g == pytest.approx(301.0 / 3.6e6 * 360.0 * 1.25, abs=1e-9)
    assert (row.intensity_g_per_kwh, row.intensity_kind) == (360.0, RATES.intensity.kind)


def test_a_row_closes_with_the_sample_that_passes_a_multiple_of_the_period_and_keeps_the_extremes():
    powers = [300.0] * 25
    powers[3], powers[14] = 700.0, 5.0
    rows = folded([part(n, watts, at_s=1001.3 + n) for n, watts in enumerate(powers)], 10.0)
    assert [row.at_s for row in rows] == [1010.3, 1020.3, 1025.3]
    assert [row.duration_s for row in rows] == [10.0, 10.0, 5.0]
    assert [(row.power_min_w, row.power_max_w) for row in rows] == [
        (300.0, 700.0),
        (5.0, 300.0),
        (300.0, 300.0),
    ]
    assert rows[0].power_w == pytest.approx(sum(powers[:10]) / 10, abs=0.01)


@for_each_row("jitter_s", [0.0, 0.0004, -0.0004])
def test_a_sample_a_second_that_comes_a_hair_early_or_late_is_a_row_all_the_same(jitter_s: float):
    parts = [part(n, 1.0, at_s=n + (jitter_s if n % 2 else 0.0)) for n in range(1, 40)]
    assert len(folded(parts, 1.0)) == 39


def test_a_device_that_was_silent_has_no_row_for_a_while_and_then_a_longer_one():
    parts = [part(n, 50.0, CPU) for n in range(1, 6)]
    parts += [part(5, 1500.0, GPU, 5.0), part(6, 50.0, CPU), part(6, 300.0)]
    rows = folded(parts, 1.0)
    assert [(row.at_s, row.duration_s, row.power_w) for row in rows if row.device == GPU.id] == [
        (5.0, 5.0, 300.0),
        (6.0, 1.0, 300.0),
    ]


def test_a_sample_over_two_phases_is_two_rows_whose_times_and_joules_add_up():
    rows = folded([part(1, 100.0, phases=(("load", 0.25), ("train", 0.75)))], 1.0)
    assert [(row.phase, row.energy_j, row.duration_s, row.power_w) for row in rows] == [
        ("load", 25.0, 0.25, 100.0),
        ("train", 75.0, 0.75, 100.0),
    ]


def test_each_method_has_its_own_row_and_measured_joules_stay_apart_from_estimated_ones():
    rows = folded([part(1, 60.0, power_j=30.0, tdp_j=10.0)], 1.0)
    assert [(row.method, row.energy_j, row.duration_s) for row in rows] == [
        ("counter", 60.0, 0.6),
        ("power", 30.0, 0.3),
        ("tdp", 10.0, 0.1),
    ]


def test_a_device_that_draws_nothing_has_a_row_of_0_w_by_the_method_it_was_known_by_last():
    parts = [part(1), part(2, tdp_j=10.0), part(3)]
    rows = folded(parts, 1.0)
    assert [(row.method, row.energy_j, row.power_w) for row in rows] == [
        (GPU.methods[0], 0.0, 0.0),
        ("tdp", 10.0, 10.0),
        ("tdp", 0.0, 0.0),
    ]
    unknown = GPU._replace(methods=())
    assert folded([part(1, device=unknown)], 1.0) == []


def test_time_in_which_nothing_is_known_is_in_no_row():
    assert folded([part(1, seconds=0.0)], 1.0) == []
    (row,) = folded([part(1, 100.0, seconds=0.4)], 1.0)
    assert (row.duration_s, row.power_w) == (0.4, 250.0), "the mean of the known part"


def test_energy_of_no_time_at_all_is_kept_and_makes_no_power():
    (row,) = folded([part(1, 5.0, seconds=0.0)], 1.0)
    assert (row.energy_j, row.duration_s, row.power_w, row.power_max_w) == (5.0, 0.0, None, None)
    (row,) = folded([part(1, 5.0, seconds=2.3e-308)], 1.0)
    assert (row.energy_j, row.power_w) == (5.0, None), "not infinite"


def test_an_extreme_is_a_mean_over_half_a_second_at_least():
    """A counter in steps of 0.1 s may give the energy of 100 ms to a sample of 5 ms."""
    parts = [part(1, 300.0, at_s=1.0), part(2, 30.0, seconds=0.005, at_s=1.005)]
    parts.append(part(3, 270.0, seconds=0.995, at_s=2.0))
    rows = folded(parts, 10.0)
    assert [(row.power_min_w, row.power_max_w) for row in rows] == [(300.0, 300.0)]
    (short,) = folded([part(1, 30.0, seconds=PEAK_WINDOW_S / 2)], 10.0)
    assert (short.power_min_w, short.power_max_w) == (None, None)


def test_a_clock_that_is_set_back_closes_the_rows_and_their_time_does_not_run_back():
    parts = [part(1, 1.0, at_s=500.0), part(2, 1.0, at_s=501.0), part(3, 1.0, at_s=100.0)]
    (row,) = folded(parts, 60.0)
    assert (row.energy_j, row.at_s) == (3.0, 100.0)
    assert [row.at_s for row in folded(parts, 1.0)] == [500.0, 501.0, 501.0]


def test_parts_of_samples_that_a_snapshot_does_not_hold_stay_for_the_next_one():
    parts = deque(part(n, 300.0) for n in range(1, 6))
    fold = SeriesFold()
    lines, since_s = fold.take(parts, 4, 1.0)
    assert (len(lines), since_s, [each[0].sample for each in parts]) == (2, 0.0, [4, 5])
    lines += fold.end_sample(1.0)
    assert [json.loads(line[3])["at_s"] for line in lines] == [1.0, 2.0, 3.0]
    assert fold.take(deque(), 9, 1.0) == ([], math.inf)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_energy_that_is_no_number_is_not_written_and_the_next_rows_are(value: float):
    fold = SeriesFold()
    with pytest.raises(ValueError, match="JSON compliant"):
        fold.take(deque([part(1, value), part(2, 300.0)]), 9, 1.0)
    lines, _ = fold.take(deque([part(3, 300.0), part(4, 300.0)]), 9, 1.0)
    assert [line[1] for line in lines] == [300.0]


DRAWN = st.tuples(
    st.sampled_from([GPU, CPU]),
    st.floats(0.0, 5.0),
    st.floats(0.0, 1e6),
    st.floats(0.0, 1e6),
    st.sampled_from([MAIN, (("load", 0.25), ("train", 0.75))]),
)


@given(st.lists(DRAWN, min_size=1, max_size=60), st.sampled_from([1.0, 10.0, 60.0, 300.0]))
@example([(GPU, 0.5, 0.0, 5e-324, MAIN)], 1.0)
def test_whatever_is_drawn_the_rows_add_up_to_it_and_the_period_changes_nothing(
    drawn: list[tuple[Device, float, float, float, Weights]], period_s: float
):
    parts = [
        part(n, counter_j, device, seconds, power_j=power_j, phases=phases)
        for n, (device, seconds, counter_j, power_j, phases) in enumerate(drawn, 1)
    ]
    rows = folded(parts, period_s)
    for device in (GPU, CPU):
        mine = [row for row in rows if row.device == device.id]
        expected_j = sum(each[3] + each[4] for each in parts if each[1] is device)
        assert sum(row.energy_j for row in mine) == pytest.approx(expected_j, abs=0.001 * len(mine) + 1e-3)
        known = [each for each in parts if each[1] is device]
        seconds = sum(each[2] for each in known)
        assert sum(row.duration_s for row in mine) == pytest.approx(seconds, abs=0.001 * len(mine) + 1e-3)
    once = sums(folded(parts, 1e9))
    shown = {key for key, energy_j in once.items() if energy_j > 0.001 * len(parts)}
    assert shown <= sums(rows).keys() <= once.keys(), "less than a row's last digit may be in none"
