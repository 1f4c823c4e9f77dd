"""The energy of a training in Lightning's log: `Trainer(callbacks=[CarbonmonCallback()])`.

For lightning 2.4 to 2.6. The figures go to `trainer.loggers` as floats. `pl_module.log` would make float32 of
them, too coarse for the totals of a long run, and repeat the last ones at each log that has no new ones.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch.callbacks import Callback

from carbonmon.integrations.amounts import Amount, Amounts
from carbonmon.integrations.evaluations import of_lightning
from carbonmon.integrations.figures import Counts
from carbonmon.integrations.guard import guarded
from carbonmon.integrations.session import Session


class CarbonmonCallback(Callback):  # type: ignore[misc]
    """Counts steps and logs at each `log_every_n_steps`, and at the end.

    `samples`, `tokens` and `flops` are what each batch has, or functions of it. `agree`: the ranks ask one
    another at each logging step whether a budget is spent.
    """

    def __init__(
        self,
        *,
        samples: Amount | None = None,
        tokens: Amount | None = None,
        flops: Amount | None = None,
        agree: bool = False,
    ) -> None:
        self._given = {"samples": samples, "tokens": tokens, "flops": flops}
        self._agree = agree
        self._session = Session()
        self._amounts = Amounts({}, 1)
        self._steps = self._global_step = 0
        self._is_saving = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin(trainer)
        self._stop(trainer)  # a training that goes on behind its budget

    @guarded
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._is_saving:
            self._is_saving = False
            self._cut(on_host=True)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        has_stepped, self._global_step = trainer.global_step != self._global_step, trainer.global_step
        self._steps += has_stepped
        every = trainer.log_every_n_steps
        is_logging = bool(has_stepped and every and self._steps % every == 0)
        self._count(trainer, pl_module, batch, is_logging)
        if is_logging or not self._agree:
            self._stop(trainer)

    @guarded
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._cut(on_host=_is_on_host(pl_module))

    @guarded
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._cut(on_host=True)

    @guarded
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        """A checkpoint begins; it has ended where the next batch starts."""
        self._is_saving = True
        self._cut(on_host=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._end(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._end(trainer)

    @guarded
    def _begin(self, trainer: Any) -> None:
        # Lightning logs by the batches after which an optimizer stepped, which with two optimizers is less
        # than `global_step`.
        loop = trainer.fit_loop.epoch_loop
        self._global_step = trainer.global_step
        self._steps = getattr(loop, "_batches_that_stepped", self._global_step)
        self._is_saving = False
        self._session.enter()
        ranks = (trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1)
        self._amounts = Amounts(self._given, ranks)
        if trainer.local_rank == 0:
            length = trainer.estimated_stepping_batches
            self._session.measure(self._counts(), length, trainer.precision)
            self._session.announce(partial(of_lightning, trainer))

    @guarded
    def _count(self, trainer: Any, pl_module: Any, batch: Any, is_logging: bool) -> None:
        meter = self._session.meter
        if meter is None:
            return
        self._amounts.add(batch)
        meter.count(self._counts())
        if is_logging and trainer.is_global_zero:
            _log(
                trainer, meter.figures(on_host=_is_on_host(pl_module)), self._steps - 1
            )  # Lightning's own step

    def _counts(self) -> Counts:
        amounts = (self._amounts[name] for name in ("samples", "tokens", "flops"))
        return Counts(self._steps, None, *amounts)

    def _cut(self, on_host: bool) -> None:
        if self._session.meter is not None:  # there is none in the sanity check before a training
            self._session.meter.cut(on_host)

    @guarded
    def _end(self, trainer: Any) -> None:
        meter = self._session.meter
        try:
            if meter is not None and trainer.is_global_zero:
                _log(trainer, meter.figures(always=True), self._steps)
        finally:
            self._session.leave()

    @guarded
    def _stop(self, trainer: Any) -> None:
        agree = partial(trainer.strategy.reduce_boolean_decision, all=False) if self._agree else None
        if self._session.is_to_stop(agree, trainer.world_size):
            trainer.should_stop = True


def _log(trainer: Any, figures: dict[str, float], step: int) -> None:
    for logger in trainer.loggers if figures else ():
        logger.log_metrics(figures, step=step)


def _is_on_host(pl_module: Any) -> bool:
    """Whether a step's work is done when its hook comes; a GPU may be some steps behind."""
    return str(pl_module.device.type) == "cpu"
