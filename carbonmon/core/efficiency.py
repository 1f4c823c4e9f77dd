"""Energy and FLOPs by what a training has done; pure.

Energy a step, sample, token and epoch, and FLOPs a joule: what Schwartz et al. ask papers to report ("Green
AI", Communications of the ACM 63(12), 2020), with energy where they had to use FLOPs.

MFU, the model FLOPs utilisation, is the FLOPs that the model needs, divided by those that the hardware could
have done in the time at its peak (Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, section 4.1). What is
computed twice is not among the FLOPs that a model needs. Above 1 too many FLOPs were told, or of another
precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNITS: Mapping[str, str] = {"steps": "step", "epochs": "epoch", "samples": "sample", "tokens": "token"}
"""What energy is divided by, and the word for one of each."""

WHOLE = 1.0 - 1e-9


def figures(
    spans: Mapping[str, Mapping[str, Any]], run_j: float | None, job_ratio: float, most_flops: float | None
) -> dict[str, float | None]:
    """The figures of a run, by their names in its summary; None where one is unknown.

    `spans` are `first`, `last` and `energy_j` by count; `run_j` is all the run's energy, with its start and
    its end. `job_ratio` is the part of the job whose energy this is: FLOPs are the whole job's. `most_flops`
    are those that its GPUs could have done at their peak in the span of `flops`.
    """
    found: dict[str, float | None] = {}
    for count, unit in UNITS.items():
        span = spans.get(count, {})
        found[f"energy_per_{unit}_j"] = quotient(span.get("energy_j"), done(span))
        found[f"run_energy_per_{unit}_j"] = quotient(run_j, done(span))
    span = spans.get("flops", {}) if job_ratio >= WHOLE else {}
    found["flops_per_joule"] = quotient(done(span), span.get("energy_j"))
    found["mfu"] = quotient(done(span), most_flops)
    return found


def done(span: Mapping[str, Any]) -> float | None:
    """What was done in a span, None of an unknown one."""
    return float(span["last"] - span["first"]) if span else None


def quotient(amount: float | None, by: float | None) -> float | None:
    """A figure; None where a part of it is unknown or nothing: no energy is energy that nobody saw."""
    return amount / by if amount and by and amount > 0.0 and by > 0.0 else None
