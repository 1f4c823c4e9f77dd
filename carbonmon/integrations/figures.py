"""The keys of a training's log and their arithmetic; pure.

A key whose value is unknown, infinite or not a number is left out: TensorBoard, MLflow and Aim refuse such
values in different ways, and one of them loses the whole line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "carbonmon_"
J_PER_KWH = 3.6e6


class Counts(NamedTuple):
    """What a training has done, cumulative, on all ranks; None is unknown. FLOPs are those of the model."""

    steps: float
    epoch: float | None = None
    samples: float | None = None
    tokens: float | None = None
    flops: float | None = None


class Totals(NamedTuple):
    """What a run has drawn on this node since it began; emissions include PUE.

    `job_ratio` is this node's part of the job's ranks, and `peak_flop_per_s` what its GPUs can do in the
    precision of the training.
    """

    energy_j: float
    measured_j: float | None = None
    emissions_g: float | None = None
    job_ratio: float | None = None
    peak_flop_per_s: float | None = None


class Spent(NamedTuple):
    """What some stretches of training have drawn, and whether the edges of one are in doubt."""

    energy_j: float = 0.0
    duration_s: float = 0.0
    is_interpolated: bool = False


def keys(figures: Mapping[str, float | None]) -> dict[str, float]:
    """The figures that are known, as floats, by the keys of a log."""
    known = {name: float(value) for name, value in figures.items() if value is not None}
    return {PREFIX + name: value for name, value in known.items() if math.isfinite(value)}


def since_begin(begin: Totals | None, now: Totals | None) -> dict[str, float | None]:
    """The totals of a training: differences, since its run may have begun long before it."""
    if begin is None or now is None or now.energy_j < begin.energy_j:
        return {}
    energy_j = now.energy_j - begin.energy_j
    measured_j = _difference(begin.measured_j, now.measured_j)
    emissions_g = _difference(begin.emissions_g, now.emissions_g)
    return {
        "energy_j": energy_j,
        "energy_kwh": energy_j / J_PER_KWH,
        "emissions_kg": None if emissions_g is None else emissions_g / 1e3,
        "measured_ratio": None if measured_j is None or not energy_j else min(1.0, measured_j / energy_j),
    }


def since_log(spent: Spent, before: Counts, now: Counts, totals: Totals | None) -> dict[str, float | None]:
    """The figures of the steps between two logs.

    A step's joules are this node's. Samples, tokens and FLOPs are counted on all nodes, and this node's part
    of them is that of its ranks.
    """
    if spent.duration_s <= 0.0:
        return {}
    share = None if totals is None else totals.job_ratio
    peak = None if totals is None else totals.peak_flop_per_s
    flops = _part(before.flops, now.flops, share)
    return {
        "power_w": spent.energy_j / spent.duration_s,
        "energy_per_step_j": _ratio(spent.energy_j, _difference(before.steps, now.steps)),
        "energy_per_sample_j": _ratio(spent.energy_j, _part(before.samples, now.samples, share)),
        "energy_per_token_j": _ratio(spent.energy_j, _part(before.tokens, now.tokens, share)),
        "flops_per_joule": _ratio(flops, spent.energy_j),
        "mfu": None if peak is None else _ratio(flops, peak * spent.duration_s),
        "is_interpolated": float(spent.is_interpolated),
    }


def _difference(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None or now < before else float(now - before)


def _part(before: float | None, now: float | None, share: float | None) -> float | None:
    whole = _difference(before, now)
    return None if whole is None or share is None else whole * share


def _ratio(amount: float | None, count: float | None) -> float | None:
    return amount / count if amount is not None and count else None
