"""`run` of the merged summary: id, name, times and exit code from those of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.runs.report.merging.outlook import pauses
from carbonmon.runs.report.merging.sums import Part, each, listed, same, total
from carbonmon.runs.report.merging.times import duration_s


def merged_run(runs: Sequence[Part]) -> dict[str, Any]:
    """`run` of the whole: id, name and command are those of the part that started first.

    A label of which nodes have different values has all of them; a scheduler's id that differs is unknown.
    """
    starts, ends = each(runs, "started_at"), each(runs, "ended_at")
    run: dict[str, Any] = {
        **runs[0],
        "labels": _labels(runs),
        "host": listed((host for run in runs for host in run["host"].split(",")), ","),
        "scheduler": same(each(runs, "scheduler")),
        "scheduler_job_id": same(each(runs, "scheduler_job_id")),
        "started_at": None if None in starts else min(starts),
        "ended_at": None if None in ends else max(ends),
        "duration_s": duration_s(runs),
        **_ending(runs),
    }
    for key in ("cpu_s", "ranks", "progress", "pauses", "idle_policy", "uid", "user"):
        run.pop(key, None)
    for key in ("uid", "user"):
        if any(key in part for part in runs):
            run[key] = same(each(runs, key))
    if any("cpu_s" in part for part in runs):
        run["cpu_s"] = total(each(runs, "cpu_s"))
    if any("ranks" in part for part in runs):
        run["ranks"] = [rank for part in runs for rank in part.get("ranks", ())]
    if any("progress" in part for part in runs):
        run["progress"] = _progress(runs)
    if any("pauses" in part for part in runs):
        run["pauses"] = pauses(runs)
    policy = same(each(runs, "idle_policy"))
    return run if policy is None else {**run, "idle_policy": policy}


def _labels(runs: Sequence[Part]) -> dict[str, str]:
    keys = dict.fromkeys(key for run in runs for key in run["labels"])
    return {key: listed(run["labels"].get(key) for run in runs) for key in keys}


def _progress(runs: Sequence[Part]) -> dict[str, Any] | None:
    """The least progress of the parts; None where none reported any."""
    reported = [run["progress"] for run in runs if run.get("progress")]
    return min(reported, key=lambda progress: progress["step"] or 0.0, default=None)


def _ending(runs: Sequence[Part]) -> dict[str, int | None]:
    """How the first part that failed ended; a success where every part succeeded."""
    for run in runs:
        if run["exit_code"] or run["signal"]:
            return {"exit_code": run["exit_code"], "signal": run["signal"]}
    return {"exit_code": same(each(runs, "exit_code")), "signal": None}
