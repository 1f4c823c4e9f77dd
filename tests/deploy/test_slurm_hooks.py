"""Slurm's hooks with a carbonmon that answers as it is told to: what they remember, and for how long."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HOOKS = Path(__file__).resolve().parents[2] / "deploy" / "slurm"


@pytest.mark.parametrize(
    ("answer", "is_kept"),
    [
        ("echo 'run slurm-6 has ended: /runs/slurm-6'", False),
        ("echo \"Error: run 'slurm-6' is not here; there are: slurm-7\" >&2; exit 1", False),
        ("echo 'Error: no daemon answers (…); start one: carbonmon daemon' >&2; exit 1", True),
        ("exec sleep 60", True),
    ],
    ids=["it ends", "it is over", "there is no daemon", "it hangs"],
)
def test_a_run_that_could_not_be_ended_is_remembered_until_it_is(tmp_path: Path, answer: str, is_kept: bool):
    hooks, state = tmp_path / "hooks", tmp_path / "state"
    shutil.copytree(HOOKS, hooks)
    program = tmp_path / "carbonmon"
    program.write_text(f"#!/bin/sh\ncase $1 in\n register) echo slurm-7 ;;\n *) {answer} ;;\nesac\n")
    program.chmod(0o755)
    (hooks / "settings.sh").write_text(f"CARBONMON={program}\nSTATE={state}\n")
    state.mkdir()
    left = state / "slurm-6.ended"
    left.write_text("slurm-6 0\n")
    done = subprocess.run(
        [hooks / "prolog.sh"],
        env={"SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (state / "7").read_text() == "slurm-7 0\n", done.stderr
    assert left.exists() == is_kept
