"""A real Slurm whose users start carbonmon themselves: which runs they get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import slurm
from tests.support.slurm import Slurm

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]

CHOICES = "export CARBONMON_SENSOR=tdp CARBONMON_CPU_TDP=100 CARBONMON_LISTEN=127.0.0.1:0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with Slurm() as running:
        yield running


def runs(cluster: Slurm, folder: str) -> dict[str, dict[str, Any]]:
    """The kept runs of a job by id."""
    paths = (cluster.work / folder).glob("*/summary.json")
    return {path.parent.name: json.loads(path.read_text())["run"] for path in paths}


def carbonmon(cluster: Slurm) -> str:
    found = slurm.program(cluster.uid)
    assert found is not None
    return found


def test_steps_at_once_and_trainings_in_the_script_are_runs_of_their_own(cluster: Slurm):
    ours = carbonmon(cluster)
    # Each waits for the other: they do run at once.
    meet = "sh -c 'touch met-$0; until [ -e met-a ] && [ -e met-b ]; do sleep 0.1; done'"
    job_id = cluster.submit(
        f"{CHOICES} CARBONMON_OUTPUT=steps\n"
        f"srun -n1 --exact {ours} run -- {meet} a & srun -n1 --exact {ours} run -- {meet} b & wait\n"
        f"srun -n2 {ours} run -- true\n"
        f"{ours} run -- true\n"
        f"{ours} run -- true\n",
        "--ntasks=2",
        "--output=steps.out",
    )
    assert cluster.wait(job_id) == "COMPLETED"
    found = runs(cluster, "steps")
    said = (cluster.work / "steps.out").read_text()
    steps = [f"slurm-{job_id}{suffix}" for suffix in (".0", ".1", ".2", "", "-2")]
    assert sorted(found) == sorted(steps), said
    assert {run["scheduler_job_id"] for run in found.values()} == {job_id}, "one job"
    assert len(found[f"slurm-{job_id}.2"]["ranks"]) == 2
    assert all(run["notes"] == [] for run in found.values())


def test_a_shell_of_salloc_promises_no_ranks(cluster: Slurm):
    said = cluster.as_user(
        "salloc",
        "-n2",
        "sh",
        "-c",
        f"{CHOICES} CARBONMON_OUTPUT=shell; {carbonmon(cluster)} run -- true 2>&1",
    )
    (run_id,) = runs(cluster, "shell")
    assert run_id.startswith("slurm-")
    assert "." not in run_id
    assert said.count("energy ") == 1, "one table"
    assert "part of run" not in said, "no monitor that waits for other ranks"


def test_a_run_around_srun_is_told_where_carbonmon_belongs_and_at_the_end_what_it_missed(cluster: Slurm):
    burn = "timeout 6 sh -c 'while :; do :; done'"
    job_id = cluster.submit(
        f"{CHOICES} CARBONMON_OUTPUT=around\n{carbonmon(cluster)} run -- srun -n1 {burn}; true\n",
        "--output=around.out",
    )
    assert cluster.wait(job_id) == "COMPLETED"
    said = " ".join((cluster.work / "around.out").read_text().split())
    assert "srun -n1 carbonmon run -- timeout 6" in said
    (run,) = runs(cluster, "around").values()
    assert run["cpu_s"] < 1.0
    assert "if its work ran under srun" in run["notes"][0]
    assert run["notes"][0] in said
