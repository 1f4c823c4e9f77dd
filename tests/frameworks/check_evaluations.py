"""That evaluations come when the arguments of the real frameworks say so: `make test-frameworks`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from carbonmon.integrations.evaluations import of_lightning, of_transformers
from tests.frameworks import record

pytestmark = pytest.mark.filterwarnings("default")  # the frameworks' own


def announced(every: float | None, total: int) -> list[int]:
    """The steps behind which an evaluation was announced."""
    return [] if every is None else [math.floor(every * n) for n in range(1, int(total // every) + 1)]


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"eval_strategy": "no"}, 1.0),
        ({"eval_strategy": "epoch"}, 1.0),
        ({"eval_strategy": "steps", "eval_steps": 3}, 1.0),
        ({"eval_strategy": "steps", "eval_steps": 0.2}, 1.0),
        ({"eval_strategy": "steps", "eval_steps": 2, "per_device_train_batch_size": 8}, 0.5),
    ],
)
def test_a_trainer_evaluates_behind_the_steps_that_its_arguments_announce(
    tmp_path: Path, settings: dict[str, Any], steps: float
):
    from transformers import Trainer, TrainerCallback

    came: list[int] = []
    told: list[tuple[float | None, float | None]] = []

    class Looking(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            told.append(of_transformers(args, state, trainer, trainer.get_total_train_batch_size(args)))

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            came.append(state.global_step)

    arguments = record.arguments(str(tmp_path), num_train_epochs=2, **settings)
    trainer = Trainer(
        record.tiny_gpt2(), arguments, train_dataset=record.texts(64), eval_dataset=record.texts(8)
    )
    trainer.add_callback(Looking())
    trainer.train()
    ((every, found),) = told
    foreseen = announced(every, trainer.state.max_steps)
    # Since 5.0 a Trainer that evaluates by steps does so once more behind the last one.
    assert came in (foreseen, [*foreseen, trainer.state.max_steps])
    assert found == pytest.approx(steps)


@pytest.mark.parametrize(
    ("settings", "is_even", "steps"),
    [
        ({}, True, 5.0),
        ({"val_check_interval": 0.5}, True, 5.0),
        ({"val_check_interval": 4}, False, None),
        ({"check_val_every_n_epoch": 2}, True, 5.0),
        ({"val_check_interval": 5, "check_val_every_n_epoch": 2}, False, None),
        ({"accumulate_grad_batches": 2}, True, 2.5),
        ({"val_check_interval": 15, "check_val_every_n_epoch": None}, True, 5.0),
        ({"limit_val_batches": 0}, True, None),
        ({"num_sanity_val_steps": 0}, True, 5.0),
    ],
)
def test_lightning_validates_behind_the_steps_that_its_arguments_announce(
    settings: dict[str, Any], is_even: bool, steps: float | None
):
    import lightning

    came: list[int] = []
    told: list[tuple[float | None, float | None]] = []

    class Network(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            return self.layer(batch).mean()

        def validation_step(self, batch: Any, _: int) -> None: ...

        def on_train_start(self) -> None:
            told.append(of_lightning(self.trainer))

        def on_validation_start(self) -> None:
            if not self.trainer.sanity_checking:
                came.append(self.trainer.global_step)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    loaders = [torch.utils.data.DataLoader(torch.ones(count, 4), batch_size=8) for count in (80, 40)]
    trainer = lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(Network(), *loaders)
    ((every, found),) = told
    assert (announced(every, trainer.global_step) == came) is is_even
    assert every is None if not is_even or not came else every is not None
    assert found == steps
