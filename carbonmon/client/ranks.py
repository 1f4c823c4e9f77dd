"""Reads from the environment which rank of how many a launcher made a process; pure.

Imported by the training process: standard library only, and little of it. The sources are in `launcher`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

NO_STEP = 0xFFFFFFF0
"""From here on a Slurm step is no srun's: 0xfffffffa is an interactive shell's, …b the batch script's, …c the
external one, …d a pending one (SLURM_INTERACTIVE_STEP, … in slurm.h of Slurm 22.05)."""


class Ranks(NamedTuple):
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    local_size: int | None = None
    nodes: int | None = None


def is_loopback(address: str) -> bool:
    """Whether an address is only of this machine."""
    return re.fullmatch(r"localhost|127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0", address) is not None


def read_ranks(environ: Mapping[str, str]) -> Ranks:
    """The ranks of the innermost launcher; an outer one with the same rank and size fills missing values."""
    launchers = (torchrun_ranks(environ), open_mpi_ranks(environ), pmi_ranks(environ))
    slurm = slurm_ranks(environ)
    first, *others = [*(ranks for ranks in launchers if ranks.rank is not None), slurm]
    if first is slurm and (slurm.rank is None or (slurm.world_size or 1) < 2):
        first = ddp_ranks(environ) or slurm
    for other in others:
        if (other.rank, other.world_size) == (first.rank, first.world_size):
            pairs = zip(first, other, strict=True)
            first = Ranks(*(inner if inner is not None else outer for inner, outer in pairs))
    return first


def torchrun_ranks(environ: Mapping[str, str]) -> Ranks:
    if "WORLD_SIZE" not in environ and "LOCAL_RANK" not in environ:
        return Ranks()  # RANK alone may be set by any program
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
    return Ranks(*(number(environ, name) for name in names))


def ddp_ranks(environ: Mapping[str, str]) -> Ranks | None:
    """The ranks of a program that starts its own, such as Lightning's `ddp`: an address, and no RANK.

    Sources: subprocess_script.py and lightning.py of lightning 2.6 (fabric, strategies/launchers and
    plugins/environments). NODE_RANK is 0 on the only node too.
    """
    if "RANK" in environ or not environ.get("MASTER_ADDR") or not environ.get("MASTER_PORT"):
        return None
    local_rank, world_size = number(environ, "LOCAL_RANK"), number(environ, "WORLD_SIZE")
    if local_rank is None and world_size is None:
        return None
    is_alone = is_loopback(environ["MASTER_ADDR"])
    is_first_node = is_alone or number(environ, "NODE_RANK") == 0
    return Ranks(
        local_rank if is_first_node else None,
        local_rank,
        world_size,
        world_size if is_alone and local_rank is not None else None,
        1 if is_alone else None,
    )


def open_mpi_ranks(environ: Mapping[str, str]) -> Ranks:
    names = ("RANK", "LOCAL_RANK", "SIZE", "LOCAL_SIZE")
    return Ranks(*(number(environ, f"OMPI_COMM_WORLD_{name}") for name in names))


def pmi_ranks(environ: Mapping[str, str]) -> Ranks:
    names = ("PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE", "MPI_LOCALNRANKS")
    return Ranks(*(number(environ, name) for name in names))


def slurm_ranks(environ: Mapping[str, str]) -> Ranks:
    nodes = number(environ, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    here = environ.get("SLURM_GTIDS", "")
    step = number(environ, "SLURM_STEP_ID", "SLURM_STEPID")
    is_script = here == "0" and (step is None or step >= NO_STEP)
    if is_script or number(environ, "SLURM_PROCID") is None:
        # A batch script, or the shell of salloc: one process, however many tasks the job asked for.
        return Ranks(nodes=nodes)
    tasks = number(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    local_size = len(here.split(",")) if here else _slurm_local_size(environ)
    if tasks is not None and local_size is not None:
        local_size = min(local_size, tasks)  # the job's figures are in a step's environment too
    return Ranks(number(environ, "SLURM_PROCID"), number(environ, "SLURM_LOCALID"), tasks, local_size, nodes)


def _slurm_local_size(environ: Mapping[str, str]) -> int | None:
    """The tasks of this node from `4(x2),3`: four on each of two nodes and three on the last."""
    text = environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE") or ""
    node = number(environ, "SLURM_NODEID") or 0
    for count, repeat in re.findall(r"(\d{1,9})(?:\(x(\d{1,9})\))?", text):
        node -= int(repeat or 1)
        if node < 0:
            return int(count)
    return number(environ, "SLURM_NTASKS_PER_NODE")


def number(environ: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        text = environ.get(name, "")
        if re.fullmatch(r"[0-9]{1,10}", text):
            return int(text)
    return None
