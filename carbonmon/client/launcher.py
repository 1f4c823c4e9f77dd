"""Reads from the environment which run, rank and world size the launcher gave a process; pure.

Imported by the training process: standard library only, and little of it. Launchers set environment
variables. With two launchers the inner one sets the ranks (torchrun or mpirun inside a Slurm job) and the
batch system sets the job. Sources:

    Slurm             srun(1) and sbatch(1), "OUTPUT ENVIRONMENT VARIABLES"; Prolog and Epilog Guide
    PBS, LSF, Flux    qsub(1B); LSF reference, "Environment variables set for job execution"; flux-run(1)
    torchrun          docs.pytorch.org/docs/stable/elastic/run.html, "Environment Variables"
    Open MPI          docs.open-mpi.org/en/v5.0.x/tuning-apps/environment-var.html; PMIX_NAMESPACE:
                      PMIx_Init(3); OMPI_MCA_…_jobid: orte/mca/ess/env of Open MPI 4
    MPICH, Intel MPI  PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS: src/pm/hydra of MPICH, from which
                      Intel's comes; PMI_JOBID: Cray's and Slurm's PMI; PALS_APID: HPE's mpiexec(1)
"""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Mapping
from typing import NamedTuple

_SCHEDULERS = (
    ("slurm", "SLURM_JOB_ID"),
    ("pbs", "PBS_JOBID"),
    ("lsf", "LSB_JOBID"),
    ("flux", "FLUX_JOB_ID"),
)
"""Batch systems and the variable of each with the job's id."""

_MPI_IDS = (
    ("openmpi", "PMIX_NAMESPACE"),
    ("openmpi", "OMPI_MCA_ess_base_jobid"),
    ("openmpi", "OMPI_MCA_orte_ess_jobid"),
    ("mpi", "PALS_APID"),
    ("mpi", "PMI_JOBID"),
)

MAX_ID_LENGTH = 56


class Launch(NamedTuple):
    """What a launcher set; None where it did not."""

    run_id: str | None = None
    """The same for all processes of a run on all of its nodes."""
    scheduler: str | None = None
    scheduler_job_id: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    local_size: int | None = None
    """How many processes of the run are on this node."""
    nodes: int | None = None


class _Ranks(NamedTuple):
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    local_size: int | None = None
    nodes: int | None = None


def read_launch(environ: Mapping[str, str]) -> Launch:
    """What the launcher set in the environment of a process."""
    scheduler, job_id = scheduler_job(environ)
    return Launch(_run_id(environ), scheduler or None, job_id or None, *_ranks(environ))


def run_key(environ: Mapping[str, str]) -> str:
    """A key that the processes of a run on this node share where no launcher gives the run an id.

    Children of `multiprocessing` share their parent, and so do MPI ranks whose launcher names no job; any
    other process is a run of its own. `multiprocessing` is asked only if the program has imported it.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return f"mp-{os.getppid()}"
    if "PMI_RANK" in environ:
        return f"mpi-{os.getppid()}"
    return f"pid-{os.getpid()}"


def scheduler_job(environ: Mapping[str, str]) -> tuple[str, str]:
    """(scheduler, job id) of the environment, ("", "") outside of one."""
    for scheduler, variable in _SCHEDULERS:
        job_id = environ.get(variable)
        if job_id:
            index = environ.get("LSB_JOBINDEX", "0") if scheduler == "lsf" else "0"
            # the elements of an LSF array share an id: LSF writes one of them 17[3]
            return scheduler, job_id if index in ("", "0") else f"{job_id}[{index}]"
    return "", ""


def safe_id(text: str) -> str:
    """A text as an id that is valid as a folder: 1 to 56 of [A-Za-z0-9._-]; longer ones end in a checksum."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "run"
    if len(clean) <= MAX_ID_LENGTH:
        return clean
    mark = f"-{zlib.crc32(text.encode('utf-8', 'replace')):08x}"
    return clean[: MAX_ID_LENGTH - len(mark)] + mark


def _run_id(environ: Mapping[str, str]) -> str | None:
    scheduler, job_id = scheduler_job(environ)
    if scheduler:
        return safe_id(f"{scheduler}-{job_id}{_restart(environ, scheduler)}")
    elastic = environ.get("TORCHELASTIC_RUN_ID", "")
    if elastic and elastic != "none":  # "none" is torchrun's default: it is not unique
        return safe_id(f"torchrun-{elastic}")
    address, port = environ.get("MASTER_ADDR"), environ.get("MASTER_PORT")
    if address and port and (elastic or _number(environ, "RANK") is not None):
        return safe_id(f"torchrun-{address}-{port}")
    for launcher, variable in _MPI_IDS:
        if environ.get(variable):
            return safe_id(f"{launcher}-{environ[variable]}")
    return None


def _restart(environ: Mapping[str, str], scheduler: str) -> str:
    """`-2` for the second start of a job that was queued again: a run of its own, named alike on all nodes.

    SLURM_RESTART_COUNT is set for a job, SLURM_JOB_RESTART_COUNT for its prolog.
    """
    count = _number(environ, "SLURM_RESTART_COUNT", "SLURM_JOB_RESTART_COUNT")
    return f"-{count + 1}" if scheduler == "slurm" and count else ""


def _ranks(environ: Mapping[str, str]) -> _Ranks:
    """The ranks of the innermost launcher; an outer one with the same rank and size fills missing values."""
    launchers = (_torchrun(environ), _open_mpi(environ), _pmi(environ))
    first, *others = [*(ranks for ranks in launchers if ranks.rank is not None), _slurm(environ)]
    for other in others:
        if (other.rank, other.world_size) == (first.rank, first.world_size):
            pairs = zip(first, other, strict=True)
            first = _Ranks(*(inner if inner is not None else outer for inner, outer in pairs))
    return first


def _torchrun(environ: Mapping[str, str]) -> _Ranks:
    if "WORLD_SIZE" not in environ and "LOCAL_RANK" not in environ:
        return _Ranks()  # RANK alone may be set by any program
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
    return _Ranks(*(_number(environ, name) for name in names))


def _open_mpi(environ: Mapping[str, str]) -> _Ranks:
    names = ("RANK", "LOCAL_RANK", "SIZE", "LOCAL_SIZE")
    return _Ranks(*(_number(environ, f"OMPI_COMM_WORLD_{name}") for name in names))


def _pmi(environ: Mapping[str, str]) -> _Ranks:
    names = ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", "MPI_LOCALNRANKS")
    return _Ranks(*(_number(environ, name) for name in names))


def _slurm(environ: Mapping[str, str]) -> _Ranks:
    nodes = _number(environ, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    here = environ.get("SLURM_GTIDS", "")
    if here == "0" and "SLURM_STEP_ID" not in environ:
        return _Ranks(nodes=nodes)  # the batch script: one process, however many tasks the job asked for
    return _Ranks(
        _number(environ, "SLURM_PROCID"),
        _number(environ, "SLURM_LOCALID"),
        _number(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        len(here.split(",")) if here else _slurm_local_size(environ),
        nodes,
    )


def _slurm_local_size(environ: Mapping[str, str]) -> int | None:
    """The tasks of this node from `4(x2),3`: four on each of two nodes and three on the last."""
    text = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE") or ""
    node = _number(environ, "SLURM_NODEID") or 0
    for count, repeat in re.findall(r"(\d{1,9})(?:\(x(\d{1,9})\))?", text):
        node -= int(repeat or 1)
        if node < 0:
            return int(count)
    return _number(environ, "SLURM_NTASKS_PER_NODE")


def _number(environ: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        text = environ.get(name, "")
        if re.fullmatch(r"[0-9]{1,9}", text):
            return int(text)
    return None
