"""What the nodes of a run were expected to come to together, their budgets, and their pauses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from carbonmon.core.forecast import KEPT_RATIOS
from carbonmon.core.pace import Range
from carbonmon.core.times import known_time
from carbonmon.runs.report.merging.sums import Part, each, same, total
from carbonmon.runs.report.merging.times import overlap, span_s

APART_RATIO = 0.02
"""So much of the steps the nodes' forecasts may be apart to be of one moment: each keeps the first that it
makes behind a tenth, a quarter and a half of the steps, and nodes of one training are at the same step."""


def forecasts(summaries: Sequence[Part]) -> list[dict[str, Any]]:
    """Those that each node made at the same part of the steps, added: their errors are systematic.

    None of parts that follow one another: the forecast of a first attempt is not of what the next one drew.
    None either where a node was told no steps.
    """
    runs = [summary["run"] for summary in summaries]
    are_nodes = len({run["host"] for run in runs}) == len(runs)
    if not are_nodes or not all(overlap(span_s(a), span_s(b)) for a, b in combinations(runs, 2)):
        return []
    starts = [known_time(run["started_at"]) for run in runs]
    if any(start_s is None for start_s in starts):
        return []
    begun_s = [start_s - min(starts) for start_s in starts]  # type: ignore[operator,type-var]
    found = []
    for ratio in KEPT_RATIOS:
        made = [_nearest(summary.get("forecasts") or (), ratio) for summary in summaries]
        known = [forecast for forecast in made if forecast is not None]
        if len(known) == len(made):
            found.append(
                {
                    "done_ratio": min(each(known, "done_ratio")),
                    "energy_j": _added(known, "energy_j"),
                    "emissions_g": _added(known, "emissions_g"),
                    "duration_s": _latest(known, begun_s),
                }
            )
    return found


def budgets(summaries: Sequence[Part]) -> list[dict[str, Any]]:
    """Each node's own, with its host: a budget is of the run on one node, and no sum of them was compared."""
    return [
        {"host": summary["run"]["host"], **budget}
        for summary in summaries
        for budget in summary.get("budgets") or ()
    ]


def pauses(runs: Sequence[Part]) -> dict[str, Any] | None:
    """Of parts that follow one another: a job on several nodes is not paused. None where none may be."""
    known = [run["pauses"] for run in runs if run.get("pauses")]
    if not known:
        return None
    return {
        "above_g_per_kwh": same(each(known, "above_g_per_kwh")),
        "count": sum(each(known, "count")),
        "paused_s": total(each(known, "paused_s")),
    }


def _nearest(made: Sequence[Part], ratio: float) -> Part | None:
    """The forecast that was made when just that part of the steps was done."""
    return next((each for each in made if ratio <= each["done_ratio"] <= ratio + APART_RATIO), None)


def _added(made: Sequence[Part], key: str) -> dict[str, float]:
    return {end: sum(forecast[key][end] for forecast in made) for end in Range._fields}


def _latest(made: Sequence[Part], begun_s: Sequence[float]) -> dict[str, float]:
    """From the first start to the last end."""
    pairs = list(zip(made, begun_s, strict=True))
    return {
        end: max(start_s + forecast["duration_s"][end] for forecast, start_s in pairs)
        for end in Range._fields
    }
