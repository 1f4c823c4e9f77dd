"""What plots are drawn from: no extreme and no joule is lost on the way to a few pixels."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.runs.downsampling import Step
from carbonmon.runs.report.html.axes import UNITS, Frame, area_path, edge, known_spans, plot, top_of
from carbonmon.runs.report.html.device_plots import fewer_steps

WATTS = st.floats(0.0, 1000.0)


@st.composite
def a_step(draw: st.DrawFn) -> Step:
    low_w, mean_w, high_w = sorted((draw(WATTS), draw(WATTS), draw(WATTS)))
    return Step(mean_w, low_w, high_w, draw(st.floats(0.0, 1.0)), mean_w * 60.0)


STEPS = st.lists(st.one_of(st.none(), a_step()), min_size=1, max_size=400)


@given(STEPS, st.integers(1, 200))
def test_fewer_steps_keep_extremes_and_joules(steps: list[Step | None], most: int) -> None:
    fewer, each = fewer_steps(steps, most)
    assert len(fewer) <= most
    assert len(fewer) == math.ceil(len(steps) / each)
    known = [step for step in steps if step]
    kept = [step for step in fewer if step]
    assert min((step.lowest_w for step in kept), default=None) == min(
        (step.lowest_w for step in known), default=None
    )
    assert max((step.highest_w for step in kept), default=None) == max(
        (step.highest_w for step in known), default=None
    )
    assert sum(step.energy_j for step in kept) == pytest.approx(sum(step.energy_j for step in known))
    assert sum(step.energy_j * (step.measured_ratio or 0.0) for step in kept) == pytest.approx(
        sum(step.energy_j * (step.measured_ratio or 0.0) for step in known), abs=1e-6
    )


def points(path: str) -> list[tuple[int, int]]:
    """The corners of a path of M, h, v, V and Z."""
    x = y = 0
    found = []
    for sign, numbers in re.findall(r"([MhvVZ])([-\d ]*)", path):
        if sign == "M":
            x, y = map(int, numbers.split())
        elif sign == "h":
            x += int(numbers)
        elif sign in "vV":
            y = int(numbers) + (y if sign == "v" else 0)
        else:
            continue
        found.append((x, y))
    return found


@given(st.lists(st.one_of(st.none(), st.floats(0.0, 500.0)), min_size=1, max_size=60))
def test_a_line_is_at_the_height_of_each_step_and_stops_where_nothing_is_known(
    values: list[float | None],
) -> None:
    frame = Frame(0.0, float(len(values)), 1.0, 100, 500.0)
    line = str(edge(frame, values, "gpu"))
    heights: dict[int, int] = {}
    for path in line.split("M")[1:]:
        corners = points(f"M{path.partition(chr(34))[0]}")
        for (x1, y1), (x2, y2) in itertools.pairwise(corners):
            heights.update({x: y2 for x in range(x1, x2) if y1 == y2})
    assert heights == {x: frame.y(value) for x, value in enumerate(values) if value is not None}


def test_an_area_ends_where_it_began() -> None:
    frame = Frame(0.0, 4.0, 1.0, 100, 10.0)
    path = area_path(frame, [0.0, 0.0, None, 1.0], [5.0, 10.0, 3.0, 2.0])
    first, second = (points(f"M{part}") for part in path.split("M")[1:])
    assert first == [(0, 100), (1, 100), (1, 0), (2, 0), (2, 200), (0, 200)]
    assert second[0] == (3, 100 * UNITS - 40)
    assert second[-1][0] == 3
    assert path.count("Z") == 2


def test_spans_are_what_lies_between_gaps() -> None:
    assert list(known_spans([None, 1.0, 2.0, None, 3.0])) == [(1, 3), (4, 5)]
    assert list(known_spans([])) == []


@given(st.floats(0.0, 1e12))
def test_an_axis_holds_its_largest_value_and_has_few_ticks(most: float) -> None:
    top, step = top_of(most)
    assert top >= most * 0.999999
    assert 1 <= round(top / step) <= 5


@pytest.mark.parametrize("length_s", [0.0, 0.001, 1.0, 90.0, 3600.0, 86400.0, 2.6e6, 3e9, 1e13])
def test_however_long_the_run_was_the_axis_has_few_times(length_s: float) -> None:
    frame = Frame(1.795e9, 1.795e9 + length_s, max(length_s, 1.0) / 300.0, 100, 1.0)
    assert plot("Power", frame, []).count("<text") <= 11
