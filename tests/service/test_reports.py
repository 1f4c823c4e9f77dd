"""A message of progress becomes a report, with the part of the job that is on this node."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from carbonmon.core.model import Rank
from carbonmon.core.work import Told
from carbonmon.service.entries import Participant
from carbonmon.service.socket.reports import told
from carbonmon.service.socket.request import RequestError
from tests.support.rows import for_each_row


def read(message: dict[str, Any], rank: Rank | None = None, expected: int = 1, seen: int = 0) -> Told:
    entry: Any = SimpleNamespace(expected=expected, ranks=set(range(seen)))
    return told(message, entry, Participant("mine", rank=rank))


def test_a_message_of_an_older_client_holds_steps_alone():
    assert read({"step": 3, "total": 10}) == Told(3.0, 10.0)


def test_all_counts_are_read_also_the_large_ones():
    message = {"step": 3, "epoch": 0.5, "samples": 24, "tokens": 4096, "flops": 3e26, "precision": "16-mixed"}
    assert read(message) == Told(3.0, None, 0.5, 24.0, 4096.0, 3e26, "fp16")


@for_each_row(
    ("message", "says"),
    [
        ({}, "needs a step, or another count"),
        ({"total": 10}, "needs a step, or another count"),
        ({"step": -1}, "step must be a number of at least 0"),
        ({"step": 1, "tokens": "many"}, "tokens must be a number"),
        ({"step": 1, "tokens": True}, "tokens must be a number"),
        ({"step": 1, "flops": 1e40}, "flops"),
    ],
)
def test_a_message_that_cannot_be_is_refused_with_the_field(message: dict[str, Any], says: str):
    with pytest.raises(RequestError, match=says):
        read(message)


@for_each_row(
    ("rank", "expected", "seen", "ratio"),
    [
        (None, 1, 0, 1.0),
        (Rank(0, 0, None), 1, 1, 1.0),
        (Rank(0, 0, 8), 8, 1, 1.0),
        (Rank(0, 0, 16), 8, 1, 0.5),
        (Rank(0, 0, 4), 1, 4, 1.0),
        (Rank(0, 0, 4), 1, 1, 0.25),
        (Rank(0, 0, 2), 4, 1, 1.0),
    ],
)
def test_the_part_of_the_job_on_this_node_is_that_of_its_ranks(
    rank: Rank | None, expected: int, seen: int, ratio: float
):
    assert read({"step": 1}, rank, expected, seen).job_ratio == ratio
