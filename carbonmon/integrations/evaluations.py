"""When a framework evaluates, as its arguments say it before the training; no framework is imported.

(after how many steps, how many steps of training have as many samples); None is unknown.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

Evaluations = tuple[float | None, float | None]


def of_transformers(args: Any, state: Any, trainer: Any, batch: float | None) -> Evaluations:
    """By `eval_strategy`; `batch` is how many samples a step has."""
    how = getattr(args.eval_strategy, "value", args.eval_strategy)
    per_epoch = state.max_steps / state.num_train_epochs if state.num_train_epochs else None
    every = {"steps": state.eval_steps, "epoch": per_epoch}.get(how)
    data: Any = None if trainer is None else trainer.eval_dataset
    examples = 0
    with suppress(AttributeError, TypeError):  # none, or one that is read as a stream
        examples = sum(map(len, data.values())) if isinstance(data, dict) else len(data)
    return every, examples / batch if examples and batch else None


def of_lightning(trainer: Any) -> Evaluations:
    """By `val_check_interval` and `check_val_every_n_epoch`, where they come evenly."""
    batches, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if not trainer.enable_validation or not 0 < batches < math.inf:
        return None, None
    if epochs is not None:  # else they are counted over the epochs
        if trainer.num_training_batches % batches or (epochs > 1 and batches < trainer.num_training_batches):
            return None, None  # they are counted in each epoch anew, or some epochs have none
        batches *= epochs
    length = sum(trainer.num_val_batches)  # none where they are read later
    steps = length / trainer.accumulate_grad_batches if 0 < length < math.inf else None
    return batches / trainer.accumulate_grad_batches, steps
