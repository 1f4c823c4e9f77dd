"""Forecasts and budgets in a summary, and their lines in the table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from carbonmon.core.budgets import BudgetState, amount_text
from carbonmon.core.forecast import Forecast
from carbonmon.core.pace import Range
from carbonmon.core.times import known_time, rfc3339, utc_text
from carbonmon.runs.summary.figures import JOULES, figure
from carbonmon.runs.summary.strings import one_line


def forecasts_summary(forecasts: Sequence[Forecast]) -> list[dict[str, Any]]:
    """What the whole run was expected to come to, when parts of it were done."""
    return [
        {
            "done_ratio": made.done_ratio,
            "energy_j": _range(made.energy_j),
            "emissions_g": _range(made.emissions_g),
            "duration_s": _range(made.duration_s),
        }
        for made in forecasts
    ]


def budgets_summary(budgets: Sequence[BudgetState]) -> list[dict[str, Any]]:
    """The run's budgets, each with what was spent of it and when it was acted upon."""
    return [
        {
            "budget": state.text,
            "kind": state.kind,
            "limit": state.limit,
            "unit": state.unit,
            "period": "day" if state.per_day else "run",
            "spent": state.spent,
            "action": state.action,
            "reached_at": rfc3339(state.reached_at_s),
            "reached_by": state.reached_by,
            "spent_then": state.spent_then,
        }
        for state in budgets
    ]


def outlook_lines(summary: dict[str, Any], unit: str, width: int) -> list[str]:
    """The forecasts in one line, in the total's unit, and a line for each budget."""
    lines = []
    made = summary.get("forecasts")
    if made:
        texts = [_forecast_text(forecast, unit) for forecast in made]
        lines.append(f"  forecast   {', '.join(texts)} {unit}")
    lines += [f"  budget     {_budget_text(budget)}" for budget in summary.get("budgets") or ()]
    return [one_line(line, width) for line in lines]


def _range(span: Range) -> dict[str, float]:
    return span._asdict()


def _forecast_text(forecast: dict[str, Any], unit: str) -> str:
    low, expected, high = (figure(forecast["energy_j"][key] / JOULES[unit]) for key in Range._fields)
    return f"{forecast['done_ratio'] * 100:.0f} %: {expected} ({low} to {high})"


def _budget_text(budget: dict[str, Any]) -> str:
    whose = " by all runs of the day" if budget["period"] == "day" else ""
    where = f" on {budget['host']}" if budget.get("host") else ""
    spent = amount_text(budget["spent"], budget["budget"], budget["unit"])
    text = f"{budget['budget']}{where}: {spent} spent{whose}"
    at_s = known_time(budget["reached_at"])
    return text if at_s is None else f"{text}; reached {utc_text(at_s)}, {budget['action']}"
