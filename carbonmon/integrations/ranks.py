"""What a rank must know of the others: how many they are, who counts for a node, and whether all stop."""

from __future__ import annotations

import os
import sys
from typing import Any

from carbonmon.client.ranks import read_ranks
from carbonmon.integrations.guard import guarded


def world_size() -> int:
    """The ranks of torch.distributed or JAX, if the program has initialised one, else of the launcher."""
    distributed = _distributed()
    if distributed is not None:
        return int(distributed.get_world_size())
    jax = sys.modules.get("jax")
    is_initialized = getattr(getattr(jax, "distributed", None), "is_initialized", None)  # since JAX 0.5
    if jax is not None and is_initialized is not None and is_initialized():
        return int(jax.process_count())
    return read_ranks(os.environ).world_size or 1


def counts_here() -> bool:
    """Whether this rank is the one that counts for its node."""
    local_rank = read_ranks(os.environ).local_rank
    distributed = _distributed()
    if local_rank is None and distributed is not None:
        return int(distributed.get_rank()) == 0
    return local_rank in (None, 0)


@guarded
def any_rank(wish: bool) -> bool:
    """Whether any rank wishes it, known by all: a collective, which all ranks must enter.

    The flag is on the GPU where the ranks speak over NCCL. Reading it waits for the other ranks.
    """
    distributed = _distributed()
    if distributed is None or distributed.get_world_size() == 1:
        return wish
    torch = sys.modules["torch"]
    on_gpu = "nccl" in str(distributed.get_backend())
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    flag = torch.tensor([int(wish)], dtype=torch.int32, device=device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag.item())


def _distributed() -> Any:
    """torch.distributed where it is initialised, else None."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed
