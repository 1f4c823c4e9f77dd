"""A module, one meter of GPU, CPU and memory, is told by every form of a report and by the boards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.model import Device, Part, Uncertainty
from carbonmon.runs.report.csv_table import csv_text
from carbonmon.runs.report.html.document import html_text
from carbonmon.runs.report.impact import statement
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.report.over_time import OverTime
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.text import table_text
from tests.support.records import device_state, node_total, run_state, run_total, snapshot

DEPLOY = Path(__file__).parents[3] / "deploy"
BOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
RULES = [DEPLOY / "prometheus" / name for name in ("carbonmon.rules.yml", "carbonmon.alerts.yml")]
MODULE = Device(
    *("module-0", "module", "NVIDIA GH200 480GB", 0, ("counter",)),
    max_power_w=2000.0,
    measured_uncertainty=Uncertainty(0.05, 0.05, "a sensor"),
    contains=(Part("gpu", None, "GPU-0"), Part("cpu", 0), Part("dram", 0)),
)


@pytest.fixture
def summary() -> dict[str, Any]:
    state = device_state(MODULE, counter_j=7_200_000.0)
    totals = (run_total("module-0", "module", "counter", 7_200_000.0),)
    run = run_state(totals=totals, node=(node_total(state),))
    return summarize(snapshot((run,), (state,)), run, "final")


def test_it_is_a_component_of_its_own_in_the_summary(summary: dict[str, Any]):
    assert summary["energy"]["components"] == {"module": {"energy_j": 7.2e6, "measured_ratio": 1.0}}


def html(summary: dict[str, Any]) -> str:
    return html_text(summary, [summary], OverTime(None, []))


@pytest.mark.parametrize("form", [markdown_text, html, table_text, lambda summary: csv_text([summary])])
def test_every_form_names_it_with_its_energy(summary: dict[str, Any], form: Any):
    text = form(summary)
    assert "module-0" in text and "NVIDIA GH200 480GB" in text
    assert re.search(r"7\.20 MJ|2\.00 kWh|7200000", text)


def test_the_paper_s_paragraph_says_what_a_module_is(summary: dict[str, Any]):
    assert "modules (GPU, CPU and memory by one meter)" in " ".join(statement(summary))


@pytest.mark.parametrize("path", [*BOARDS, *RULES], ids=lambda path: path.name)
def test_no_board_and_no_rule_picks_components_by_name(path: Path):
    """A query that did would leave out the one that it does not name."""
    assert re.findall(r'component\s*(?:=~?|!=|!~)\s*\\?"[^"]+"', path.read_text()) == []
