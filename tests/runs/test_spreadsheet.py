"""`carbonmon report --format csv`: a row a run that a spreadsheet takes as it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.plain_text import plain_cell
from carbonmon.runs.report.spreadsheet import (
    COLUMNS,
    rounded,
    rounded_ratio,
    spreadsheet_text,
    table,
    time_cell,
)
from carbonmon.runs.summary.document import summarize
from tests.support.records import HOSTILE_TEXTS, node, run_info, run_state, snapshot
from tests.support.rows import for_each_row


def of(shown: Any = None) -> dict[str, Any]:
    shown = shown or node(1, 1, 1)
    return summarize(shown, shown.runs[0], "final")


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def row_of(summary: dict[str, Any], users: Callable[[int | None], str] = lambda uid: "") -> dict[str, str]:
    (row,) = read(spreadsheet_text([summary], users))
    return row


def test_a_run_is_one_row_with_its_figures_in_kwh_kg_and_seconds():
    summary = of()
    row = row_of(summary)
    assert list(row) == list(COLUMNS)
    expected = {
        "energy_kwh": summary["energy"]["total_j"] / 3.6e6,
        "energy_low_kwh": summary["energy"]["low_j"] / 3.6e6,
        "energy_high_kwh": summary["energy"]["high_j"] / 3.6e6,
        "emissions_kg": summary["carbon"]["emissions_g"] / 1e3,
        "duration_s": summary["run"]["duration_s"],
        "intensity_g_per_kwh": summary["carbon"]["intensity"]["mean_g_per_kwh"],
    }
    for column, amount in expected.items():
        assert float(row[column]) == pytest.approx(amount, rel=5e-6), column
    assert (row["region"], row["uid"], row["is_settled"]) == ("DE", "1000", "false")
    assert datetime.strptime(row["started_utc"], "%Y-%m-%d %H:%M:%S")


def test_each_label_has_a_column_and_a_run_without_it_an_empty_cell():
    runs = [
        of(node(1, 0, 0, run_info("a", labels=(("team", "vision"), ("seed", "3"))))),
        of(node(1, 0, 0, run_info("b", labels=(("team", "speech"),)))),
    ]
    first, second = read(spreadsheet_text(runs))
    assert (first["label:team"], first["label:seed"]) == ("vision", "3")
    assert (second["label:team"], second["label:seed"]) == ("speech", "")


def test_a_user_is_called_as_the_run_says_else_as_this_machine_does():
    known = {1000: "ada"}.get
    named = of(node(1, 0, 0, run_info(user="bob")))
    assert row_of(named, lambda uid: "ada")["user"] == "bob"
    assert row_of(of(), lambda uid: known(uid or 0, ""))["user"] == "ada"
    nobodys = of()
    del nobodys["run"]["uid"], nobodys["run"]["user"]
    assert (row_of(nobodys)["user"], row_of(nobodys)["uid"]) == ("", "")


def test_what_is_unknown_is_an_empty_cell_and_never_zero():
    summary = of()
    summary["energy"] |= {"low_j": None, "high_j": None, "measured_ratio": None}
    summary["run"] |= {"ended_at": None, "duration_s": None}
    row = row_of(summary)
    for column in ("energy_low_kwh", "measured_ratio", "ended_utc", "duration_s", "water_l", "cost"):
        assert row[column] == ""
    assert float(row["energy_kwh"]) > 0.0
    unseen = row_of(of(snapshot((run_state(phases_s=(), duration_s=0.0),), samples=0, sensors=())))
    assert (unseen["energy_kwh"], unseen["emissions_kg"], unseen["duration_s"]) == ("", "", "0")


def test_a_settled_run_has_its_settled_emissions_and_their_place():
    summary = of()
    intensity = {**summary["carbon"]["intensity"], "mean_g_per_kwh": 300.0, "zone": "FR", "source": "RTE"}
    summary["settled"] = {"emissions_g": 103.0, "low_g": 97.0, "high_g": 110.0, "intensity": intensity}
    row = row_of(summary)
    assert (row["emissions_kg"], row["region"], row["intensity_source"]) == ("0.103", "FR", "RTE")
    assert (row["is_settled"], row["intensity_g_per_kwh"]) == ("true", "300")


@for_each_row("text", (*HOSTILE_TEXTS, "=1+1", "@SUM(A1)", 'say "no"', " a, b "))
def test_no_name_or_label_is_taken_for_a_formula_or_breaks_the_table(text: str):
    row = row_of(of(node(1, 0, 0, run_info(name=text, labels=(("note", text), (text, "x"))))))
    assert (row["name"], row["label:note"]) == (plain_cell(text), plain_cell(text))


@given(st.floats(1e-12, 1e15))
def test_an_amount_keeps_six_digits_without_an_exponent(amount: float):
    (row,) = read(table(("amount",), [{"amount": rounded(amount)}]))
    assert not {"e", "E"} & set(row["amount"])
    assert float(row["amount"]) == pytest.approx(amount, rel=5.1e-6)
    assert len(Decimal(row["amount"]).normalize().as_tuple().digits) <= 6


@given(st.floats(0.0, 1.0))
def test_a_ratio_that_is_not_quite_all_or_nothing_is_not_rounded_to_it(ratio: float):
    shown = rounded_ratio(ratio)
    assert shown is not None
    assert (shown == 0.0) == (ratio == 0.0) and (shown == 1.0) == (ratio == 1.0)
    assert shown == pytest.approx(ratio, abs=1.1e-6)


def test_a_time_beyond_the_calendar_is_unknown():
    assert time_cell(1_795_000_000.4) == "2026-11-18 11:06:40"
    assert time_cell(None) is None
    assert time_cell(1e18) is None
