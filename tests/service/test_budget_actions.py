"""What becomes of a budget that is reached: told, sent to the job, asked of training code."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carbonmon.core.budgets import parse_action, parse_budget
from carbonmon.core.config import Config
from carbonmon.core.model import RunInfo
from carbonmon.monitor.node import RunPlan
from carbonmon.monitor.outlook import Stop
from carbonmon.monitor.run_account import RunAccount
from carbonmon.service.budget_actions import RECOUNT_S, STOP_ASK_S, BudgetActions
from tests.support.harness import INFO, FakeClock
from tests.support.records import budget_state


class Job:
    """A job and its helpers that remember what they got."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.told: list[tuple[tuple[str, ...], str]] = []
        self.helpers = self
        self.pauses = self
        self.released = ""

    def send(self, number: int) -> bool:
        self.sent.append(number)
        return True

    def release(self, why: str, for_good: bool) -> None:
        self.released = why

    def run(self, command: tuple[str, ...], text: str, timeout_s: float) -> None:
        self.told.append((command, text))
        if command[0] == "broken":
            raise FileNotFoundError(2, "No such file")


class Case:
    """Budgets of a run, whose thread the test plays."""

    def __init__(self, tmp_path: Path, action: str, *budgets: str, before: Any = None) -> None:
        self.clock, self.job, self.run = FakeClock(), Job(), RunAccount(INFO, [])
        self.posted: list[Callable[[], object]] = []
        monitor: Any = SimpleNamespace(
            clock=self.clock,
            runs={INFO.id: self.run},
            requests=SimpleNamespace(post=self.posted.append),
        )
        config = Config(
            output=tmp_path,
            budgets=tuple(map(parse_budget, budgets or ("2kWh",))),
            on_budget=parse_action(action),
        )
        plan = RunPlan(RunInfo(*_fields(INFO)), tmp_path / "own", before=before)
        self.actions = BudgetActions(config, monitor, plan, self.job)  # type: ignore[arg-type]

    def reach(self) -> None:
        state = budget_state(spent=7.3e6)
        self.actions.reached(self.run, state._replace(reached_by="total"))
        found = self.actions._queue.get_nowait()
        assert found is not None
        self.actions._act_on(found)

    def wait(self, seconds: float) -> None:
        self.clock.time_s += seconds
        self.actions._look()


def _fields(info: RunInfo) -> list[Any]:
    return [getattr(info, name) for name in info._fields]


def test_a_warning_is_one_line_and_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    case = Case(tmp_path, "warn")
    case.reach()
    assert caplog.messages == ["budget 2kWh is reached (2.028 kWh spent); the run goes on"]
    assert case.run.notes == ("budget 2kWh is reached (2.028 kWh spent)",)
    assert case.job.sent == []


def test_a_command_is_told_and_its_failure_is_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    case = Case(tmp_path, "notify:broken -x")
    case.reach()
    assert case.job.told == [(("broken", "-x"), "run-1: budget 2kWh is reached (2.028 kWh spent)\n")]
    assert caplog.messages[-1] == "--on-budget notify:broken -x: No such file"


def test_a_signal_goes_to_the_job_and_to_none_that_has_ended(tmp_path: Path):
    case = Case(tmp_path, "signal:USR1")
    case.reach()
    assert case.job.sent == [signal.SIGUSR1]
    case.actions.job_ended()
    case.reach()
    assert case.job.sent == [signal.SIGUSR1]


def test_a_stop_that_nobody_asks_for_becomes_a_sigterm_and_nothing_more(tmp_path: Path):
    case = Case(tmp_path, "stop")
    case.run.outlook.stop = Stop(12.0)
    case.reach()
    assert case.job.released == "budget 2kWh stops the training", "paused it could not ask"
    assert case.actions._pause_s() == STOP_ASK_S
    case.wait(STOP_ASK_S - 0.1)
    assert case.job.sent == []
    case.wait(0.1)
    assert case.job.sent == [signal.SIGTERM]
    case.wait(10 * STOP_ASK_S)
    assert case.job.sent == [signal.SIGTERM], "never a SIGKILL"
    assert case.actions._pause_s() is None


def test_a_stop_that_training_code_has_heard_sends_no_signal(tmp_path: Path):
    case = Case(tmp_path, "stop")
    case.run.outlook.stop = Stop(12.0)
    case.reach()
    case.run.outlook.is_heard = True
    case.wait(2 * STOP_ASK_S)
    assert case.job.sent == []


def test_the_other_runs_of_the_day_are_counted_now_and_then(tmp_path: Path):
    case = Case(tmp_path, "warn", "2kWh/day")
    case.wait(0.0)
    case.wait(RECOUNT_S - 1.0)
    assert len(case.posted) == 1
    case.wait(1.0)
    assert len(case.posted) == 2
    assert case.actions._pause_s() == RECOUNT_S
