"""A series at a glance: no joule and no extreme is lost, however long the run was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import IntensityKind, Method
from carbonmon.runs.downsampling import MAX_STEPS, Downsampler, Glance
from carbonmon.runs.series_rows import SeriesRow

BEGIN_S = 1_795_000_000.0


def row(
    at_s: float,
    duration_s: float,
    power_w: float,
    *,
    device: str = "gpu",
    phase: str = "main",
    method: Method = "counter",
    most_w: float | None = None,
    g_per_j: float = 1e-4,
    kind: IntensityKind = "table",
) -> SeriesRow:
    high_w = power_w if most_w is None else most_w
    return SeriesRow(
        *(BEGIN_S + at_s, duration_s, device, "gpu", phase, method),
        *(power_w * duration_s, power_w, power_w, high_w, power_w * duration_s * g_per_j),
        *(g_per_j * 3.6e6, kind),
    )


def glance(*rows: SeriesRow) -> Glance:
    downsampler = Downsampler()
    downsampler.add(rows)
    found = downsampler.glance()
    assert found is not None
    return found


def energy_j(found: Glance, device: str = "gpu") -> float:
    """Of a device that is known all the time."""
    lengths_s = [
        min(found.step_s, found.end_s - found.begin_s - number * found.step_s)
        for number in range(len(found.devices[device]))
    ]
    return sum(
        step.power_w * length_s
        for step, length_s in zip(found.devices[device], lengths_s, strict=True)
        if step is not None and step.power_w is not None
    )


ROWS = st.lists(
    st.tuples(st.sampled_from((1.0, 10.0, 60.0, 3600.0)), st.floats(0.0, 700.0)), min_size=1, max_size=900
)


@given(ROWS)
def test_no_joule_and_no_extreme_is_lost(lengths_and_powers: list[tuple[float, float]]) -> None:
    rows, at_s = [], 0.0
    for length_s, power_w in lengths_and_powers:
        at_s += length_s
        rows.append(row(at_s, length_s, power_w))
    found = glance(*rows)
    steps = [step for step in found.devices["gpu"] if step is not None]
    assert len(steps) == len(found.devices["gpu"]) <= MAX_STEPS
    assert energy_j(found) == pytest.approx(sum(each.energy_j for each in rows), rel=1e-6, abs=1e-3)
    assert max(step.high_w or 0.0 for step in steps) == max(each.power_max_w or 0.0 for each in rows)
    assert min(step.low_w or 0.0 for step in steps) == min(each.power_min_w or 0.0 for each in rows)
    joules = sum(each.energy_j for each in rows)
    assert sum(step.energy_j for step in steps) == pytest.approx(joules)
    assert sum(step.emissions_g for step in found.grid if step) == pytest.approx(joules * 1e-4)


@given(st.lists(st.floats(1e-6, 1e-3), min_size=1, max_size=800))
def test_no_gram_and_no_extreme_of_the_intensity_is_lost(grams_a_joule: list[float]) -> None:
    rows = [row(60.0 * (n + 1), 60.0, 200.0, g_per_j=each) for n, each in enumerate(grams_a_joule)]
    grid = [step for step in glance(*rows).grid if step is not None]
    assert sum(step.emissions_g for step in grid) == pytest.approx(sum(each.emissions_g for each in rows))
    assert min(step.low_g_per_kwh for step in grid) == min(each.intensity_g_per_kwh for each in rows)
    assert max(step.high_g_per_kwh for step in grid) == max(each.intensity_g_per_kwh for each in rows)
    for step in grid:
        assert step.low_g_per_kwh <= step.mean_g_per_kwh * 1.000001
        assert step.mean_g_per_kwh <= step.high_g_per_kwh * 1.000001


def test_a_forecast_of_the_intensity_is_told_from_what_was_in_force() -> None:
    found = glance(row(1.0, 1.0, 200.0, kind="live"), row(2.0, 1.0, 200.0, kind="forecast"))
    assert [step.kinds for step in found.grid if step] == [{"live"}, {"forecast"}]


def test_energy_of_no_length_is_kept_though_its_power_is_not_known() -> None:
    found = glance(row(1.0, 1.0, 200.0)._replace(duration_s=0.0))
    (step,) = found.devices["gpu"]
    assert step is not None
    assert (step.power_w, step.energy_j) == (None, 200.0)


def test_a_row_from_before_the_begin_is_in_the_first_step() -> None:
    found = glance(row(100.0, 1.0, 200.0), row(50.0, 1.0, 300.0), row(101.0, 1.0, 200.0))
    assert sum(step.energy_j for step in found.devices["gpu"] if step) == pytest.approx(700.0)


def test_a_time_of_which_nothing_is_known_stays_unknown() -> None:
    found = glance(row(1.0, 1.0, 200.0), row(11.0, 1.0, 300.0))
    powers = [None if step is None else step.power_w for step in found.devices["gpu"]]
    assert powers == [200.0, *[None] * 9, 300.0]


def test_a_device_that_came_later_is_unknown_before() -> None:
    found = glance(row(1.0, 1.0, 200.0), row(2.0, 1.0, 200.0), row(2.0, 1.0, 90.0, device="other"))
    first, second = found.devices["other"]
    assert first is None
    assert second is not None
    assert second.power_w == 90.0


def test_the_phases_of_a_time_share_it() -> None:
    found = glance(
        row(60.0, 45.0, 300.0, phase="train"), row(60.0, 15.0, 100.0, phase="eval"), row(61.0, 1.0, 1.0)
    )
    assert found.phases["train"][:60] == pytest.approx([0.75] * 60)
    assert found.phases["eval"][:60] == pytest.approx([0.25] * 60)
    assert found.phases["main"][60] == 1.0
    first = found.devices["gpu"][0]
    assert first is not None
    assert first.power_w == pytest.approx(0.75 * 300.0 + 0.25 * 100.0)


def test_what_is_estimated_in_part_is_told_by_its_joules() -> None:
    found = glance(row(1.0, 0.5, 100.0), row(1.0, 0.5, 300.0, method="tdp"))
    (step,) = found.devices["gpu"]
    assert step is not None
    assert step.measured_ratio == pytest.approx(0.25)


def test_a_series_without_rows_has_no_glance() -> None:
    assert Downsampler().glance() is None
