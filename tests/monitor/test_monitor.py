"""A monitor of many runs, on this machine: what it keeps of them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from carbonmon.core.config import Config
from carbonmon.core.model import RunInfo
from carbonmon.monitor.clock import SystemClock
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.runs import folders
from carbonmon.service import wiring
from tests.support.command import wait_for


def plan(output: Path, run_id: str) -> RunPlan:
    info = RunInfo(run_id, run_id, (), (), "node", 0.0, "", "", "none")
    return RunPlan(info, folders.create(output, run_id, run_id))


def wait_until_shown(monitor: Monitor, run_ids: set[str]) -> None:
    wait_for(lambda: {run.info.id for run in monitor.sampler.latest.runs} == run_ids, "a snapshot of them")


def test_the_folders_of_runs_that_are_shown_no_more_are_not_remembered_for_ever(tmp_path: Path):
    config = Config(interval_s=0.05, checkpoint_s=0.1, retain_s=0.0, sensors=("tdp",), exporters=("summary",))
    ended: list[str] = []
    with ExitStack() as closing:
        monitor = wiring.build(config, {}, SystemClock(), closing, watching=True)
        assert monitor.sampling.start()
        monitor.recorder.start()
        for number in range(5):
            run = plan(tmp_path, f"run-{number}")
            monitor.plan(run)
            monitor.begin(run)
            wait_until_shown(monitor, {run.info.id})
            monitor.end(run.info.id, 0, None, lambda run=run: ended.append(run.info.id))  # type: ignore[misc]
            wait_until_shown(monitor, set())
        monitor.leave()
    assert len(ended) == 5
    assert len(monitor.sampler.runs.folders) <= 1
    assert all((tmp_path / run_id / "summary.json").exists() for run_id in ended)
