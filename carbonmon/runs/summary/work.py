"""`work` and `gpu_time` of the summary: what the run has done, what that took, how its GPUs were used."""

from __future__ import annotations

from typing import Any

from carbonmon.core.efficiency import figures
from carbonmon.core.gpu_time import IDLE_BELOW_RATIO, GpuTime
from carbonmon.core.model import RunState
from carbonmon.core.work import COUNTS, Count, Span, Work, each_epoch


def work_summary(run: RunState) -> dict[str, Any] | None:
    """None where nothing was told."""
    work = run.work
    if work is None:
        return None
    spans = {str(span.what): _span(span) for span in work.spans}
    peak = _peak(run, work)
    flops = spans.get("flops")
    flops_s = None if flops is None else flops["duration_s"]
    most_flops = None if peak is None or flops_s is None else peak * flops_s
    return {
        **{count: _told(work, count) for count in COUNTS},
        "total_steps": work.total_steps,
        "job_ratio": work.job_ratio,
        **figures(spans, sum(row.energy_j for row in run.totals), work.job_ratio, most_flops),
        "precision": work.precision or None,
        "peak_flop_per_s": peak,
        "spans": spans,
        "each_epoch": [_span(span) for span in each_epoch(work)],
    }


def _span(span: Span) -> dict[str, float | None]:
    """No energy is energy that nobody saw."""
    return {
        "first": span.first,
        "last": span.last,
        "duration_s": span.duration_s,
        "energy_j": span.energy_j or None,
    }


def _told(work: Work, count: Count) -> float | None:
    """The highest that was told. A 0 that nothing followed, but of steps, is how counting begins: unknown."""
    told: float | None = getattr(work, count)
    return told if told or count == "steps" else None


def _peak(run: RunState, work: Work) -> float | None:
    """The peaks of all the run's GPUs together, in FLOP/s; None where one is unknown, or there is no GPU."""
    gpus = {row.device_id for row in run.totals if row.component == "gpu"}
    known = {peak.device_id: peak.flop_per_s for peak in work.peaks}
    return sum(known[gpu] for gpu in gpus) if gpus and gpus <= known.keys() else None


def gpu_time_summary(time: GpuTime | None) -> dict[str, Any] | None:
    """None where the run held no GPU. Of GPUs that tell no utilisation the idle time is unknown."""
    if time is None:
        return None
    is_known = time.unknown_s < time.held_s
    return {
        "held_s": time.held_s,
        "unknown_s": time.unknown_s,
        "idle_s": time.idle_s if is_known else None,
        "idle_energy_j": time.idle_j if is_known else None,
        "idle_below_ratio": IDLE_BELOW_RATIO,
    }
