"""Figures are quotients of what is known, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.efficiency import figures, quotient
from carbonmon.core.gpu_time import GpuClock, GpuTime
from tests.support.rows import for_each_row


def span(done: float, energy_j: float | None = 100.0, first: float = 7.0) -> dict[str, Any]:
    return {"first": first, "last": first + done, "energy_j": energy_j}


def test_each_figure_is_its_quotient():
    found = figures({"tokens": span(50.0), "flops": span(1e15)}, 300.0, 1.0, 4e15)
    assert found["energy_per_token_j"] == 2.0
    assert found["run_energy_per_token_j"] == 6.0
    assert found["flops_per_joule"] == pytest.approx(1e13)
    assert found["mfu"] == pytest.approx(0.25)
    assert found["energy_per_step_j"] is found["run_energy_per_step_j"] is None


def test_flops_of_a_whole_job_are_not_divided_by_the_energy_of_a_part_of_it():
    found = figures({"steps": span(5.0), "flops": span(1e15)}, 300.0, 0.5, 4e15)
    assert found["flops_per_joule"] is found["mfu"] is None
    assert found["energy_per_step_j"] == 20.0


@for_each_row(
    ("amount", "by"),
    [(None, 1.0), (1.0, None), (1.0, 0.0), (0.0, 1.0), (1.0, -1.0), (-1.0, 1.0)],
)
def test_what_is_unknown_or_nothing_has_no_quotient(amount: float | None, by: float | None):
    assert quotient(amount, by) is None


PIECES = st.lists(
    st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 1e5), st.none() | st.floats(0.0, 1.0)), max_size=20
)


@given(PIECES)
def test_gpu_time_is_idle_busy_or_unknown_and_nothing_of_it_twice(
    pieces: list[tuple[float, float, float | None]],
):
    clock = GpuClock()
    for piece in pieces:
        clock.add(*piece)
    time = clock.time() or GpuTime()
    assert time.held_s == pytest.approx(sum(seconds for seconds, _, _ in pieces))
    assert time.idle_s + time.unknown_s <= time.held_s * (1 + 1e-12)
    assert time.idle_j == pytest.approx(
        sum(joules for _, joules, use in pieces if use is not None and use < 0.01)
    )


def test_a_gpu_that_worked_one_per_cent_of_the_time_was_not_idle():
    clock = GpuClock()
    clock.add(10.0, 5.0, 0.01)
    assert clock.time() == GpuTime(10.0, 0.0, 0.0, 0.0)
    clock.add(10.0, 5.0, 0.009)
    assert clock.time() == GpuTime(20.0, 10.0, 0.0, 5.0)


def test_who_holds_no_gpu_has_no_gpu_time():
    assert GpuClock().time() is None
