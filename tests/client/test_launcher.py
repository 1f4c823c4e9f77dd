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

from carbonmon.client.launcher import Launch, default_id, read_launch, run_key, safe_id
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
ONE_NODE = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "1"}
DDP = {
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "41233",
    "NODE_RANK": "0",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
}
SALLOC = {
    "SLURM_JOB_ID": "4242",
    "SLURM_NTASKS": "8",
    "SLURM_NPROCS": "8",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_NNODES": "2",
}
BATCH = SALLOC | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_GTIDS": "0", "SLURM_NODEID": "0"}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}


@for_each_row(
    ("environ", "launch"),
    [
        ({}, Launch()),
        (SLURM, Launch("slurm-4242.0", "slurm", "4242", 5, 1, 8, 4, 2, "slurm-4242.0")),
        (TORCHRUN, Launch("torchrun-node01-29500", None, None, 3, 3, 16, 8, 2, "torchrun-node01-29500")),
        (
            TORCHRUN | {"TORCHELASTIC_RUN_ID": "my job"},
            Launch("torchrun-my-job", None, None, 3, 3, 16, 8, 2, "torchrun-my-job"),
        ),
        (TORCHRUN | ONE_NODE, Launch(None, None, None, 3, 3, 8, 8, 1, "torchrun-127.0.0.1-29500")),
        (DDP, Launch(None, None, None, 1, 1, 2, 2, 1, "ddp-127.0.0.1-41233")),
        (
            DDP | {"MASTER_ADDR": "n1"},
            Launch("ddp-n1-41233", None, None, 1, 1, 2, None, None, "ddp-n1-41233"),
        ),
        (
            DDP | {"MASTER_ADDR": "n1", "NODE_RANK": "1"},
            Launch("ddp-n1-41233", None, None, None, 1, 2, None, None, "ddp-n1-41233"),
        ),
        ({**DDP, "LOCAL_RANK": ""}, Launch(None, None, None, None, None, 2, None, 1, "ddp-127.0.0.1-41233")),
        (
            OPEN_MPI,
            Launch(
                "openmpi-prterun-node01-77-1", None, None, 2, 0, 4, 2, None, "openmpi-prterun-node01-77-1"
            ),
        ),
        ({"PMIX_NAMESPACE": "prterun-node01-77@1"}, Launch()),
        (HYDRA, Launch(None, None, None, 1, 1, 4, 2)),
        (HYDRA | {"PMI_JOBID": "9"}, Launch("mpi-9", None, None, 1, 1, 4, 2, None, "mpi-9")),
        ({"PBS_JOBID": "17[3].head"}, Launch("pbs-17-3-.head", "pbs", "17[3].head", key="pbs-17-3-.head")),
        ({"LSB_JOBID": "3", "LSB_JOBINDEX": "0"}, Launch("lsf-3", "lsf", "3", key="lsf-3")),
        ({"FLUX_JOB_ID": "ƒ4Xk"}, Launch("flux--4Xk", "flux", "ƒ4Xk", key="flux--4Xk")),
    ],
)
def test_each_launcher_tells_the_run_and_the_ranks_in_its_own_words(environ: dict[str, str], launch: Launch):
    assert read_launch(environ) == launch


def test_torchrun_inside_slurm_knows_the_ranks_and_slurm_the_job():
    launch = read_launch(SLURM | TORCHRUN | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"})
    key = "slurm-4242.0 torchrun-node01-29500"
    assert launch == Launch("slurm-4242.0", "slurm", "4242", 3, 3, 16, 8, 2, key)


@for_each_row(
    ("environ", "run_id", "key", "local_size"),
    [
        (SALLOC, "slurm-4242", None, None),
        (BATCH, "slurm-4242", None, None),
        (BATCH | {"SLURM_STEP_ID": "4294967291"}, "slurm-4242", None, None),
        (BATCH | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}, "slurm-4242", None, None),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, "slurm-4242.0", None, 1),
        (SLURM | {"SLURM_STEP_ID": "3"}, "slurm-4242.3", "slurm-4242.3", 4),
        (BATCH | DDP, "slurm-4242", "slurm-4242 ddp-127.0.0.1-41233", 2),
        (BATCH | TORCHRUN | ONE_NODE, "slurm-4242", "slurm-4242 torchrun-127.0.0.1-29500", 8),
        (SLURM | DDP, "slurm-4242.0", "slurm-4242.0", 4),  # Lightning takes Slurm's ranks
        (
            SLURM | {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "n1", "MASTER_PORT": "1"},
            *["slurm-4242.0"] * 2,
            4,
        ),
    ],
)
def test_slurm_promises_ranks_in_a_step_only_and_each_step_is_a_run(
    environ: dict[str, str], run_id: str, key: str | None, local_size: int | None
):
    launch = read_launch(environ)
    assert (launch.run_id, launch.key, launch.local_size) == (run_id, key, local_size)
    assert launch.scheduler_job_id == "4242", "one job"


def test_mpirun_s_ranks_are_in_a_step_on_some_nodes_only_so_it_names_none():
    here, there = (read_launch(slurm | OPEN_MPI | {"SLURM_NTASKS": "2"}) for slurm in (BATCH, SLURM))
    assert here.run_id == there.run_id == "slurm-4242"
    assert here.key == there.key


def test_an_id_that_every_job_of_a_launcher_has_becomes_one_with_host_user_and_start():
    fixed_port = TORCHRUN | ONE_NODE | {"USER": "ada"}
    host = os.uname().nodename.partition(".")[0][:16]
    assert default_id(fixed_port, 1_795_000_000.0).startswith(f"torchrun-{host}-ada-2026")
    assert default_id(fixed_port, 1_795_000_000.0) != default_id(fixed_port, 1_795_000_001.0)
    assert default_id(DDP | {"USER": "ada"}, 0.0).startswith("ddp-")
    assert default_id(TORCHRUN, 0.0) is None, "several nodes need the same id"
    assert default_id({}, 0.0) is default_id(BATCH | DDP, 0.0) is None


def test_mpirun_inside_slurm_has_its_own_ranks_because_slurm_only_knows_the_daemons():
    launch = read_launch(SLURM | OPEN_MPI | {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"})
    assert launch[3:8] == (2, 0, 4, 2, None)


def test_slurm_fills_in_what_its_pmi_leaves_open():
    launch = read_launch(SLURM | {"PMI_RANK": "5", "PMI_SIZE": "8"})
    assert launch[3:8] == (5, 1, 8, 4, 2)


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
        ({"SLURM_RESTART_COUNT": "1"}, "slurm-4242.0-2"),
        ({"SLURM_JOB_RESTART_COUNT": "1"}, "slurm-4242.0-2"),
        ({"SLURM_JOB_RESTART_COUNT": "0"}, "slurm-4242.0"),
        ({"SLURM_RESTART_COUNT": "often"}, "slurm-4242.0"),
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
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{,55}", safe_id(text)), "no hidden file"


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
