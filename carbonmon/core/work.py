"""What training code says that it has done, in steps, epochs, samples, tokens, FLOPs, and what that took.

Counts are those of the whole job, and they only grow. After a restart a job goes back to its last checkpoint
and does steps again: a count stands still until it passes the highest that was told. So what is done twice is
counted once, and the energy of both times is in the figures, because the result needed both. For the same
reason a second process that tells the same steps adds nothing.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Literal

from carbonmon.core.records import NamedTuple

Count = Literal["steps", "epochs", "samples", "tokens", "flops"]
COUNTS: tuple[Count, ...] = ("steps", "epochs", "samples", "tokens", "flops")

ENDLESS = 2**63 - 1
"""From here on a number of steps stands for "no end": frameworks give the largest 64-bit number where a data
set has no length (transformers 5, `num_train_epochs` of an iterable data set with `max_steps`)."""


def known_total(steps: float | None) -> float | None:
    """Steps in all, None where that is unknown: frameworks say so with −1, infinity or `ENDLESS`."""
    return steps if steps is not None and 0 < steps < ENDLESS else None


_PRECISIONS = (
    ("bf16", r"bf(loat)?16"),
    ("fp8", r"(fp|float)8|\be[45]m[23]"),
    ("tf32", r"tf32|tensorfloat"),
    ("fp16", r"(fp|float)16|half|^16\b"),
    ("fp32", r"(fp|float)32|^32\b|^float$"),
)
"""The precisions of the table of peaks, and what frameworks call them: `torch.bfloat16`, `bf16-mixed`."""


PRECISIONS = frozenset(name for name, _ in _PRECISIONS)


def precision_of(text: str) -> str:
    """A precision as the table of peaks names it; any other text stays as it is."""
    plain = text.casefold().strip()
    return next((name for name, pattern in _PRECISIONS if re.search(pattern, plain)), plain)


class GpuPeak(NamedTuple):
    """The most FLOP/s that a GPU reaches in one precision."""

    device_id: str
    flop_per_s: float


Peaks = tuple[GpuPeak, ...]


class Told(NamedTuple):
    """One report of training code; None is a count that it does not hold.

    `job_ratio` is the part of the job's processes that is on this node, as far as its launcher says. An
    evaluation follows each `evaluation_every` steps; `evaluation_steps` of training have as many samples.
    """

    steps: float | None = None
    total_steps: float | None = None
    epochs: float | None = None
    samples: float | None = None
    tokens: float | None = None
    flops: float | None = None
    precision: str | None = None
    job_ratio: float = 1.0
    evaluation_every: float | None = None
    evaluation_steps: float | None = None


class Span(NamedTuple):
    """One count from its first report to the last that was higher, and the run's energy meanwhile.

    `first_s` and `last_s` are seconds since the run's start, `first_j` and `last_j` the joules that the run
    had drawn on this node by then.
    """

    what: Count
    first: float
    last: float
    first_s: float
    last_s: float
    first_j: float
    last_j: float

    @property
    def done(self) -> float:
        return self.last - self.first

    @property
    def energy_j(self) -> float:
        return self.last_j - self.first_j

    @property
    def duration_s(self) -> float:
        return self.last_s - self.first_s


class EpochEnd(NamedTuple):
    """When so many epochs were done: seconds since the run's start, and the joules that it had drawn."""

    epochs: float
    at_s: float
    energy_j: float


class Work(NamedTuple):
    """What a run has done so far: the highest counts that were told, None where nobody told.

    `total_steps` is None where it is unknown. `precision` is that of the FLOPs ("" where nobody said), and
    `peaks` those of the node's GPUs in it, as far as they are known. `job_ratio` is the part of the job that
    is on this node: counts are those of the whole job, energy is the node's. `spans` are for figures a unit,
    `epoch_ends` divide the span of the epochs; of very many every second, fourth, … is kept.
    """

    steps: float | None = None
    total_steps: float | None = None
    epochs: float | None = None
    samples: float | None = None
    tokens: float | None = None
    flops: float | None = None
    precision: str = ""
    peaks: Peaks = ()
    job_ratio: float = 1.0
    spans: tuple[Span, ...] = ()
    epoch_ends: tuple[EpochEnd, ...] = ()

    @property
    def ratio(self) -> float | None:
        """The done part of the steps, 0 to 1; None where it is unknown."""
        total = known_total(self.total_steps)
        if self.steps is None or total is None or not math.isfinite(self.steps):
            return None
        return min(1.0, max(0.0, self.steps / total))


def each_epoch(work: Work) -> list[Span]:
    """The epochs one after the other, the last as far as it came; together they are the span of `epochs`."""
    whole = next((span for span in work.spans if span.what == "epochs"), None)
    if whole is None:
        return []
    cuts = [EpochEnd(whole.first, whole.first_s, whole.first_j)]
    cuts += [end for end in work.epoch_ends if whole.first < end.epochs < whole.last]
    cuts.append(EpochEnd(whole.last, whole.last_s, whole.last_j))
    return [
        Span("epochs", begin.epochs, end.epochs, begin.at_s, end.at_s, begin.energy_j, end.energy_j)
        for begin, end in pairwise(cuts)
        if end.epochs > begin.epochs
    ]
