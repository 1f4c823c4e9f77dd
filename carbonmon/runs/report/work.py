"""What a run has done, and what that took, in reports: rows of a table, and a paragraph for a model card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from carbonmon.core.efficiency import UNITS, WHOLE
from carbonmon.runs.summary.figures import duration_text, energy_text, percent_text
from carbonmon.runs.summary.work_text import (
    counts_text,
    energies_text,
    flops_text,
    idle_share_text,
    idle_text,
    joules_text,
)

_SPAN = "from the first to the last report"


def work_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of figure, range, how known; energies have the range of the run's energy."""
    rows = []
    work, energy = summary.get("work"), summary["energy"]
    if work is not None:
        rows.append(("work", counts_text(work), "", "as the training code reports it"))
        for unit in UNITS.values():
            joules, run_j = work[f"energy_per_{unit}_j"], work[f"run_energy_per_{unit}_j"]
            if joules is not None:
                whole = "" if run_j is None else f"; {joules_text(run_j)} with the run's start and end"
                rows.append(
                    (f"energy per {unit}", joules_text(joules), _range(joules, energy), _SPAN + whole)
                )
            elif run_j is not None:
                rows.append(
                    (f"energy per {unit}", joules_text(run_j), _range(run_j, energy), "of the whole run")
                )
        if flops_text(work):
            rows.append(("FLOPs", flops_text(work), "", f"{_SPAN}; peaks by data sheets, without sparsity"))
    time = summary.get("gpu_time")
    if time is not None and time["idle_s"] is not None:
        seconds = duration_text(time["idle_s"])
        joules = energy_text(time["idle_energy_j"] or 0.0)
        idle = f"{joules} in {seconds} of GPU time ({idle_share_text(time)})"
        below = f"mean utilisation of an interval below {percent_text(time['idle_below_ratio'] or 0.0)}"
        rows.append(("GPUs held and idle", idle, "", below))
    return rows


def work_paragraphs(summary: Mapping[str, Any], shown: Callable[[str, int], str]) -> list[str]:
    """One paragraph, none where nothing was told; `shown` makes a text one of its markup."""
    work = summary.get("work")
    if work is None:
        return []
    each = energies_text(work)
    part = (
        "" if work["job_ratio"] is None or work["job_ratio"] >= WHOLE else ", of this node's part of the job"
    )
    text = f"Done was {counts_text(work)}"
    if each:
        text += f", at {' and '.join(filter(None, (', '.join(each[:-1]), each[-1])))} {_SPAN}{part}"
    if flops_text(work):
        text += f"; {shown(flops_text(work), 200)}"
    time = summary.get("gpu_time")
    idle = "" if time is None or not time["idle_s"] else f" {idle_text(time)}."
    return [f"{text}.{idle}"]


def _range(joules: float, energy: Mapping[str, Any]) -> str:
    """The range of a figure that is proportional to the run's energy."""
    total_j, low_j, high_j = energy["total_j"], energy["low_j"], energy["high_j"]
    if not total_j or low_j is None or high_j is None:
        return "range unknown"
    return f"{joules_text(joules * low_j / total_j)} to {joules_text(joules * high_j / total_j)}"
