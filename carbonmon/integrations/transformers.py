"""The energy of a training in the log of transformers' `Trainer`: `attach(trainer)`, for 4.57 and 5."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any
from weakref import ref

from transformers import DefaultFlowCallback, TrainerCallback

from carbonmon.integrations.evaluations import of_transformers
from carbonmon.integrations.figures import Counts
from carbonmon.integrations.guard import guarded
from carbonmon.integrations.nominal_flops import flops_per_token
from carbonmon.integrations.ranks import any_rank
from carbonmon.integrations.session import Session

TRAINING_LOGS = {"loss", "train_loss"}
"""Keys that only the logs of a training have: of its steps, and the last one."""


def attach(trainer: Any, *, agree: bool = False, save_on_stop: bool = False) -> CarbonmonCallback:
    """Add the callback where its figures reach every tracker: before those that report.

    A callback cannot move itself, and `callbacks=[…]` puts it behind them. `agree`: at each logging step the
    ranks ask one another whether to stop for a budget: all must have called this. `save_on_stop`: it saves.
    """
    callback = CarbonmonCallback(trainer, agree, save_on_stop)
    trainer.add_callback(callback)
    callbacks = trainer.callback_handler.callbacks
    callbacks.remove(callback)
    is_flow = bool(callbacks) and isinstance(callbacks[0], DefaultFlowCallback)
    callbacks.insert(int(is_flow), callback)  # behind the one that decides whether a step logs and evaluates
    return callback


class CarbonmonCallback(TrainerCallback):  # type: ignore[misc]
    """Counts steps, and adds the figures to the logs of training; nothing of it is in a checkpoint."""

    def __init__(self, trainer: Any = None, agree: bool = False, save_on_stop: bool = False) -> None:
        self._trainer = None if trainer is None else ref(trainer)
        self._agree = agree
        self._save_on_stop = save_on_stop
        self._session = Session()
        self._flops: float | None = None
        self._count_flops(getattr(trainer, "model", None))  # before ranks divide the parameters
        self._has_tokens = False
        self._batch: int | None = None
        self._examples: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, as a search in other processes makes it, knows no trainer."""
        return CarbonmonCallback, (None, self._agree, self._save_on_stop)

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        self._begin(args, state, objects.get("model"), objects.get("train_dataloader"))
        self._stop(args, state, control)  # one that goes on behind its budget, after one more step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._count(args, state, control)
        self._stop(args, state, control)

    @guarded
    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._cut_before_a_break(args, control)

    @guarded
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Not into the log of an evaluation: a search adds up all of its keys as the objective."""
        meter = self._session.meter
        if meter is None or not logs or TRAINING_LOGS.isdisjoint(logs):
            return
        if state.is_world_process_zero:
            logs.update(meter.figures(always="train_loss" in logs))
        if meter.has_steps and (control.should_evaluate or control.should_save):
            meter.cut()

    @guarded
    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The first sign of an evaluation that nothing announced."""
        if self._session.meter is not None and self._session.meter.has_steps:
            self._session.meter.cut(on_host=False)

    @guarded
    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._session.meter is not None:
            self._session.meter.cut()

    on_save = on_evaluate

    @guarded
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._session.leave()

    @guarded
    def _count_flops(self, model: Any) -> None:
        self._flops = flops_per_token(model)

    @guarded
    def _begin(self, args: Any, state: Any, model: Any, loader: Any) -> None:
        self._session.enter()
        trainer = None if self._trainer is None else self._trainer()
        if trainer is None or trainer.model_init is not None:  # a search may try models of several sizes
            self._count_flops(model)
        self._batch = None if trainer is None else trainer.get_total_train_batch_size(args)
        with suppress(AttributeError, TypeError):  # one that is read as a stream has no length
            self._examples = len(loader.dataset)
        # Of images the framework counts the pixels' values, before a decoder the encoder's tokens alone.
        is_text = getattr(model, "main_input_name", None) == "input_ids"
        has_encoder = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        is_on = args.include_num_input_tokens_seen not in (False, "no")
        self._has_tokens = is_on and is_text and not has_encoder
        if state.is_local_process_zero:
            named = [name for name in ("bf16", "fp16", "tf32") if getattr(args, name, None)]
            precision = named[0] if named else getattr(model, "dtype", None)
            self._session.measure(self._counts(state), state.max_steps, precision)
            self._session.announce(partial(of_transformers, args, state, trainer, self._batch))

    @guarded
    def _count(self, args: Any, state: Any, control: Any) -> None:
        if self._session.meter is not None:
            self._session.meter.count(self._counts(state))
            self._cut_before_a_break(args, control)

    def _counts(self, state: Any) -> Counts:
        """What the state tells; the last batch of an epoch may be smaller than the others."""
        tokens = state.num_input_tokens_seen if self._has_tokens else None
        samples = None if self._batch is None else state.global_step * self._batch
        if samples and self._examples is not None:
            samples = min(samples, state.epoch * self._examples)
        flops = None if tokens is None or self._flops is None else tokens * self._flops
        return Counts(state.global_step, state.epoch, samples, tokens, flops)

    def _cut_before_a_break(self, args: Any, control: Any) -> None:
        """An evaluation or a checkpoint follows; where a log comes before it, the stretch ends there."""
        meter = self._session.meter
        is_break = control.should_evaluate or control.should_save
        if meter is not None and meter.has_steps and is_break and not control.should_log:
            meter.cut(on_host=args.logging_nan_inf_filter)  # which reads each loss

    @guarded
    def _stop(self, args: Any, state: Any, control: Any) -> None:
        """Only ever wishes for an end: to deny it would undo what others wish for."""
        if self._agree and state.global_step % max(1, state.logging_steps):
            return
        if self._session.is_to_stop(any_rank if self._agree else None, args.world_size):
            control.should_training_stop = True
            control.should_save = control.should_save or self._save_on_stop
