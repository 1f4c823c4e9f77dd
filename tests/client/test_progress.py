"""What training code says that it has done becomes a message of numbers that can be counted with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from carbonmon.client import connection
from carbonmon.client.progress import Progress
from tests.support.rows import for_each_row


@pytest.fixture(autouse=True)
def unwarned() -> Iterator[None]:
    connection._warned.clear()
    yield
    connection._warned.clear()


class Tensor:
    """A tensor as far as it is asked for a number; one with several elements raises what torch raises."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def __float__(self) -> float:
        if len(self.values) != 1:
            raise RuntimeError(f"a Tensor with {len(self.values)} elements cannot be converted to Scalar")
        return self.values[0]


def message(step: Any, total: Any = None, precision: Any = None, **counts: Any) -> dict[str, Any] | None:
    return Progress().message(step, total, precision, **counts)


def test_all_that_is_told_is_in_the_message():
    told = message(3, 10, "bf16", epoch=0.5, samples=96, tokens=Tensor(6144.0), flops=1.5e15)
    assert told == {
        "step": 3,
        "total": 10,
        "precision": "bf16",
        "epoch": 0.5,
        "samples": 96,
        "tokens": 6144.0,
        "flops": 1.5e15,
    }


@for_each_row(
    "bad",
    [-1, -0.5, float("nan"), float("inf"), Tensor(1.0, 2.0), "much", [3], 10**40, object()],
)
def test_a_figure_that_cannot_be_is_left_out_and_the_others_are_told(
    bad: Any, caplog: pytest.LogCaptureFixture
):
    caplog.clear()
    connection._warned.clear()
    progress = Progress()
    for step in (1, 2):
        assert progress.message(step, None, None, tokens=bad, samples=8) == {"step": step, "samples": 8}
    (record,) = caplog.records
    assert record.getMessage().startswith("carbonmon's progress: tokens is left out: ")
    assert progress.message(bad, None, None) is None


def test_a_count_that_runs_backwards_is_left_out_until_it_has_caught_up(caplog: pytest.LogCaptureFixture):
    progress = Progress()
    told = [progress.message(step, None, None) for step in (4, 5, 3, 5, 6)]
    assert told == [{"step": 4}, {"step": 5}, None, {"step": 5}, {"step": 6}]
    assert [record.getMessage() for record in caplog.records] == [
        "carbonmon's progress: step is left out: 3 comes after 5: counts only grow"
    ]


def test_a_step_beyond_the_total_leaves_the_total_out(caplog: pytest.LogCaptureFixture):
    assert message(11, 10) == {"step": 11}
    assert "step 11 is beyond the total of 10" in caplog.text


@for_each_row("total", [-1, 0, float("inf"), float("nan"), 2**63 - 1, float(2**63)])
def test_a_total_that_stands_for_no_end_is_unknown_without_a_warning(
    total: float, caplog: pytest.LogCaptureFixture
):
    assert message(11, total) == {"step": 11}
    assert not caplog.records


def test_what_raises_when_it_is_made_a_text_does_no_harm():
    class Odd:
        def __str__(self) -> str:
            raise ValueError("no text")

    assert message(1, Odd(), Odd(), tokens=Odd()) == {"step": 1}


def test_evaluations_are_told_and_what_is_no_number_of_steps_is_left_out(caplog: pytest.LogCaptureFixture):
    progress = Progress()
    assert progress.message(1, None, None, (50, 12.5)) == {
        "step": 1, "evaluation_every": 50, "evaluation_steps": 12.5,
    }  # fmt: skip
    for bad in (0, -1, math.inf, "often"):
        assert progress.message(1, None, None, (bad, None)) == {"step": 1}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("carbonmon's progress: evaluation_every is left out: ")
