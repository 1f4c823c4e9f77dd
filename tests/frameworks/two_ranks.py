"""Two ranks of a training of which only the first one is asked to stop: `torchrun --nproc-per-node 2 … KIND`.

Prints each rank's last step.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import torch

import carbonmon

STOPS_AFTER = 7
"""Times that the first rank looks at its budget before it is spent."""


class Budget:
    """A budget that the first rank alone knows of."""

    def __init__(self) -> None:
        self.looks = 0

    def is_spent(self, _: object) -> bool:
        self.looks += 1
        return os.environ["RANK"] == "0" and self.looks > STOPS_AFTER


def with_trainer() -> int:
    from transformers import Trainer, TrainingArguments

    from carbonmon.integrations.transformers import attach
    from tests.frameworks.record import texts, tiny_gpt2

    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {
            "max_steps": 60,
            "logging_steps": 4,
            "report_to": [],
            "save_strategy": "no",
        }
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=2, disable_tqdm=True, use_cpu=True, **settings
        )
        trainer = Trainer(tiny_gpt2(), arguments, train_dataset=texts(200))
        attach(trainer, agree=True)
        trainer.train()
        return int(trainer.state.global_step)


def with_lightning() -> int:
    import lightning

    from carbonmon.integrations.lightning import CarbonmonCallback
    from tests.frameworks.record import network

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(400, 2)), batch_size=2)
    trainer = lightning.Trainer(
        max_epochs=2,
        log_every_n_steps=4,
        callbacks=[CarbonmonCallback(samples=2, agree=True)],
        accelerator="cpu",
        strategy="ddp",
        devices=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network(), loader)
    return int(trainer.global_step)


def with_loop() -> int:
    torch.distributed.init_process_group("gloo")
    try:
        with carbonmon.track() as run:
            steps = run.steps(range(100), samples=2, ranks=2, agree_every=4)
            for _ in steps:
                torch.distributed.all_reduce(torch.ones(1))
            return steps.count
    finally:
        torch.distributed.destroy_process_group()


def main() -> None:
    budget = Budget()
    carbonmon.Run.should_stop = property(budget.is_spent)  # type: ignore[assignment, method-assign, unused-ignore]
    with carbonmon.track():
        last = {"trainer": with_trainer, "lightning": with_lightning, "loop": with_loop}[sys.argv[1]]()
    sys.stdout.write(f"rank {os.environ['RANK']} ended after step {last}\n")


if __name__ == "__main__":
    main()
