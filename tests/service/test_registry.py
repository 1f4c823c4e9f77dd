"""How a monitor that processes have started takes their runs in turn, and with what a run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.config import Config
from carbonmon.core.model import RunInfo
from carbonmon.monitor.node import RunPlan
from carbonmon.service.registry import DISK_S, FIRST_RUN_S, NEXT_RUN_S, Entry, Registry
from tests.support.harness import FakeClock
from tests.support.rows import for_each_row

PEER = object()


class FakeMonitor:
    """Notes with what runs end."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ended: list[tuple[int | None, int | None]] = []
        self.phases: list[list[str]] = []

        self.disk = "well"
        self.then: Any = None

    def end(
        self, run_id: str, exit_code: int | None, signal: int | None, then: Any, last: Any, refused: Any
    ) -> None:
        self.ended.append((exit_code, signal))
        self.then = then
        if self.disk == "well":
            then()
        elif self.disk == "full":
            refused()

    @property
    def runs(self) -> dict[str, Any]:
        return {}

    def final_summary(self, run_id: str) -> dict[str, Any]:
        return {"run": {"id": run_id}, "state": "final"}

    def change_phase(self, run_id: str, names: list[str], at_s: float, marks: object) -> None:
        self.phases.append(names)


def made(once: bool = True) -> tuple[Registry, Any]:
    monitor: Any = FakeMonitor()
    return Registry(monitor, Config(output=Path("/runs")), 0, creates=True, once=once), monitor


def begin(registry: Registry, run_id: str = "run") -> Entry:
    info = RunInfo(run_id, "", (), (), "host", 0.0, ends_with="participants")
    registry.adopt(RunPlan(info, Path("/runs") / run_id))
    return registry.entries[-1]


@for_each_row(
    ("outcomes", "kept"),
    [
        ([(0, None), (0, None)], (0, None)),
        ([(3, None), (0, None)], (3, None)),
        ([(1, None), (None, 15)], (1, None)),
        ([(None, 15), (1, None)], (None, 15)),
        ([(0, None), (7, None)], (7, None)),
    ],
)
def test_the_first_failure_of_the_ranks_is_the_run_s(
    outcomes: list[tuple[int | None, int | None]], kept: tuple[int | None, int | None]
):
    registry, monitor = made()
    entry = begin(registry)
    ranks = [registry.take_part(entry, len(outcomes), is_rank=True) for _ in outcomes]
    are_last = [registry.leave(entry, rank, *outcome) for rank, outcome in zip(ranks, outcomes, strict=True)]
    assert are_last == [False] * (len(outcomes) - 1) + [True]
    registry.end(entry, *outcomes[-1])
    assert monitor.ended == [kept]


@for_each_row(("disk", "told_after_s"), [("well", 0.0), ("full", 0.0), ("hanging", DISK_S + 1.0)])
def test_the_summary_of_a_run_waits_for_no_disk(disk: str, told_after_s: float):
    registry, monitor = made()
    monitor.disk = disk
    entry = begin(registry)
    told: list[dict[str, Any]] = []
    registry.end(entry, 0, None, told.append)
    monitor.clock.time_s += DISK_S - 1.0
    registry.tidy()
    assert bool(told) is (told_after_s == 0.0)
    monitor.clock.time_s += 2.0
    registry.tidy()
    monitor.then()  # the disk is well again
    assert told == [{"run": {"id": "run"}, "state": "final"}], "once, from memory"
    assert registry.entries == []


def test_a_failed_child_that_is_no_rank_is_not_the_run_s_failure():
    registry, monitor = made()
    entry = begin(registry)
    parent, child = (registry.take_part(entry, 1) for _ in range(2))
    assert not registry.leave(entry, child, 1, None)
    assert registry.leave(entry, parent, 0, None)
    registry.end(entry, 0, None)
    assert monitor.ended == [(0, None)]


def test_a_helper_holds_no_run_open_and_is_none_of_the_promised_ranks():
    registry, _ = made()
    entry = begin(registry)
    helper = registry.take_part(entry, 4, is_helper=True)
    assert (entry.joined, entry.expected) == (0, 1)
    only = registry.take_part(entry, 1)
    assert registry.leave(entry, only, 0, None)
    assert not registry.leave(entry, helper, 0, None)


@pytest.mark.parametrize("settings", [None, "b"])
def test_a_monitor_makes_way_for_a_run_with_other_settings(settings: str | None):
    registry, _ = made()
    assert registry.takes("a")
    registry.end(begin(registry))
    registry.waiting.add(PEER)
    assert registry.takes("a")
    assert not registry.takes(settings)
    assert not registry.takes("a"), "it ends, and takes no more"
    assert registry.retire()


def test_a_monitor_waits_a_little_for_the_next_run_of_a_process_that_lives():
    registry, monitor = made()
    assert not registry.retire()
    assert registry.takes("a")
    entry = begin(registry)
    monitor.clock.time_s += 10 * NEXT_RUN_S
    assert not registry.retire(), "a run lives"
    registry.waiting.add(PEER)
    registry.end(entry)
    assert not registry.retire()
    monitor.clock.time_s += 0.9 * NEXT_RUN_S
    assert not registry.retire()
    assert registry.takes("a")
    registry.end(begin(registry, "next"))
    monitor.clock.time_s += 0.9 * NEXT_RUN_S
    assert not registry.retire()
    registry.waiting.clear()
    assert registry.retire(), "nobody lives who could begin another run"
    assert not registry.takes("a")


def test_a_monitor_that_nobody_wants_ends():
    registry, monitor = made()
    monitor.clock.time_s += FIRST_RUN_S + 1.0
    assert registry.retire()


def test_a_monitor_whose_first_run_was_refused_ends_at_once():
    registry, _ = made()
    assert registry.takes("a")
    registry.refuse()
    assert registry.retire()


def test_a_service_never_retires():
    registry, monitor = made(once=False)
    registry.refuse()
    monitor.clock.time_s += 1e6
    assert not registry.retire()
    assert not registry.may_go_on
