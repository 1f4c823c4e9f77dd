"""`carbonmon run --start greenest`: what it waits for, and that no job is kept from starting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from carbonmon.cli import start
from tests.support import command as commands

NOW_S = 1_795_262_400.0
HOUR_S = 3600.0


class Day:
    """A clock that only sleeping moves, and what was said."""

    def __init__(self) -> None:
        self.now_s = NOW_S
        self.said: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, folder: Path, grams: list[float], run_h: float = 1.0, within_h: float = 6.0) -> float:
        """The hours that are waited, where each hour from now on has so many grams."""
        path = folder / "hours.csv"
        lines = [f"{NOW_S + HOUR_S * hour:.0f},{each}\n" for hour, each in enumerate(grams)]
        path.write_text("time,intensity\n" + "".join(lines))
        values: dict[str, Any] = {"region": None, "intensity_file": path, "grid": None}
        context = click.Context(click.Command("run"))
        start.wait(context, values, run_h, within_h, self.said.append, lambda: self.now_s, self.sleep)
        return (self.now_s - NOW_S) / HOUR_S


@pytest.mark.parametrize(
    ("grams", "hours", "says"),
    [
        (
            [300, 300, 300, 120, 300, 300, 300, 300],
            3.0,
            "120 gCO2e/kWh over 1 h 00 min; now 300 (file hours.csv)",
        ),
        ([100, 300, 300, 120, 300, 300, 300, 300], 0.0, "now is the greenest start within 6 h 00 min: 100"),
        ([300, 300, 300, 300, 300, 300, 300, 10], 6.0, "155 gCO2e/kWh"),
    ],
)
def test_the_job_waits_for_the_greenest_of_the_hours(
    tmp_path: Path, grams: list[float], hours: float, says: str
):
    day = Day()
    run_h = 2.0 if hours == 6.0 else 1.0
    assert day.wait(tmp_path, grams, run_h) == pytest.approx(hours)
    assert len(day.said) == 1
    assert says in day.said[0]


def test_a_greenest_start_within_a_minute_is_now_and_says_so(tmp_path: Path):
    day = Day()
    day.now_s += HOUR_S - 50.0
    assert day.wait(tmp_path, [300, 100, 300]) * HOUR_S == pytest.approx(HOUR_S - 50.0), "no sleep"
    assert day.said[0].startswith("the greenest start is in 50 s, so the job starts now: 100 gCO2e/kWh")


def test_in_a_scheduler_s_job_the_time_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    day = Day()
    day.wait(tmp_path, [300, 100, 300])
    assert "the time limit of the scheduler's job runs on" in day.said[1]


def test_figures_that_do_not_reach_so_far_keep_no_job_from_starting(tmp_path: Path):
    day = Day()
    assert day.wait(tmp_path, [300, 100], run_h=9.0) == 0.0
    assert day.said[0].startswith(
        "no greener hour is known, so the job starts now: the figures of file hours.csv"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--start", "greenest"], "--start greenest --for HOURS --within HOURS"),
        (["--for", "4"], "give all three or none"),
        (["--start", "greenest", "--for", "4", "--within", "2"], "an annual mean knows no better hour"),
        (["--start", "greenest", "--for", "4 h", "--within", "2"], "--for: '4 h'"),
    ],
)
def test_what_does_not_fit_ends_with_2_before_the_job(tmp_path: Path, options: list[str], says: str):
    done = commands.run(["run", *options, "--", "touch", "began"], tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["doctor"], ["run", "--nonsense", "--", "true"]])
def test_ctrl_c_while_it_is_still_loading_is_no_traceback(tmp_path: Path, arguments: list[str]):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")  # it arrives in this very import
    done = commands.run(arguments, tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
