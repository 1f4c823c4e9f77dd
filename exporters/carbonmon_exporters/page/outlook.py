"""What is to come of a run, for the page: its forecast and its budgets; unknown is None."""

from __future__ import annotations

from typing import Any

from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.pace import Range
from carbonmon.runs.summary.outlook import known_spent
from carbonmon.runs.summary.ranges import is_seen


def outlook(snapshot: Snapshot, run: RunState) -> dict[str, Any]:
    """`forecast` while the run goes on and its training code tells steps, and `budgets`."""
    return {
        "forecast": None if run.ended_at_s is not None else _forecast(snapshot, run),
        "budgets": [
            {
                "text": state.text,
                "kind": state.kind,
                "limit": state.limit,
                "unit": state.unit,
                "per_day": state.per_day,
                "spent": known_spent(run, state),
                "action": state.action,
                "reached_at_s": state.reached_at_s,
                "reached_by": state.reached_by,
            }
            for state in run.budgets
        ],
    }


def _forecast(snapshot: Snapshot, run: RunState) -> dict[str, Any] | None:
    """Of the whole run; each figure as low, expected and high, null where nothing is known of its energy.

    The end is a Unix time.
    """
    made = run.forecast
    if made is None:
        return None
    began_s = snapshot.at_s - run.duration_s
    is_known = is_seen(run)
    unknown = dict.fromkeys(Range._fields)
    return {
        "done_ratio": made.done_ratio,
        "end_at_s": made.duration_s.plus(began_s)._asdict(),
        "energy_j": made.energy_j._asdict() if is_known else unknown,
        "emissions_g": made.emissions_g._asdict() if is_known else unknown,
        "cost": made.cost._asdict() if is_known and made.cost is not None else None,
        "currency": made.currency or None,
    }
