"""`carbonmon runs` as a person uses it: beside a run that goes on, and on a real terminal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import command
from tests.support.run_folders import a_run
from tests.support.terminal_output import COLOUR, in_terminal

pytestmark = pytest.mark.e2e


def listed(folder: Path) -> dict[str, Any]:
    """The runs below ./carbonmon-runs by id, once there are any."""
    done = command.run(["runs", "--format", "json"], folder)
    return {run["run_id"]: run for run in json.loads(done.stdout)["runs"]}


def test_a_run_that_goes_on_is_listed_as_running_and_is_never_removed(tmp_path: Path):
    arguments = [
        "run",
        "--own-monitor",
        "--quiet",
        "--name",
        "long",
        "--checkpoint",
        "0.1",
        "--",
        "sleep",
        "60",
    ]
    with command.start(arguments, tmp_path) as monitor:
        try:
            (run,) = command.wait_for(lambda: listed(tmp_path), "the run in the list").values()
            assert (run["state"], run["name"], run["uid"]) == ("running", "long", os.geteuid())
            pruned = command.run(["runs", "prune", "--older-than", "0s", "--yes"], tmp_path)
            assert "removed: 0 runs of 1" in pruned.stdout
            assert "stays: it is running" in pruned.stderr
        finally:
            monitor.terminate()
            monitor.communicate(timeout=command.DEADLINE_S)
    assert [run["state"] for run in listed(tmp_path).values()] == ["final"]
    assert "(long)" in command.run(["report", "last"], tmp_path).stdout
    assert (
        "removed: 1 run of 1"
        in command.run(["runs", "prune", "--older-than", "0s", "--yes"], tmp_path).stdout
    )
    assert list((tmp_path / "carbonmon-runs").iterdir()) == []


@pytest.mark.parametrize("columns", [80, 60])
def test_a_list_is_as_wide_as_the_terminal_at_most(columns: int, tmp_path: Path):
    a_run(tmp_path / "carbonmon-runs", "20261031-103000-a-long-name-of-a-run", name="a-long-name-of-a-run")
    lines = COLOUR.sub("", in_terminal(["runs", "--sum"], tmp_path, columns)).splitlines()
    assert columns - 30 < max(map(len, lines)) <= columns
    assert "not shown, for the width" in " ".join(lines)
