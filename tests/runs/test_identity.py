"""What a run is called when nobody names it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.client.launcher import scheduler_job
from carbonmon.core.config import parse_run_id
from carbonmon.service.naming import command_name, default_run_id
from tests.support.rows import for_each_row

WALL_S = 1_795_000_000.0


@for_each_row(
    ("environ", "expected"),
    [
        ({}, ("", "")),
        ({"SLURM_JOB_ID": "4242"}, ("slurm", "4242")),
        ({"PBS_JOBID": "17.head"}, ("pbs", "17.head")),
        ({"LSB_JOBID": "3"}, ("lsf", "3")),
        ({"FLUX_JOB_ID": "ƒ4Xk"}, ("flux", "ƒ4Xk")),
        ({"SLURM_JOB_ID": "", "LSB_JOBID": "3"}, ("lsf", "3")),
        ({"SLURM_JOB_ID": "1", "PBS_JOBID": "2"}, ("slurm", "1")),
    ],
)
def test_the_scheduler_is_known_by_the_variable_that_it_sets(
    environ: dict[str, str], expected: tuple[str, str]
):
    assert scheduler_job(environ) == expected


@for_each_row(
    ("command", "name"),
    [
        (["python", "train.py", "--lr", "1"], "train"),
        (["/usr/bin/python3.11", "-u", "/home/me/models/train.py"], "train"),
        (["torchrun", "--standalone", "train.py"], "train"),
        (["bash", "job.sh"], "job"),
        (["./a.out"], "a.out"),
        (["bash"], "bash"),
        (["python", "-m", "package.train"], "package.train"),
        (["python", "python3"], "python3"),
        ([], "run"),
    ],
)
def test_a_command_is_named_by_what_it_trains_and_not_by_its_interpreter(command: Sequence[str], name: str):
    assert command_name(command) == name


def test_the_id_is_the_scheduler_s_else_time_and_name():
    assert default_run_id({"SLURM_JOB_ID": "4242"}, "train", WALL_S) == "slurm-4242"
    assert re.fullmatch(r"\d{8}-\d{6}-train", default_run_id({}, "train", WALL_S))


@given(st.text(max_size=100), st.dictionaries(st.sampled_from(["SLURM_JOB_ID", "PBS_JOBID"]), st.text()))
def test_whatever_the_name_the_id_is_fit_for_a_folder(name: str, environ: dict[str, str]):
    run_id = default_run_id(environ, name, WALL_S)
    assert parse_run_id(f"{run_id}-99") == f"{run_id}-99", "with room for the number of a namesake"


def test_code_on_the_command_line_is_no_name():
    assert command_name(["python", "-c", "print('hi')"]) == "python"
    assert command_name(["sh", "-c", "exit 1"]) == "sh"
