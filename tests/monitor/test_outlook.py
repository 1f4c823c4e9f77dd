"""What is to come of a run, beside its samples: forecasts, budgets, and the step at which training stops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from carbonmon.core.budget_watch import BudgetWatch
from carbonmon.core.budgets import BudgetState, parse_action, parse_budget
from carbonmon.monitor.outlook import STOP_AHEAD_S, Outlook, Stop
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs.layout import RUN_FILE, checkpoint_text, run_text
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.text import table_text
from carbonmon.runs.summary.validation import fault_of
from tests.simulator import Constant, Gpu, Simulator
from tests.support import checkpoints
from tests.support.harness import Monitor

WATTS = 300.0


@pytest.fixture
def monitor():
    with Simulator(gpus=[Gpu(profile=Constant(WATTS))]) as machine, Monitor(machine) as watched:
        yield watched


def run_of(monitor: Monitor) -> RunAccount:
    return monitor.sampler.runs.living["run-1"]


def watch(monitor: Monitor, *texts: str, action: str = "warn", by: str = "total") -> list[BudgetState]:
    """Watch budgets; what is reached will be in the list."""
    reached: list[BudgetState] = []
    budgets = [parse_budget(text) for text in texts]
    found = BudgetWatch(budgets, parse_action(action), by, monitor.machine.wall_s())  # type: ignore[arg-type]
    run_of(monitor).outlook.begin(found, reached.append)
    return reached


def train(monitor: Monitor, steps: int, total: float | None, begin: int = 0) -> None:
    """Steps of a second, each told when it is done."""
    for step in range(begin, begin + steps):
        run_of(monitor).outlook.progress(monitor.machine.now_s(), step, total)
        monitor.watch(1.0)


def test_a_budget_is_reached_within_the_energy_of_two_intervals(monitor: Monitor):
    reached = watch(monitor, "5kJ")
    while not reached:
        assert monitor.latest.runs[0].totals[0].energy_j < 6000.0
        monitor.watch(1.0)
    assert 5000.0 <= reached[0].spent <= 5000.0 + 2 * WATTS
    monitor.watch(10.0)
    assert len(reached) == 1


def test_between_two_readings_of_a_counter_the_last_power_stands_for_it():
    with (
        Simulator(gpus=[Gpu(profile=Constant(WATTS))]) as machine,
        Monitor(machine, interval_s=0.1) as monitor,
    ):
        reached = watch(monitor, "2kJ")
        while not reached:
            monitor.watch(0.1)
        assert monitor.truth_j(machine.gpus[0].uuid) == pytest.approx(2000.0, abs=3 * 0.1 * WATTS)


def test_a_run_whose_steps_are_told_has_a_forecast_and_keeps_it_beside_the_outcome(monitor: Monitor):
    train(monitor, 60, 80)
    monitor.sampler.show()
    made = monitor.latest.runs[0].forecast
    assert made is not None
    assert made.energy_j.low <= 80 * WATTS <= made.energy_j.high
    assert [round(mark.done_ratio, 2) for mark in monitor.latest.runs[0].forecasts] == [0.1, 0.25, 0.5]
    final = monitor.finish()
    assert final.runs[0].forecast is None, "it is over"
    summary = summarize(final, final.runs[0], "final")
    assert fault_of(summary) == ""
    assert [each["done_ratio"] for each in summary["forecasts"]] == pytest.approx([0.1, 0.25, 0.5], abs=0.02)
    (line,) = [line for line in table_text(summary).splitlines() if line.startswith("  forecast ")]
    assert line.count("(") == 3


def test_a_stop_is_named_ahead_of_the_newest_step(monitor: Monitor):
    watch(monitor, "6kJ", action="stop")
    outlook, newest = run_of(monitor).outlook, 0
    while outlook.stop is None and newest < 400:
        newest += 2  # a second
        outlook.progress(monitor.machine.now_s(), newest, 400)
        monitor.watch(1.0)
    assert outlook.stop is not None
    assert outlook.stop.step is not None
    assert newest + 2 * STOP_AHEAD_S <= outlook.stop.step <= newest + 2 * STOP_AHEAD_S + 1
    spent_j = monitor.truth_j(monitor.machine.gpus[0].uuid)
    assert spent_j + (STOP_AHEAD_S + 1.0) * WATTS == pytest.approx(6000.0, rel=0.15), "what follows counts"


def test_a_stop_without_steps_is_at_once(monitor: Monitor):
    watch(monitor, "600J", action="stop")
    monitor.watch(4.0)
    outlook = run_of(monitor).outlook
    assert outlook.stop == Stop(None)
    outlook.progress(monitor.machine.now_s(), 40, 100)
    assert outlook.stop == Stop(43), "from now on there are steps"


def test_without_budgets_and_steps_nothing_is_looked_at(monitor: Monitor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Outlook, "look", pytest.fail)
    monitor.watch(3.0)
    assert not run_of(monitor).outlook.is_wanted


def test_a_fault_of_ours_ends_the_forecast_and_not_the_sampling(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*_: object) -> bool:
        raise ZeroDivisionError("a bug")

    train(monitor, 3, 100)
    monkeypatch.setattr("carbonmon.core.forecast.Forecaster.look", fail)
    before_j = run_of(monitor).work.total_j
    monitor.watch(5.0)
    assert run_of(monitor).work.total_j == pytest.approx(before_j + 5 * WATTS, rel=0.05)
    assert caplog.text.count("no forecast and no budgets any more") == 1


def test_a_checkpoint_keeps_forecasts_and_what_was_reached(monitor: Monitor, tmp_path: Path):
    watch(monitor, "1kJ", "2kWh")
    train(monitor, 20, 40)
    monitor.sampler.show()
    (run,) = monitor.latest.runs
    (tmp_path / RUN_FILE).write_text(run_text(run.info, [state.device for state in monitor.latest.devices]))
    checkpoints.write(tmp_path, checkpoint_text(monitor.latest, run, "boot"))
    before = read_checkpoint(tmp_path).snapshot.runs[0]
    assert before.forecasts == run.forecasts
    assert before.budgets == run.budgets
    assert [state.reached_at_s is None for state in before.budgets] == [False, True]
    final = monitor.finish().runs[0]
    assert final.budgets[0].spent == pytest.approx(sum(row.energy_j for row in final.totals), rel=1e-9)


@pytest.mark.parametrize(
    "broken",
    [
        lambda text: text.replace('"total"', '"hope"'),
        lambda text: text.replace('"1kJ"', "7"),
        lambda text: text.replace('"budgets":[[', '"budgets":[[[],'),
    ],
)
def test_a_damaged_budget_is_named(monitor: Monitor, tmp_path: Path, broken: Callable[[str], str]):
    watch(monitor, "1kJ")
    monitor.watch(5.0)
    monitor.sampler.show()
    (run,) = monitor.latest.runs
    (tmp_path / RUN_FILE).write_text(run_text(run.info, [state.device for state in monitor.latest.devices]))
    checkpoints.write(tmp_path, broken(checkpoint_text(monitor.latest, run, "boot")))
    with pytest.raises(Exception, match="budgets"):
        read_checkpoint(tmp_path)


def test_a_pause_is_a_phase_and_no_step_is_slower_by_it(monitor: Monitor, tmp_path: Path):
    train(monitor, 40, 80)
    run = run_of(monitor)
    run.pauses.begin(300.0)
    run.pause(monitor.machine.now_s(), True)
    monitor.watch(0.0)  # the sample that a change of phase brings
    before = run.outlook.forecast()
    monitor.watch(50.0)
    monitor.sampler.show()
    made = run.outlook.forecast()
    assert before is not None
    assert made is not None
    assert made.duration_s.expected == pytest.approx(before.duration_s.expected + 50.0, abs=2.0)
    assert made.energy_j.expected == pytest.approx(before.energy_j.expected + 50.0 * WATTS, rel=0.03)
    paused = monitor.latest.runs[0]
    assert paused.pauses is not None
    assert (paused.phase, paused.pauses.is_paused) == ("paused", True)
    (tmp_path / RUN_FILE).write_text(run_text(paused.info, [each.device for each in monitor.latest.devices]))
    checkpoints.write(tmp_path, checkpoint_text(monitor.latest, paused, "boot"))
    assert read_checkpoint(tmp_path).snapshot.runs[0].pauses == paused.pauses
    resumed = RunAccount(paused.info, [])
    resumed.restore(paused, monitor.machine.now_s(), 0.0, same_boot=True)
    assert resumed.phases.now == (("main", 1.0),), "it is not held by a monitor that is gone"
    run.pause(monitor.machine.now_s(), False)
    train(monitor, 40, 80, begin=40)
    summary = summarize(monitor.finish(), monitor.latest.runs[0], "final")
    assert fault_of(summary) == ""
    assert summary["run"]["pauses"] == {
        "above_g_per_kwh": 300.0, "count": 1, "paused_s": pytest.approx(50.0, abs=0.01),
    }  # fmt: skip
    assert summary["energy"]["phases"]["paused"]["energy_j"] == pytest.approx(50.0 * WATTS, rel=0.05)
    assert run.pauses.seconds(monitor.machine.now_s()) == pytest.approx(50.0, abs=0.01)
    after = run.outlook.marks[-1]
    assert after.done_ratio == pytest.approx(0.5, abs=0.02)
