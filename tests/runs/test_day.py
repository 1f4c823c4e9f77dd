"""What the runs of an output drew on a day of UTC."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from carbonmon.core.budget_watch import DAY_S, Amounts
from carbonmon.core.model import Cost
from carbonmon.runs.day import DayCount
from carbonmon.runs.layout import SERIES_FILE, SUMMARY_FILE
from carbonmon.runs.series_rows import SeriesRow
from carbonmon.runs.summary.document import summarize
from tests.support.records import gpu, node, run_info, run_state, run_total
from tests.support.series import series_text

DAY = 20_700 * DAY_S
HOUR_S = 3600.0


def put(
    output: Path,
    name: str,
    began_s: float,
    hours: int,
    *,
    joules_per_hour: float = 1000.0,
    series: bool = True,
) -> Path:
    """A run that has ended, with a row of its series an hour."""
    folder = output / name
    folder.mkdir(parents=True)
    device = gpu()
    energy_j = hours * joules_per_hour
    run = run_state(
        run_info()._replace(id=name, started_at_s=began_s),
        totals=(run_total(device.id, "gpu", "counter", energy_j, emissions_g=energy_j / 100),),
        duration_s=hours * HOUR_S,
        ended_at_s=began_s + hours * HOUR_S,
    )._replace(costs=(Cost("EUR", energy_j / 1000, energy_j),))
    summary = summarize(node()._replace(runs=(run,)), run, "final")
    (folder / SUMMARY_FILE).write_text(json.dumps(summary))
    rows = [
        SeriesRow(
            *(began_s + (hour + 1) * HOUR_S, HOUR_S, device.id, "gpu", "main", "counter", joules_per_hour),
            *(None, None, None, joules_per_hour / 100, 360.0, "fixed"),
        )
        for hour in range(hours if series else 0)
    ]
    (folder / SERIES_FILE).write_text("".join(map(series_text, rows)))
    os.utime(folder / SUMMARY_FILE, (began_s + hours * HOUR_S,) * 2)
    return folder


def others(output: Path) -> Amounts:
    return DayCount(output, output / "own", "EUR").others(DAY)


def test_a_run_that_began_today_counts_whole_and_one_of_yesterday_not_at_all(tmp_path: Path):
    put(tmp_path, "today", DAY + HOUR_S, 2)
    put(tmp_path, "yesterday", DAY - 5 * HOUR_S, 2)
    assert others(tmp_path) == pytest.approx(Amounts(2000.0, 20.0, 2.0, 2 * HOUR_S))


def test_a_run_across_midnight_counts_with_what_it_drew_since(tmp_path: Path):
    put(tmp_path, "night", DAY - 1.5 * HOUR_S, 4)
    assert others(tmp_path) == pytest.approx(Amounts(2500.0, 25.0, 2.5, 2.5 * HOUR_S))


def test_the_run_that_asks_does_not_count_itself_and_knows_what_it_drew_before_today(tmp_path: Path):
    put(tmp_path, "own", DAY - 1.5 * HOUR_S, 4)
    assert others(tmp_path) == Amounts()
    before = DayCount(tmp_path, tmp_path / "own", "EUR").own_before(DAY)
    assert before == pytest.approx(Amounts(1500.0, 15.0, 1.5, 1.5 * HOUR_S))


def test_money_of_another_currency_and_folders_that_are_no_runs_do_not_count(tmp_path: Path):
    put(tmp_path, "today", DAY, 1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("no folder")
    damaged = put(tmp_path, "damaged", DAY, 1) / SUMMARY_FILE
    damaged.write_text("{}")
    assert DayCount(tmp_path, tmp_path / "own", "USD").others(DAY) == pytest.approx(
        Amounts(1000.0, 10.0, 0.0, HOUR_S)
    )
    assert others(tmp_path / "nowhere") == Amounts()


def test_only_what_was_written_since_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[Path] = []
    count = DayCount._count
    monkeypatch.setattr(
        DayCount, "_count", lambda self, folder, day_s: read.append(folder) or count(self, folder, day_s)
    )
    put(tmp_path, "a", DAY, 1)
    counting = DayCount(tmp_path, tmp_path / "own", "EUR")
    assert counting.others(DAY).energy_j == 1000.0
    put(tmp_path, "b", DAY, 2)
    assert counting.others(DAY).energy_j == 3000.0
    assert [folder.name for folder in read] == ["a", "b"]
