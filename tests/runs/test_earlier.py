"""Files of earlier releases, as reports show them now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carbonmon.runs.layout import run_text
from carbonmon.runs.reader import read_checkpoint, read_run
from carbonmon.runs.report.earlier import as_now
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.text import table_text
from tests.support.records import run_state, snapshot

FIXTURES = Path(__file__).parents[1] / "fixtures"


def summary_of(release: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / release / "ended/summary.json").read_text())
    return found


def test_a_device_line_of_0_1_shows_the_run_s_power_beside_the_run_s_energy():
    old = summary_of("runs-0.1.0")
    (package,) = [each for each in old["energy"]["devices"] if each["id"] == "package-0"]
    assert package["mean_power_w"] > 100, "the device's, whoever used it"
    (line,) = [line for line in table_text(as_now(old)).splitlines() if "package-0" in line][:1]
    own_w = package["energy_j"] / old["run"]["duration_s"]
    assert f"{package['energy_j'] / 1000:.3f} kJ" in line
    assert f"mean {own_w:.2f} W" in line


def test_a_later_release_s_figures_stay_as_they_are():
    summary = summary_of("runs-0.2.0")
    assert as_now(summary) == summary


@pytest.mark.parametrize("release", ["runs-0.1.0", "runs-0.2.0"])
@pytest.mark.parametrize("run", ["ended", "estimated", "killed"])
def test_a_run_of_every_release_is_read_and_written_again_as_it_was(release: str, run: str):
    folder = FIXTURES / release / run
    run_before = read_checkpoint(folder).snapshot.runs[0]
    assert sum(row.energy_j for row in run_before.totals) > 0.0
    info, devices = read_run(folder)
    specs = [each["spec"] for each in json.loads((folder / "run.json").read_text())["devices"]]
    assert [each["spec"] for each in json.loads(run_text(info, devices))["devices"]] == specs


def test_a_zero_of_which_nothing_was_seen_is_shown_as_unknown():
    shown = snapshot((run_state(),))
    summary = summarize(shown, shown.runs[0], "final")
    for key in ("total_j", "total_kwh", "low_j", "high_j"):
        summary["energy"][key] = 0.0
    summary["carbon"] |= {"emissions_g": 0.0, "low_g": 0.0, "high_g": 0.0}
    text = table_text(as_now(summary))
    assert "energy     unknown: no sensor gave a reading" in text
    assert "emissions  unknown" in text
    assert " 0 J" not in text and " 0 g" not in text


def test_a_zero_that_was_seen_stays_zero():
    summary = summary_of("runs-0.2.0")
    summary["energy"] |= {"total_j": 0.0, "low_j": 0.0, "high_j": 0.0, "measured_ratio": None}
    assert as_now(summary)["energy"]["total_j"] == pytest.approx(0.0)
