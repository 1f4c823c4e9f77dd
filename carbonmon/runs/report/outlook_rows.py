"""Forecasts beside the outcome, and budgets, as rows of a report: what, figure, range, what is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.runs.summary.figures import ENERGY_UNITS, JOULES, energy_text, range_text, unit_of
from carbonmon.runs.summary.outlook import spent_text


def outlook_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """A row for each forecast, in the unit of the outcome, and one for each budget."""
    unit = unit_of(summary["energy"]["total_j"], ENERGY_UNITS)
    rows = []
    for made in summary.get("forecasts") or ():
        low_j, expected_j, high_j = (made["energy_j"][key] for key in ("low", "expected", "high"))
        what = f"energy, as expected at {made['done_ratio'] * 100:.0f} % of the steps"
        ends = range_text(low_j, high_j, JOULES[unit])
        rows.append((what, energy_text(expected_j, unit), ends, "forecast"))
    for budget in summary.get("budgets") or ():
        spent = spent_text(budget)
        whose = "all runs of the day" if budget["period"] == "day" else ""
        reached = f"reached {budget['reached_at']}: {budget['action']}" if budget["reached_at"] else ""
        known = "; ".join(filter(None, (whose, reached)))
        where = f" on {budget['host']}" if budget.get("host") else ""
        rows.append((f"spent of {budget['budget']}{where}", spent, "", known))
    return rows
