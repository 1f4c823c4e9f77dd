"""A training of torch.distributed's: for torchrun and accelerate; with `spawn` it starts its ranks itself."""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist

import carbonmon


def train(rank: int, size: int) -> None:
    if "MASTER_ADDR" not in os.environ:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[2])
    dist.init_process_group("gloo", rank=rank, world_size=size)
    with carbonmon.track(name="ranks") as run:
        print(f"run {run.id}\n", end="", flush=True)
        end_s, over = time.monotonic() + 3.0, torch.zeros(1)
        while not over.item():
            over = torch.tensor([float(time.monotonic() > end_s)])
            dist.all_reduce(over)
    dist.destroy_process_group()


if __name__ == "__main__":
    if sys.argv[1:2] == ["spawn"]:
        torch.multiprocessing.spawn(train, args=(2,), nprocs=2)
    else:
        train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
