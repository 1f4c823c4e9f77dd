"""Lightning's Trainer or Fabric with `ddp`: DEVICES [where], which says where track() is.

`callback`: in a callback of every rank, after the ranks were started. `first`: the same on rank 0 only.
`around`: around the whole, before. `fabric`: Fabric instead of the Trainer.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import carbonmon

# The simulated GPUs have power and no CUDA, and Lightning takes them for real ones.
torch.cuda.is_available = lambda: False
torch.cuda.device_count = lambda: 0

DEVICES, WHERE = int(sys.argv[1]), sys.argv[2]
STEPS = 8


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)

    def training_step(self, batch, _):  # type: ignore[no-untyped-def]
        time.sleep(3.0 / STEPS)
        return self.layer(batch[0]).pow(2).mean()

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        return torch.optim.SGD(self.parameters(), 0.01)


class Track(lightning.Callback):
    def __init__(self) -> None:
        self.open = ExitStack()

    def on_train_start(self, trainer, model):  # type: ignore[no-untyped-def]
        if WHERE == "callback" or trainer.global_rank == 0:
            run = self.open.enter_context(carbonmon.track(name="ddp"))
            print(f"run {run.id}\n", end="", flush=True)

    def on_train_end(self, trainer, model):  # type: ignore[no-untyped-def]
        self.open.close()


def fit() -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=DEVICES,
        strategy="ddp",
        max_epochs=1,
        callbacks=[] if WHERE == "around" else [Track()],
        **quiet,
    )
    data = TensorDataset(torch.randn(2 * STEPS * DEVICES, 8))
    trainer.fit(Model(), DataLoader(data, batch_size=2))


def run_fabric() -> None:
    fabric = lightning.Fabric(accelerator="cpu", devices=DEVICES, strategy="ddp")
    fabric.launch()
    with carbonmon.track(name="ddp") as run:
        print(f"run {run.id}\n", end="", flush=True)
        for _ in range(STEPS):
            time.sleep(3.0 / STEPS)
            fabric.barrier()


if WHERE == "fabric":
    run_fabric()
elif WHERE == "around":
    with carbonmon.track(name="ddp") as run:
        print(f"run {run.id}\n", end="", flush=True)
        fit()
else:
    fit()
