"""`Run`, the object that `track` gives to training code.

Without a monitor all methods do nothing, after one warning. Imported by the training process: standard
library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from carbonmon.client.join_run import short_text
from carbonmon.client.part import Part
from carbonmon.client.phase import Phase

if TYPE_CHECKING:
    from carbonmon.integrations.loop import Steps

Batch = TypeVar("Batch")

SNAPSHOT_FIELDS = (
    *("run_id", "folder", "phase", "duration_s", "energy_j", "emissions_g", "power_w", "measured_ratio"),
    *("forecast", "stop", "stop_at_step"),
    *("steps", "epochs", "samples", "tokens", "flops", "total_steps", "job_ratio"),
    *("energy_per_step_j", "energy_per_epoch_j", "energy_per_sample_j", "energy_per_token_j"),
    *("run_energy_per_step_j", "run_energy_per_epoch_j", "run_energy_per_sample_j", "run_energy_per_token_j"),
    *("flops_per_joule", "mfu", "peak_flop_per_s", "precision"),
)
"""The keys of a snapshot, which are there even when nobody answered."""


class Run:
    """This process's part in a run.

    Phases are a stack of the run, not of a thread: the last one entered counts. A copy (pickle, deepcopy),
    and what a forked child inherits, is a handle: when it is used it takes part in the run by the
    environment, if that names the same run, and else does nothing.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self._part = Part(run_id)
        self._loop: Any = None

    @property
    def id(self) -> str | None:
        """The id of the run, None without a monitor."""
        return self._part.id

    @property
    def folder(self) -> str | None:
        """The folder with the run's summary, None without a monitor."""
        return self._part.folder

    @property
    def active(self) -> bool:
        """Whether there is a connection to a monitor now."""
        joined = self._part.link()
        return joined is not None and joined.connection.is_connected

    @property
    def energy_j(self) -> float:
        """Joules that the run drew on this node: the last known, NaN before the first, as the next three."""
        return self._part.figure("energy_j")

    @property
    def emissions_g(self) -> float:
        """Grams of CO2 equivalent, with PUE."""
        return self._part.figure("emissions_g")

    @property
    def power_w(self) -> float:
        """Watts of the run on this node at the last sample."""
        return self._part.figure("power_w")

    @property
    def duration_s(self) -> float:
        """Seconds since the run began."""
        return self._part.figure("duration_s")

    @property
    def summary(self) -> dict[str, Any] | None:
        """The totals at the end of this process's part, None before: figures, always floats, and `state`.

        The state is `final` if the run has ended, `running` if others go on, `unknown` without an answer:
        then the figures are the last known ones, NaN where there are none.
        """
        return self._part.summary

    @property
    def should_stop(self) -> bool:
        """Whether training is to stop with this step, as a budget is reached; False without a monitor.

        It is what the monitor told last, and asks it once a second, without waiting for the answer.
        """
        return self._part.should_stop()

    def phase(self, name: object) -> Phase:
        """A context manager: energy used inside of it counts for the phase `name`. Phases may be nested."""
        return Phase(self, short_text(name))

    def progress(
        self,
        step: float,
        total: float | None = None,
        *,
        epoch: float | None = None,
        samples: float | None = None,
        tokens: float | None = None,
        flops: float | None = None,
        precision: object = None,
        evaluation_every: float | None = None,
        evaluation_steps: float | None = None,
    ) -> None:
        """Report what the whole job has done since the begin of the training: `step` of `total`, and more.

        Counts only grow. A figure that cannot be right is left out, after one warning of its kind.
        `precision` is that of the FLOPs, such as `"bf16"` or `torch.bfloat16`. An evaluation follows each
        `evaluation_every` steps; `evaluation_steps` steps have as many samples as it has.
        """
        evaluations = evaluation_every, evaluation_steps
        counts = {"epoch": epoch, "samples": samples, "tokens": tokens, "flops": flops}
        self._part.progress(step, total, precision, evaluations, **counts)

    def steps(
        self,
        loader: Iterable[Batch],
        *,
        total: float | None = None,
        first: int = 0,
        samples: float | Callable[[Batch], float] | None = None,
        tokens: float | Callable[[Batch], float] | None = None,
        flops: float | Callable[[Batch], float] | None = None,
        precision: object = None,
        ranks: int | None = None,
        agree_every: int | None = None,
        evaluation_every: float | None = None,
        evaluation_steps: float | None = None,
    ) -> Steps[Batch]:
        """The batches of a loader, each counted as a step of `total`; `Steps.figures` is for a log.

        `first` is the step that a resumed training goes on from. `samples`, `tokens` and `flops` are what a
        batch has, or functions of it; `precision` as for `progress`. `ranks` is how many ranks have batches
        of their own, needed where there are several. `agree_every`: after so many steps all ranks ask one
        another whether a budget is spent. `evaluation_every` and `evaluation_steps` as for `progress`.
        """
        from carbonmon.integrations.loop import Steps

        amounts = {"samples": samples, "tokens": tokens, "flops": flops}
        evaluations = evaluation_every, evaluation_steps
        return Steps(self, loader, total, first, amounts, precision, ranks, agree_every, evaluations)

    def snapshot(self) -> dict[str, Any]:
        """The run's totals so far: `energy_j` (J), `emissions_g` (g CO2e, with PUE), `power_w` (W) and more.

        The figures are the node's part of the run, the same in every rank on it. Takes a sample. Without an
        answer they are the last known ones, None where there are none.
        """
        part = self._part
        part.ask()
        empty: dict[str, Any] = dict.fromkeys(SNAPSHOT_FIELDS)
        return empty | part.known | {"run_id": part.id, "folder": part.folder}

    def stop(self) -> None:
        """End this process's part in the run now, whatever block it is in; a second time does nothing."""
        from carbonmon.client import current

        current.stop(self)

    def __reduce__(self) -> tuple[Any, ...]:
        from carbonmon.client import current

        return current.restored, (self._part.id,)
