"""Forecasts and budgets in a summary, and their lines in the table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.budgets import BudgetState, amount_text
from carbonmon.core.forecast import Forecast
from carbonmon.core.model import RunState
from carbonmon.core.pace import Range
from carbonmon.core.text_layout import labelled
from carbonmon.core.times import known_time, local_text, rfc3339
from carbonmon.runs.summary.figures import JOULES, UNKNOWN, figure
from carbonmon.runs.summary.ranges import is_seen
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


def known_spent(run: RunState, state: BudgetState) -> float | None:
    """What was spent of a budget; None where nothing is known of the run's energy."""
    is_known = state.kind == "time" or state.per_day or is_seen(run)
    return state.spent if is_known else None


def budgets_summary(run: RunState) -> list[dict[str, Any]]:
    """The run's budgets, each with what was spent of it and when it was acted upon."""
    return [
        {
            "budget": state.text,
            "kind": state.kind,
            "limit": state.limit,
            "unit": state.unit,
            "period": "day" if state.per_day else "run",
            "spent": known_spent(run, state),
            "action": state.action,
            "reached_at": rfc3339(state.reached_at_s),
            "reached_by": state.reached_by,
            "spent_then": state.spent_then,
        }
        for state in run.budgets
    ]


def outlook_lines(summary: dict[str, Any], unit: str, width: int | None) -> list[str]:
    """The forecasts, in the total's unit, and each budget, each behind its label."""
    lines: list[str] = []
    made = summary.get("forecasts")
    if made:
        texts = [_forecast_text(forecast, unit) for forecast in made]
        lines += labelled("forecast", f"{', '.join(texts)} {unit}", width)
    for budget in summary.get("budgets") or ():
        lines += labelled("budget", one_line(_budget_text(budget), 400), width)
    return lines


def spent_text(budget: Mapping[str, Any]) -> str:
    """What was spent of a summary's budget, in the budget's unit."""
    spent: float | None = budget["spent"]
    return UNKNOWN if spent is None else amount_text(spent, budget["budget"], budget["unit"])


def _range(span: Range) -> dict[str, float]:
    return span._asdict()


def _forecast_text(forecast: dict[str, Any], unit: str) -> str:
    low, expected, high = (figure(forecast["energy_j"][key] / JOULES[unit]) for key in Range._fields)
    return f"{forecast['done_ratio'] * 100:.0f} %: {expected} ({low} to {high})"


def _budget_text(budget: dict[str, Any]) -> str:
    whose = " by all runs of the day" if budget["period"] == "day" else ""
    where = f" on {budget['host']}" if budget.get("host") else ""
    text = f"{budget['budget']}{where}: {spent_text(budget)} spent{whose}"
    at_s = known_time(budget["reached_at"])
    return text if at_s is None else f"{text}; reached {local_text(at_s, 'seconds')}, {budget['action']}"
