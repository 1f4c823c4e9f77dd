"""Budgets as users meet them: on a simulated machine, acted upon within the energy of two intervals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import Constant, Gpu, Simulator
from tests.support import command

pytestmark = pytest.mark.e2e

WATTS, INTERVAL_S = 500.0, 0.2
QUICK = ("--sensor", "tdp", "--interval", "0.1")
LOOP = """
import time, carbonmon
with carbonmon.track() as run:
    for step in range(600):
        time.sleep(0.05)
        run.progress(step + 1, 600)
        if run.should_stop:
            print('stopped', step + 1)
            break
"""


def machine() -> Simulator:
    return Simulator(gpus=[Gpu(profile=Constant(WATTS))])


def start(sim: Simulator, folder: Path, *words: str) -> tuple[int, str, str]:
    done = command.run(
        ["run", "--interval", f"{INTERVAL_S}", "--gpus", "0", "--sysfs", str(sim.sysfs), *words],
        folder,
        env=sim.environ,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_job_gets_a_signal_when_its_budget_is_reached(tmp_path: Path):
    with machine() as sim:
        code, _, said = start(
            sim, tmp_path, "--budget", "400J", "--budget", "9kWh", "--on-budget", "signal:TERM",
            "--", "sleep", "30",
        )  # fmt: skip
    assert code == 128 + 15
    assert said.count("budget 400J is reached") == 2, "one line, and a note below the table"
    reached, other = command.summary(tmp_path)["budgets"]
    assert 400.0 <= reached["spent_then"] < 400.0 + 5.0 * WATTS, (
        "in virtual time: tests/monitor/test_outlook.py"
    )
    assert (reached["action"], reached["reached_by"]) == ("signal:TERM", "total")
    assert other["reached_at"] is None


def test_a_budget_that_was_spent_before_a_resume_stops_training_soon(tmp_path: Path):
    budgets = ["--budget", "400J", "--budget", "50MJ/day"]
    with machine() as sim:
        code, _, said = start(sim, tmp_path, "--run-id", "a", *budgets, "--", "sleep", "1.2")
        assert code == 0
        assert "budget 400J is reached" in said
        words = ["--resume", "a", *budgets, "--on-budget", "stop", "--", sys.executable, "-c", LOOP]
        code, out, said = start(sim, tmp_path, *words)
    assert code == 0
    assert out.startswith("stopped ")
    assert "budget 400J was spent already when the run was resumed" in said
    summary = command.summary(tmp_path)
    assert [each["period"] for each in summary["budgets"]] == ["run", "day"]
    assert summary["budgets"][1]["spent"] == pytest.approx(summary["energy"]["total_j"], rel=0.1)


def test_a_command_is_told_beside_a_job_and_its_status_is_known(tmp_path: Path):
    words = ["--budget", "0.2s", "--on-budget", "notify:sh -c 'cat; exit 3'"]
    done = command.run(["run", *QUICK, *words, "--", "sh", "-c", "sleep 1; exit 5"], tmp_path)
    assert done.returncode == 5
    assert ": budget 0.2s is reached (" in done.stderr, "what the command printed"
    assert "it ended with exit code 3" in done.stderr
    assert done.stdout == ""


def test_a_command_that_ends_does_not_end_the_watch_over_an_attached_process(tmp_path: Path):
    told = tmp_path / "told"
    words = ["--budget", "0.1s", "--budget", "0.4s", "--on-budget", f"notify:sh -c 'cat >> {told}'"]
    with subprocess.Popen(["sleep", "60"]) as job:
        monitor = command.start(["run", *QUICK, *words, "--attach", f"{job.pid}"], tmp_path)
        command.wait_for(lambda: told.exists() and told.read_text().count("\n") == 2, "the second message")
        assert monitor.poll() is None
        job.kill()
    monitor.communicate(timeout=command.DEADLINE_S)
    assert monitor.returncode == 0
