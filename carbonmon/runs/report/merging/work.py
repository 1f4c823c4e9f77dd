"""What a run has done on its nodes: counts are the job's, energies and GPU time the nodes'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.core.efficiency import figures
from carbonmon.core.work import COUNTS
from carbonmon.runs.report.merging.sums import Part, each, same, total
from carbonmon.runs.report.merging.times import longest_s


def work(summaries: Sequence[Part]) -> dict[str, Any] | None:
    """`work` of the whole; None where no part has any.

    The energy of a count is unknown where one of the parts was told nothing of it: then it is not known what
    that one drew between the first and the last report, and only figures of the whole run's energy stay.
    """
    parts = [(summary["run"]["host"], summary["work"]) for summary in summaries if summary.get("work")]
    if not parts:
        return None
    works = [part for _, part in parts]
    is_all = len(parts) == len(summaries)
    spans: dict[str, Part] = {
        what: span for what in COUNTS if (span := _span(what, parts, len(summaries))) is not None
    }
    run_j = total(summary["energy"]["total_j"] for summary in summaries)
    ratio = min(1.0, _by_host(parts, "job_ratio") or 0.0)
    return {
        **{
            what: max((part[what] for part in works if part[what] is not None), default=None)
            for what in COUNTS
        },
        "total_steps": max(
            (steps for steps in each(works, "total_steps") if steps is not None), default=None
        ),
        "job_ratio": ratio,
        **figures(spans, run_j, ratio, _most_flops(works) if is_all else None),
        "precision": same(each(works, "precision")),
        "peak_flop_per_s": _by_host(parts, "peak_flop_per_s") if is_all else None,
        "spans": spans,
        "each_epoch": _each_epoch(parts) if is_all else [],
    }


def _each_epoch(parts: Sequence[tuple[str, Part]]) -> list[dict[str, Any]]:
    """Epoch by epoch where all parts have the same ones: else one's are unknown in the times of another's."""
    lists = [part.get("each_epoch") or [] for _, part in parts]
    if len({tuple((row["first"], row["last"]) for row in rows) for rows in lists}) != 1:
        return []
    hosts = [host for host, _ in parts]
    return [
        {
            "first": rows[0]["first"],
            "last": rows[0]["last"],
            "duration_s": longest_s((host, row["duration_s"]) for host, row in zip(hosts, rows, strict=True)),
            "energy_j": total(each(rows, "energy_j")),
        }
        for rows in zip(*lists, strict=True)
    ]


def _span(what: str, parts: Sequence[tuple[str, Part]], wanted: int) -> dict[str, Any] | None:
    """From the least that a part was told first to the most that one was told last."""
    known = [(host, part["spans"][what]) for host, part in parts if what in part["spans"]]
    if not known:
        return None
    spans = [span for _, span in known]
    return {
        "first": min(each(spans, "first")),
        "last": max(each(spans, "last")),
        "duration_s": longest_s((host, span["duration_s"]) for host, span in known),
        "energy_j": total(each(spans, "energy_j")) if len(known) == wanted else None,
    }


def _most_flops(works: Sequence[Part]) -> float | None:
    """What the GPUs could have done at their peak while the parts counted FLOPs."""
    return total(
        None
        if part["peak_flop_per_s"] is None or "flops" not in part["spans"]
        else part["peak_flop_per_s"] * part["spans"]["flops"]["duration_s"]
        for part in works
    )


def _by_host(parts: Sequence[tuple[str, Part]], key: str) -> float | None:
    """The sum over the hosts; parts of one host have the same. None if one is unknown."""
    found: dict[str, float] = {}
    for host, part in parts:
        if part[key] is None:
            return None
        found[host] = max(found.get(host, 0.0), part[key])
    return sum(found.values())


def gpu_time(summaries: Sequence[Part]) -> dict[str, Any] | None:
    """`gpu_time` of the whole: the sums of the parts that held a GPU; None where nobody noted that of one."""
    held = [part["gpu_time"] for part in summaries if part.get("gpu_time")]
    if not held or not all("gpu_time" in part for part in summaries):
        return None
    return {
        **{key: total(each(held, key)) for key in ("held_s", "unknown_s", "idle_s", "idle_energy_j")},
        "idle_below_ratio": same(each(held, "idle_below_ratio")),
    }
