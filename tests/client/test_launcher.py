"""What a process learns about its run from its launcher's environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.client.launcher import Launch, read_launch, run_key, safe_id
from tests.support.rows import for_each_row

SLURM = {
    "SLURM_JOB_ID": "4242",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_NNODES": "2",
}
TORCHRUN = {
    "RANK": "3",
    "LOCAL_RANK": "3",
    "WORLD_SIZE": "16",
    "LOCAL_WORLD_SIZE": "8",
    "GROUP_WORLD_SIZE": "2",
    "MASTER_ADDR": "node01",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_NAMESPACE": "prterun-node01-77@1",
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


@for_each_row(
    ("environ", "launch"),
    [
        ({}, Launch()),
        (SLURM, Launch("slurm-4242", "slurm", "4242", 5, 1, 8, 4, 2)),
        (TORCHRUN, Launch("torchrun-node01-29500", None, None, 3, 3, 16, 8, 2)),
        (TORCHRUN | {"TORCHELASTIC_RUN_ID": "my job"}, Launch("torchrun-my-job", None, None, 3, 3, 16, 8, 2)),
        (OPEN_MPI, Launch("openmpi-prterun-node01-77-1", None, None, 2, 0, 4, 2)),
        (HYDRA, Launch(None, None, None, 1, 1, 4, 2)),
        (HYDRA | {"PMI_JOBID": "9"}, Launch("mpi-9", None, None, 1, 1, 4, 2)),
        ({"PBS_JOBID": "17[3].head"}, Launch("pbs-17-3-.head", "pbs", "17[3].head")),
        ({"LSB_JOBID": "3", "LSB_JOBINDEX": "0"}, Launch("lsf-3", "lsf", "3")),
        ({"FLUX_JOB_ID": "ƒ4Xk"}, Launch("flux--4Xk", "flux", "ƒ4Xk")),
    ],
)
def test_each_launcher_tells_the_run_and_the_ranks_in_its_own_words(environ: dict[str, str], launch: Launch):
    assert read_launch(environ) == launch


def test_torchrun_inside_slurm_knows_the_ranks_and_slurm_the_job():
    launch = read_launch(SLURM | TORCHRUN | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"})
    assert launch == Launch("slurm-4242", "slurm", "4242", 3, 3, 16, 8, 2)


def test_mpirun_inside_slurm_has_its_own_ranks_because_slurm_only_knows_the_daemons():
    launch = read_launch(SLURM | OPEN_MPI | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"})
    assert launch[3:] == (2, 0, 4, 2, None)


def test_slurm_fills_in_what_its_pmi_leaves_open():
    launch = read_launch(SLURM | {"PMI_RANK": "5", "PMI_SIZE": "8"})
    assert launch[3:] == (5, 1, 8, 4, 2)


@pytest.mark.parametrize(
    ("tasks", "node", "here"),
    [
        ("4(x2),3", "0", 4),
        ("4(x2),3", "1", 4),
        ("4(x2),3", "2", 3),
        ("7", "0", 7),
        ("2,1(x3)", "3", 1),
        ("x", "0", 4),
    ],
)
def test_slurm_s_uneven_tasks_are_counted_on_the_own_node(tasks: str, node: str, here: int):
    environ = SLURM | {"SLURM_TASKS_PER_NODE": tasks, "SLURM_NODEID": node}
    assert read_launch(environ).local_size == here


def test_the_global_ids_of_a_node_s_tasks_are_the_surest_count():
    assert read_launch(SLURM | {"SLURM_GTIDS": "3,5,6", "SLURM_TASKS_PER_NODE": "2(x4)"}).local_size == 3


@pytest.mark.parametrize(
    ("more", "run_id"),
    [
        ({"SLURM_RESTART_COUNT": "1"}, "slurm-4242-2"),
        ({"SLURM_JOB_RESTART_COUNT": "1"}, "slurm-4242-2"),
        ({"SLURM_JOB_RESTART_COUNT": "0"}, "slurm-4242"),
        ({"SLURM_RESTART_COUNT": "often"}, "slurm-4242"),
    ],
)
def test_a_job_that_was_queued_again_is_a_run_of_its_own(more: dict[str, str], run_id: str):
    launch = read_launch(SLURM | more)
    assert (launch.run_id, launch.scheduler_job_id) == (run_id, "4242")


def test_a_batch_script_is_one_process_however_many_tasks_its_job_asks_for():
    batch = {key: value for key, value in SLURM.items() if key != "SLURM_STEP_ID"}
    launch = read_launch(batch | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_GTIDS": "0"})
    assert launch == Launch("slurm-4242", "slurm", "4242", nodes=2)


def test_the_elements_of_an_lsf_array_are_runs_of_their_own():
    first, second = (read_launch({"LSB_JOBID": "3", "LSB_JOBINDEX": index}) for index in "12")
    assert (first.run_id, first.scheduler_job_id) == ("lsf-3-1", "3[1]")
    assert first.run_id != second.run_id


def test_a_lone_rank_in_the_environment_says_nothing():
    assert read_launch({"RANK": "1"}) == Launch()


@pytest.mark.parametrize("nonsense", ["", "-1", "1.5", "many", "9" * 30, "١"])
def test_a_rank_that_is_no_number_is_no_rank(nonsense: str):
    assert read_launch(SLURM | {"SLURM_PROCID": nonsense}).rank is None


@given(st.text())
def test_every_id_is_fit_for_a_folder(text: str):
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,56}", safe_id(text))


def test_two_long_ids_stay_two_when_they_are_cut():
    assert safe_id("torchrun-" + "x" * 60 + "1") != safe_id("torchrun-" + "x" * 60 + "2")


def test_a_process_without_a_launcher_is_a_run_of_its_own():
    assert run_key({}) == f"pid-{os.getpid()}"


def _tell_key(queue) -> None:  # type: ignore[no-untyped-def] # a queue of any start method
    queue.put(run_key({}))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_of_multiprocessing_share_a_key(method: str):
    context = get_context(method)
    queue = context.SimpleQueue()
    children = [context.Process(target=_tell_key, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    keys = {queue.get() for _ in children}
    for child in children:
        child.join()
    queue.close()
    assert len(keys) == 1
    assert keys.pop().startswith("mp-")


def test_asking_for_the_key_imports_no_multiprocessing():
    code = "import sys, carbonmon.client.launcher as launcher; launcher.run_key({})"
    code += "; sys.exit('multiprocessing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
