"""A run of which nothing was seen does not look like a run that drew nothing, in any form."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from carbonmon_exporters.node_meters import node_meter_families
from carbonmon_exporters.outlook import outlook_families
from carbonmon_exporters.page.outlook import outlook
from carbonmon_exporters.starts import Starts

from carbonmon.analysis.compare_regions import with_elsewhere, with_what_if
from carbonmon.analysis.required.annex_xi import annex_xi_text
from carbonmon.analysis.required.paragraph import paragraph
from carbonmon.core.budgets import BudgetState
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import NodeTotal, RunState
from carbonmon.core.node_meter import NodeCharge, NodeEnergy
from carbonmon.runs.index import read_index
from carbonmon.runs.listing import Row
from carbonmon.runs.report import side_by_side
from carbonmon.runs.report.csv_table import csv_text
from carbonmon.runs.report.details import details_text
from carbonmon.runs.report.html.document import html_text
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.report.merging import merged
from carbonmon.runs.report.modelcard import model_card_text
from carbonmon.runs.report.over_time import OverTime
from carbonmon.runs.report.run_tables import runs_text
from carbonmon.runs.report.spreadsheet import spreadsheet_text
from carbonmon.runs.report.terminal_plot import plot_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.outlook import forecasts_summary
from carbonmon.runs.summary.ranges import seen_devices
from carbonmon.runs.summary.text import table_text
from carbonmon.runs.summary.validation import fault_of
from carbonmon.service.status_line import of_snapshot, text_of
from tests.support.records import device_state, forecast, gpu, run_info, run_state, run_total, snapshot
from tests.support.rows import for_each_row
from tests.support.views import drawn, view_of

GPU = gpu()


def blind(**more: Any) -> RunState:
    """A run whose only GPU never answered in its 60 s."""
    given = {"duration_s": 60.0, "unobserved_s": ((GPU.id, 60.0),), "power_w": ((GPU.id, None),)} | more
    run = run_state(totals=(run_total(GPU.id, "gpu", "counter", 0.0),), duration_s=60.0)
    return run._replace(node=(NodeTotal(GPU.id, 0.0, 0.0, 0.0, 0.0),), **given)


def summary_of(run: RunState) -> dict[str, Any]:
    shown = snapshot((run,), (device_state(GPU),))
    return summarize(shown, run, "final")


@for_each_row(
    "run",
    [
        run_state(duration_s=60.0),
        blind(),
        blind(unobserved_s=((GPU.id, 59.9986),)),  # it was first asked after the start
        blind(duration_s=0.2, unobserved_s=((GPU.id, 0.17),)),
    ],
)
def test_energy_and_carbon_are_null_where_nothing_was_seen(run: RunState):
    summary = summary_of(run)
    energy, carbon = summary["energy"], summary["carbon"]
    amounts = [energy[key] for key in ("total_j", "total_kwh", "low_j", "high_j", "measured_ratio")]
    amounts += [carbon[key] for key in ("emissions_g", "low_g", "high_g")]
    amounts += [phase[key] for phase in energy["phases"].values() for key in ("energy_j", "emissions_g")]
    amounts += [device["energy_j"] for device in energy["devices"]]
    assert set(amounts) == {None}
    assert (energy["methods"], energy["components"]) == ({}, {})
    assert fault_of(summary) == ""


def test_zero_stays_zero_where_it_was_seen():
    summary = summary_of(blind(unobserved_s=((GPU.id, 20.0),)))
    assert (summary["energy"]["total_j"], summary["carbon"]["emissions_g"]) == (0.0, 0.0)
    assert summary["energy"]["devices"][0]["energy_j"] == 0.0
    forms = (table_text(summary), markdown_text(summary), model_card_text(summary), paragraph(summary))
    for text in forms:
        assert "0 J" in text or "emissions: 0" in text
        for wrong in ("estimated", "not stated", "energy seen", "energy was seen", "unknown power"):
            assert wrong not in text, text


def test_an_estimate_of_0_is_not_said_to_be_known():
    run = run_state(totals=(run_total(GPU.id, "gpu", "tdp", 0.0),), duration_s=0.013)
    run = run._replace(
        node=(NodeTotal(GPU.id, 0.0, 0.0, 0.0, 0.0),),
        unobserved_s=((GPU.id, 0.0),),
        power_w=((GPU.id, 0.0),),
    )
    summary = summary_of(run)
    assert (summary["energy"]["total_j"], summary["energy"]["measured_ratio"]) == (0.0, None)
    for text in (
        table_text(summary),
        markdown_text(summary),
        model_card_text(summary),
        annex_xi_text(summary),
    ):
        assert "estimated" in text
        for wrong in ("drew none", "none was drawn", "None was drawn", "no energy was drawn", "0.0 s"):
            assert wrong not in text, text
    assert "0 J (0 to 0), all of it estimated (tdp)" in table_text(summary)
    assert "<0.1 s" in table_text(summary)


@for_each_row(("run", "shown"), [(blind(), "–"), (blind(unobserved_s=((GPU.id, 20.0),)), "0 J")])
def test_a_list_of_runs_tells_a_known_zero_from_unknown(run: RunState, shown: str, tmp_path: Path):
    folder = tmp_path / "a"
    folder.mkdir(exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary_of(run)))
    entries, notes = read_index(tmp_path)
    assert notes == []
    head, row, *_ = runs_text([Row(entry) for entry in entries], None, str, None).splitlines()
    begin = head.index("ENERGY") + len("ENERGY") - len(shown)
    assert row[begin : begin + len(shown)] == shown
    assert (entries[0].emissions_g == 0.0) is (shown == "0 J")


def test_a_run_that_used_none_of_what_is_metered_drew_nothing_and_that_is_known():
    other = gpu(1)
    run = run_state(duration_s=60.0, node=(NodeTotal(other.id, 500.0, 0.0, 0.0, 0.1),))
    shown = snapshot((run,), (device_state(other),))
    summary = summarize(shown, run, "final")
    assert (summary["energy"]["total_j"], summary["carbon"]["emissions_g"]) == (0.0, 0.0)
    assert "0 J (0 to 0), it used none of what is metered" in table_text(summary)
    assert fault_of(summary) == ""


def test_a_device_of_which_nothing_was_seen_is_unknown_beside_others_that_were():
    other = gpu(1)
    run = blind(
        unobserved_s=((GPU.id, 60.0), (other.id, 0.0)), power_w=((GPU.id, None), (other.id, 10.0))
    )._replace(
        totals=(run_total(GPU.id, "gpu", "counter", 0.0), run_total(other.id, "gpu", "counter", 600.0))
    )
    assert seen_devices(run) == {other.id}
    shown = snapshot((run,), (device_state(GPU), device_state(other)))
    summary = summarize(shown, run, "final")
    assert summary["energy"]["total_j"] == 600.0
    assert [device["energy_j"] for device in summary["energy"]["devices"]] == [None, 600.0]
    lines = table_text(summary).splitlines()
    (line,) = [line for line in lines if line.startswith(f"  gpu  0 {GPU.id}")]
    assert " ".join(line.split()).endswith("unknown power unknown no energy seen")
    assert any("not observed, and not counted" in each for each in lines)


def test_no_form_of_a_report_has_a_zero_for_what_nobody_saw():
    summary = summary_of(blind(budgets=(BudgetState("1kWh", "energy", 3.6e6, "joules", False, 0.0, "warn"),)))
    text = table_text(summary) + details_text(summary)
    assert "  energy     unknown" in text and "  emissions  unknown" in text
    assert "1kWh: unknown spent" in text
    shown = text + markdown_text(summary) + model_card_text(summary)
    for zero in (" 0 J", " 0 g", " 0 kWh", "emissions: 0", "like "):
        assert zero not in shown
    assert "# emissions: unknown" in shown
    head, row, *_ = (line.split(",") for line in csv_text([summary]).splitlines())
    cells = dict(zip(head, row, strict=False))
    assert (cells["scope"], cells["energy_j"], cells["emissions_g"]) == ("run", "", "")


def test_the_report_as_a_page_has_no_zero_for_what_nobody_saw():
    budget = BudgetState("1kWh", "energy", 3.6e6, "joules", False, 0.0, "warn")
    summary = summary_of(blind(budgets=(budget,), forecasts=(forecast(),)))
    assert summary["forecasts"] == [], "a forecast of nothing is none"
    summary["forecasts"] = forecasts_summary([forecast()])  # as earlier releases wrote it
    html = html_text(summary, [summary], OverTime(None, ()))
    assert 'Energy</dt><dd><span class="value">unknown' in html
    assert 'Emissions</dt><dd><span class="value">unknown' in html
    assert "unknown spent" in html
    for zero in (">0 J", ">0 g", " 0 kWh"):
        assert zero not in html


def test_nodes_side_by_side_say_of_which_nothing_is_known():
    parts = [seen_and_unseen()[0], *seen_and_unseen()]
    rows = side_by_side.nodes(parts).rows
    assert [row[1:4] for row in rows[1:]] == [("100 J", "50.0 %", rows[0][3]), ("unknown", "–", "unknown")]
    assert rows[-1][-1] == "nothing was seen of it"
    html_text(merged(seen_and_unseen()), seen_and_unseen(), OverTime(None, ()))


def test_a_row_of_a_spreadsheet_is_empty_for_what_nobody_saw_and_0_for_what_was_seen():
    still = summary_of(blind(unobserved_s=((GPU.id, 20.0),)))
    rows = list(csv.DictReader(spreadsheet_text([summary_of(blind()), still]).splitlines()))
    amounts = [(row["energy_kwh"], row["emissions_kg"], row["energy_high_kwh"]) for row in rows]
    assert amounts == [("", "", ""), ("0", "0", "0")]


@for_each_row("asked", [with_elsewhere, with_what_if])
def test_other_places_are_refused_for_a_run_of_which_nothing_is_known(
    asked: Callable[[dict[str, Any], str], dict[str, Any]],
):
    with pytest.raises(ConfigError, match="nothing is known of the energy of run"):
        asked(summary_of(blind()), "SE")


def test_a_plot_and_the_lines_of_a_meter_and_a_charge_are_drawn_of_a_run_without_readings():
    summary = summary_of(blind())
    assert "no rows" in plot_text(OverTime(None, ()), summary["energy"]["devices"], 60)
    meter = {"meter": "acpi:0", **dict.fromkeys(("energy_j", "mean_power_w", "coverage_ratio"))}
    amounts = dict.fromkeys(("energy_j", "emissions_g", "low_g", "high_g"))
    summary |= {
        "node_meters": [{**meter, "unobserved_s": 60.0}],
        "charge": {"by": "node", "meter": "acpi:0", **amounts},
    }
    text = table_text(summary, 60)
    assert "  machine    unknown; not observed" in text
    assert "  charged    unknown: its devices' part" in text
    assert max(map(len, text.splitlines())) <= 60
    assert "| charged (--charge node) | unknown |" in markdown_text(summary)


def test_a_charge_by_the_whole_machine_is_unknown_where_the_run_s_devices_are():
    observed = NodeEnergy("acpi:0", power_j=1000.0, observed_s=60.0)
    run = blind()._replace(node_meters=(observed,), node_charges=(NodeCharge("acpi:0"),))
    charge, (meter,) = summary_of(run)["charge"], summary_of(run)["node_meters"]
    assert (charge["energy_j"], charge["emissions_g"], meter["energy_j"]) == (None, None, 1000.0)
    shown = snapshot((run,), (device_state(GPU),))
    families = node_meter_families(shown, Starts(shown, shown.start_s))
    names = {sample.name for family in families for sample in family.samples}
    assert names == {
        f"carbonmon_run_node_meter_{what}_total"
        for what in ("energy_joules", "covered_energy_joules", "unobserved_seconds")
    }, "the meter's own figures, and no charge"


def test_a_terminal_s_title_and_carbonmon_top_know_no_energy_either():
    budget = BudgetState("1kWh", "energy", 3.6e6, "joules", False, 0.0, "warn")
    shown = snapshot((blind(budgets=(budget,), forecast=forecast()),), (device_state(GPU),))
    status = of_snapshot(shown, shown.runs[0].info.id)
    assert status is not None
    assert (status.energy_j, status.emissions_g, status.budgets) == (None, None, [("1kWh", None)])
    assert text_of(status._replace(end_s=None)) == "power unknown, 1 min 00 s, 1kWh unknown"
    assert outlook(shown, shown.runs[0])["forecast"]["energy_j"]["expected"] is None
    bounds = [family for family in outlook_families(shown, Starts(shown, shown.start_s)) if family.samples]
    assert {family.name for family in bounds} == {
        "carbonmon_run_forecast_end_time_seconds",
        "carbonmon_run_budget_limit",
    }
    frame = drawn(view_of(shown, shown.runs[0].info.id), rows=None)
    assert "1kWh: unknown spent" in frame
    assert " 0 J" not in frame and " 0 g" not in frame


def seen_and_unseen() -> list[dict[str, Any]]:
    """Summaries of two nodes: of one 100 J, of the other nothing is known."""
    seen = run_state(run_info()._replace(host="node-1"), (run_total(GPU.id, "gpu", "counter", 100.0),))
    unseen = blind()._replace(info=run_info()._replace(host="node-2"))
    return [summary_of(seen), summary_of(unseen)]


def test_the_sum_of_nodes_is_of_those_that_are_known_and_a_note_names_the_others():
    whole = merged(seen_and_unseen())
    assert whole["energy"]["total_j"] == pytest.approx(100.0)
    assert whole["energy"]["high_j"] is None, "the truth may be any more"
    assert whole["run"]["notes"] == ["the energy on node-2 is unknown, and in no sum"]
    assert fault_of(whole) == ""
    other = blind()._replace(info=run_info()._replace(host="node-3"))
    both = merged([seen_and_unseen()[1], summary_of(other)])
    assert both["energy"]["total_j"] is both["carbon"]["emissions_g"] is None
    assert json.dumps(both)
