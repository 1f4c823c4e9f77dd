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
import time
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from carbonmon.client.ranks import (
    NO_STEP,
    Ranks,
    ddp_ranks,
    is_loopback,
    number,
    open_mpi_ranks,
    pmi_ranks,
    read_ranks,
    slurm_ranks,
    torchrun_ranks,
)

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

_SHARED_IDS = ("", "none", "0")
"""What torchrun names its job if nobody does: every job has it, so it is no id."""


class Launch(NamedTuple):
    """What a launcher set; None where it did not."""

    run_id: str | None = None
    """The same for all processes of a run on all of its nodes. Later runs of a job may ask for it as well."""
    scheduler: str | None = None
    scheduler_job_id: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    local_size: int | None = None
    """How many processes of the run are on this node: so many are waited for."""
    nodes: int | None = None
    key: str | None = None
    """What the processes of the run on this node share, and no others; None where no launcher made ranks."""


def read_launch(environ: Mapping[str, str]) -> Launch:
    """What the launcher set in the environment of a process."""
    scheduler, job_id = scheduler_job(environ)
    ranks = read_ranks(environ)
    made = _innermost(environ, ranks)
    key, run_id = made.key, made.run_id
    if scheduler:
        # mpirun's ranks are in a step of Slurm on other nodes only, where Slurm has started its daemons.
        run_id = _job_id(environ, scheduler, job_id, "" if made.launcher == "mpi" else _step(environ))
        if made.launcher == "slurm" or (scheduler != "slurm" and made.launcher is None):
            key = run_id
        elif key is not None:
            key = f"{run_id} {key}"
    return Launch(run_id, scheduler or None, job_id or None, *ranks, key)


def job_run_id(environ: Mapping[str, str]) -> str | None:
    """The id of the run of a whole job, all of its steps: of a scheduler's hooks; None outside of a job."""
    scheduler, job_id = scheduler_job(environ)
    return _job_id(environ, scheduler, job_id, "") if scheduler else None


def default_id(environ: Mapping[str, str], wall_s: float) -> str | None:
    """An id with host, user and start, for a run on one node whose launcher gives every job the same one.

    None where there is no such launcher.
    """
    launch = read_launch(environ)
    if launch.run_id is not None or launch.key is None:
        return None
    kind = launch.key.partition("-")[0]
    host = os.uname().nodename.partition(".")[0]
    user = environ.get("USER") or environ.get("LOGNAME") or f"u{os.geteuid()}"
    start = time.strftime("%Y%m%d-%H%M%S", time.localtime(wall_s))
    return f"{kind}-{safe_id(host)[:16]}-{safe_id(user)[:12]}-{start}"


def run_key(environ: Mapping[str, str]) -> str:
    """A key that the processes of a run on this node share where no launcher gives the run an id.

    Children of `multiprocessing` share their parent, and so do MPI ranks whose launcher names no job; any
    other process is a run of its own. `multiprocessing` is asked only if the program has imported it.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return f"mp-{os.getppid()}"
    return mpi_key(environ, os.getppid()) or f"pid-{os.getpid()}"


def mpi_key(environ: Mapping[str, str], ppid: int) -> str | None:
    """The key of an MPI rank with this parent whose launcher names no job; None for other processes."""
    return f"mpi-{ppid}" if "PMI_RANK" in environ else None


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
    """A text as an id that is valid as a folder: 1 to 56 of [A-Za-z0-9._-]; longer ones end in a checksum.

    It begins with no dot: so do the files beside the runs' folders.
    """
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", text).rstrip("-").lstrip("-.") or "run"
    if len(clean) <= MAX_ID_LENGTH:
        return clean
    mark = f"-{zlib.crc32(text.encode('utf-8', 'replace')):08x}"
    return clean[: MAX_ID_LENGTH - len(mark)] + mark


def _job_id(environ: Mapping[str, str], scheduler: str, job_id: str, step: str) -> str:
    return safe_id(f"{scheduler}-{job_id}{step}{_restart(environ, scheduler)}")


class _Made(NamedTuple):
    """Who made the ranks, and by what they know one another; the id is None where it is not one of a kind."""

    launcher: str | None = None
    key: str | None = None
    run_id: str | None = None


def _innermost(environ: Mapping[str, str], ranks: Ranks) -> _Made:
    """The innermost launcher that made ranks.

    Variables of MPI and of torch.distributed with Slurm's numbers are Slurm's ranks by other names, set by
    its PMI or by the user's script.
    """
    slurm = slurm_ranks(environ)
    if slurm.rank is not None and (slurm.rank, slurm.world_size) == (ranks.rank, ranks.world_size):
        return _Made("slurm" if (slurm.world_size or 1) > 1 else None)
    if torchrun_ranks(environ).rank is not None:
        return _Made("torch", *_torch_ids(environ, ranks))
    if open_mpi_ranks(environ).rank is not None or pmi_ranks(environ).rank is not None:
        # Without a rank the ids prove nothing: importing mpi4py may set PMIX_NAMESPACE.
        for launcher, variable in _MPI_IDS:
            if environ.get(variable):
                named = safe_id(f"{launcher}-{environ[variable]}")
                return _Made("mpi", named, named)
        return _Made("mpi")
    if (slurm.world_size or 1) < 2 and ddp_ranks(environ) is not None:
        return _Made("torch", *_torch_ids(environ, ranks))
    return _Made()


def _torch_ids(environ: Mapping[str, str], ranks: Ranks) -> tuple[str | None, str | None]:
    elastic = environ.get("TORCHELASTIC_RUN_ID", "")
    if elastic not in _SHARED_IDS:
        named = safe_id(f"torchrun-{elastic}")
        return named, named
    address, port = environ.get("MASTER_ADDR"), environ.get("MASTER_PORT")
    if not address or not port:
        return None, None
    kind = "torchrun" if torchrun_ranks(environ).rank is not None else "ddp"
    key = safe_id(f"{kind}-{address}-{port}")
    is_alone = ranks.nodes == 1 or is_loopback(address)
    return key, None if is_alone else key


def _step(environ: Mapping[str, str]) -> str:
    """`.0` in a step of srun, "" in a batch script or a shell."""
    step = number(environ, "SLURM_STEP_ID", "SLURM_STEPID")
    if step is None or step >= NO_STEP or number(environ, "SLURM_PROCID") is None:
        return ""
    return f".{step}"


def _restart(environ: Mapping[str, str], scheduler: str) -> str:
    """`-2` for the second start of a job that was queued again: a run of its own, named alike on all nodes.

    SLURM_RESTART_COUNT is set for a job, SLURM_JOB_RESTART_COUNT for its prolog.
    """
    count = number(environ, "SLURM_RESTART_COUNT", "SLURM_JOB_RESTART_COUNT")
    return f"-{count + 1}" if scheduler == "slurm" and count else ""
