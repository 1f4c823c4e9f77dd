"""`work` of the summary: what the training code says that it has done, and what that took."""

from __future__ import annotations

from typing import Any

from carbonmon.core.efficiency import figures
from carbonmon.core.model import RunState
from carbonmon.core.work import COUNTS, Work


def work_summary(run: RunState) -> dict[str, Any] | None:
    """None where nothing was told."""
    work = run.work
    if work is None:
        return None
    spans: dict[str, dict[str, float]] = {
        span.what: {
            "first": span.first,
            "last": span.last,
            "duration_s": span.duration_s,
            "energy_j": span.energy_j,
        }
        for span in work.spans
    }
    peak = _peak(run, work)
    flops = spans.get("flops")
    most_flops = None if peak is None or flops is None else peak * flops["duration_s"]
    return {
        **{count: getattr(work, count) for count in COUNTS},
        "total_steps": work.total_steps,
        "job_ratio": work.job_ratio,
        **figures(spans, sum(row.energy_j for row in run.totals), work.job_ratio, most_flops),
        "precision": work.precision or None,
        "peak_flop_per_s": peak,
        "spans": spans,
    }


def _peak(run: RunState, work: Work) -> float | None:
    """The peaks of all the run's GPUs together, in FLOP/s; None where one is unknown, or there is no GPU."""
    gpus = {row.device_id for row in run.totals if row.component == "gpu"}
    known = {peak.device_id: peak.flop_per_s for peak in work.peaks}
    return sum(known[gpu] for gpu in gpus) if gpus and gpus <= known.keys() else None
