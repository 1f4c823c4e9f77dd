"""Power over time: what was drawn stays what it was, however wide the terminal is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.top.document import Document
from carbonmon.top.history import History, Power, drawn


def series(
    watts: list[float | None], measured: list[float | None] | None = None, step_s: float = 10.0
) -> Document:
    return Document(
        {
            "begin_s": 1000.0,
            "end_s": 1000.0 + step_s * len(watts),
            "step_s": step_s,
            "devices": [{"id": "gpu", "power_w": watts, "measured_ratio": measured or [1.0] * len(watts)}],
            "phases": [{"name": "train", "time_ratio": [float(place % 2) for place in range(len(watts))]}],
        }
    )


@given(st.lists(st.floats(0.0, 1000.0), min_size=1, max_size=50), st.integers(1, 120))
def test_no_width_changes_the_energy(watts: list[float], count: int) -> None:
    history = History()
    history.load(series(list(watts)))
    bins = history.bins(["gpu"], count)
    assert len(bins) == count
    length_s = history.span_s() / count
    joules = sum(power.watts * length_s for power in bins if power is not None)
    assert joules == pytest.approx(sum(watts) * 10.0, rel=1e-6, abs=1e-3)


def test_what_is_seen_goes_on_where_the_series_ends() -> None:
    history = History()
    history.add(1015.0, {"gpu": Power(5.0, True)}, "train", 1.0)
    history.add(1025.0, {"gpu": Power(7.0, True)}, "train", 1.0)
    history.load(series([100.0, 100.0]))
    assert [(step.begin_s, step.end_s) for step in history.steps] == [
        (1000.0, 1010.0),
        (1010.0, 1020.0),
        (1020.0, 1025.0),
    ]
    history.add(1025.0, {"gpu": Power(9.0, True)}, "train", 1.0)
    assert len(history.steps) == 3, "the same moment is nothing new"
    history.add(2000.0, {"gpu": Power(9.0, True)}, "train", 1.0)
    assert history.steps[-1].begin_s == 1999.0, "nothing is known of the time between"


def test_a_part_of_the_time_that_nobody_knows_is_empty_and_0_watts_are_not() -> None:
    history = History()
    history.load(series([50.0, None, 0.0]))
    assert [power and power.watts for power in history.bins(["gpu"], 3)] == [50.0, None, 0.0]
    assert drawn(history.bins(["gpu"], 3), "_#", ".:") == "# _"
    assert history.bins(["other"], 3) == [None] * 3


def test_estimated_and_measured_times_have_other_signs() -> None:
    history = History()
    history.load(series([50.0, 50.0, 50.0], [1.0, 0.2, None]))
    assert drawn(history.bins(["gpu"], 3), "_#", ".:") == "#::"


def test_a_phase_alone_has_its_own_times_only() -> None:
    history = History()
    history.load(series([10.0, 20.0, 10.0, 20.0]))
    assert [power and power.watts for power in history.bins(["gpu"], 4, "train")] == [None, 20.0, None, 20.0]


def test_a_series_of_another_shape_is_none() -> None:
    for odd in (
        {},
        {"begin_s": 1.0, "end_s": 2.0, "step_s": -1.0},
        {"begin_s": "x", "end_s": 1, "step_s": 1},
    ):
        history = History()
        history.load(Document({**odd, "devices": [{"id": "gpu", "power_w": [1.0]}]}))
        assert history.steps == []
        assert history.is_due
