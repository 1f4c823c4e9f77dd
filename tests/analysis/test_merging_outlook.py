"""Forecasts, budgets and pauses of a run's nodes in the merged report."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from carbonmon.core.budgets import BudgetState
from carbonmon.core.model import RunState
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.report.merging import merged
from carbonmon.runs.summary.outlook import budgets_summary, forecasts_summary
from carbonmon.runs.summary.text import table_text
from tests.analysis.test_merging import on
from tests.support.records import START_S, budget_state, forecast, run_state, run_total
from tests.support.strictness import strict_schema

VALIDATOR = jsonschema.Draft202012Validator(strict_schema())


def node(host: str, *ratios: float, **options: Any) -> dict[str, Any]:
    """A node that made a forecast at each of these parts of the steps: 36, 40 and 48 kJ."""
    return on(host, **options) | {"forecasts": forecasts_summary([forecast(ratio) for ratio in ratios])}


def test_forecasts_that_the_nodes_made_at_the_same_step_are_added():
    whole = merged([node("a", 0.10, 0.251, 0.5), node("b", 0.11, 0.25), node("c", 0.1, 0.26, 0.5)])
    VALIDATOR.validate(whole)
    assert [made["done_ratio"] for made in whole["forecasts"]] == [0.1, 0.25]
    assert whole["forecasts"][0]["energy_j"] == {"low": 108e3, "expected": 120e3, "high": 144e3}
    assert whole["forecasts"][0]["emissions_g"]["high"] == pytest.approx(3 * 4.8)
    assert whole["forecasts"][0]["duration_s"] == {"low": 95.0, "expected": 100.0, "high": 120.0}
    assert "forecast   10 %" in table_text(whole)


def test_a_node_that_starts_later_ends_later():
    whole = merged([node("a", 0.1), node("b", 0.1, start_s=START_S + 30.0)])
    assert whole["forecasts"][0]["duration_s"]["expected"] == pytest.approx(130.0)


@pytest.mark.parametrize(
    "parts",
    [
        (node("a", 0.1), node("b")),
        (node("a", 0.1), node("b", 0.2)),
        (node("a", 0.1), node("a", 0.1, start_s=START_S + 9000.0)),
        (node("a", 0.1), node("b", 0.1, start_s=START_S + 9000.0)),
    ],
    ids=["one-was-told-no-steps", "another-moment", "attempts-on-one-host", "attempts-on-two-hosts"],
)
def test_forecasts_that_are_not_of_one_moment_of_all_nodes_are_left_out(parts: tuple[dict[str, Any], ...]):
    assert merged(parts)["forecasts"] == []


def drew_something(budget: BudgetState) -> RunState:
    return run_state(totals=(run_total("package-0", "cpu", "counter", budget.spent),))._replace(
        budgets=(budget,)
    )


def test_each_budget_keeps_the_name_of_its_node():
    parts = [
        on(host) | {"budgets": budgets_summary(drew_something(budget_state(spent=spent)))}
        for host, spent in (("a", 1.8e6), ("b", 3.6e6))
    ]
    whole = merged(parts)
    VALIDATOR.validate(whole)
    assert [(each["host"], each["spent"]) for each in whole["budgets"]] == [("a", 1.8e6), ("b", 3.6e6)]
    assert "budget     2kWh on b: 1 kWh spent" in table_text(whole)
    assert "spent of 2kWh on b" in markdown_text(whole)


def test_pauses_of_parts_that_follow_one_another_are_added():
    def part(started_at_s: float, above: float) -> dict[str, Any]:
        summary = on("a", start_s=started_at_s)
        summary["run"]["pauses"] = {"above_g_per_kwh": above, "count": 2, "paused_s": 30.0}
        return summary

    whole = merged([part(START_S, 300.0), part(START_S + 9000.0, 300.0)])
    assert whole["run"]["pauses"] == {"above_g_per_kwh": 300.0, "count": 4, "paused_s": 60.0}
    mixed = merged([part(START_S, 300.0), part(START_S + 9000.0, 200.0)])
    VALIDATOR.validate(mixed)
    assert mixed["run"]["pauses"] == {"above_g_per_kwh": None, "count": 4, "paused_s": 60.0}
    never = merged([on("a"), on("b")])["run"]
    assert never["pauses"] is None
