"""Steps of a training loop that is written by hand: plain PyTorch, accelerate, JAX. `Run.steps` loads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from carbonmon.client.run import Run
from carbonmon.integrations.amounts import Amount, Amounts
from carbonmon.integrations.figures import Counts
from carbonmon.integrations.guard import guarded
from carbonmon.integrations.ranks import any_rank, counts_here, world_size
from carbonmon.integrations.session import Session

Batch = TypeVar("Batch")


class Steps(Generic[Batch]):
    """The batches of a loader: a step ends when its figures are asked for, else when the next batch is.

    Several of them in one run, one for each epoch, go on counting.
    """

    def __init__(
        self,
        run: Run,
        loader: Iterable[Batch],
        total: float | None,
        first: int,
        amounts: Mapping[str, Amount | None],
        precision: object,
        ranks: int | None,
        agree_every: int | None,
        evaluations: tuple[float | None, float | None],
    ) -> None:
        self._loader = loader
        self._total = total
        self._given = amounts
        self._ranks = ranks
        self._agree_every = agree_every
        self._evaluations = evaluations
        if run._loop is None:
            run._loop = Loop(run, first, precision)
        self._loop: Loop = run._loop

    @property
    def count(self) -> int:
        """The number of the present step, from 1 on; of a resumed training from `first` + 1 on."""
        return self._loop.count

    def __len__(self) -> int:
        return len(self._loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        loop = self._loop
        loop.begin(self._total, self._given, self._ranks)
        loop.session.announce(lambda: self._evaluations)
        try:
            for batch in self._loader:
                loop.start(batch)
                yield batch
                loop.end()
                if self._is_to_stop():
                    break
        finally:
            loop.pause()

    def figures(self, *, last: bool = False) -> dict[str, float]:
        """What a log gets, by key: ask where the loss has just been read, and add it to that log.

        It waits for the monitor, at most 0.5 % of the time: asked more often, and on ranks that do not count
        for their node, it gives nothing. `last`: the figures all the same.
        """
        return self._loop.figures(last) or {}

    @guarded
    def _is_to_stop(self) -> bool:
        """Alone a process stops when it is asked to; several ranks stop at a step where they agree."""
        if self._agree_every and self.count % self._agree_every:
            return False
        return self._loop.session.is_to_stop(any_rank if self._agree_every else None)


class Loop:
    """What the loop of a run has done until now."""

    def __init__(self, run: Run, first: int, precision: object) -> None:
        self.count = first
        self.session = Session(run)
        self._precision = precision
        self._amounts = Amounts({}, 1)
        self._batch: tuple[object, ...] = ()

    @guarded
    def begin(self, total: float | None, given: Mapping[str, Amount | None], ranks: int | None) -> None:
        if self.session.meter is not None:
            self.session.meter.cut()  # what was between two epochs is none of the training
            self._amounts.renew(given)
        elif counts_here():
            self._amounts = Amounts(given, ranks or (1 if world_size() == 1 else None))
            self.session.measure(self._counts(), total, self._precision)

    def start(self, batch: object) -> None:
        self.count += 1
        self._batch = (batch,)

    @guarded
    def end(self) -> None:
        """The present step ends, if it has not yet."""
        open_batch, self._batch = self._batch, ()
        if open_batch and self.session.meter is not None:
            self._amounts.add(*open_batch)
            self.session.meter.count(self._counts())

    @guarded
    def pause(self) -> None:
        """The loader is exhausted, or left; what its last steps computed may still be under way."""
        self.end()
        meter = self.session.meter
        if meter is not None and meter.has_steps:
            meter.cut(on_host=False)

    @guarded
    def figures(self, last: bool) -> dict[str, float]:
        self.end()
        return {} if self.session.meter is None else self.session.meter.figures(always=last)

    def _counts(self) -> Counts:
        return Counts(self.count, None, *(self._amounts[name] for name in ("samples", "tokens", "flops")))
