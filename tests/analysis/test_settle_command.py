"""`carbonmon settle`: what it writes, prints and refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from carbonmon.analysis.compare_regions import compare_regions, place_name, with_elsewhere
from carbonmon.analysis.wrong_region import with_history
from carbonmon.cli import settle
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.ports import GridSource
from carbonmon.grid.regions import resolve
from carbonmon.runs import layout
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.report.details import details_text
from carbonmon.runs.report.impact import statement
from carbonmon.runs.report.markup import readable
from carbonmon.runs.report.other_places import sections
from carbonmon.runs.summaries import summary_of
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.figures import mass_text
from carbonmon.runs.summary.file import write_summary
from carbonmon.runs.summary.validation import fault_of
from carbonmon.service import plugins
from tests.support import gridsources
from tests.support.gridsources import HOUR_S, NOON_S, NoHttp, ScriptedSource, loader
from tests.support.settled_runs import (
    PUE,
    a_snapshot,
    charged,
    cpu_j,
    curve,
    expected_g,
    gpu_j,
    telling,
    write_run,
)
from tests.support.strictness import strict_schema

# The command.


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", 5 * HOUR_S)


@pytest.fixture
def intensity_file(tmp_path: Path) -> Path:
    return write_intensities(tmp_path / "grid.csv", range(6))


def write_intensities(path: Path, hours: range) -> Path:
    rows = [
        f"{NOON_S + hour * HOUR_S:.0f},{NOON_S + (hour + 1) * HOUR_S:.0f},{curve(hour)!r}" for hour in hours
    ]
    path.write_text("\n".join(["start,end,intensity", *rows]))
    return path


def invoke(*arguments: object, environ: Mapping[str, str] | None = None) -> Result:
    words = ["--config", "/dev/null", *map(str, arguments)]
    return CliRunner().invoke(settle.command, words, env={"CARBONMON_CONFIG": None, **(environ or {})})


def summary_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / SUMMARY_FILE).read_bytes())
    return found


def schema() -> dict[str, Any]:
    return strict_schema()


def test_the_settled_figure_stands_beside_the_live_one_which_stays(run_folder: Path, intensity_file: Path):
    before = summary_in(run_folder)
    result = invoke("--intensity-file", intensity_file, "--region", "FR", run_folder)
    assert result.exit_code == 0, result.output
    after = summary_in(run_folder)
    found = after.pop("settled")
    assert after == before
    whole = expected_g(5 * HOUR_S, lambda at_s: gpu_j(at_s) + cpu_j(at_s))
    assert found["emissions_g"] == pytest.approx(whole, rel=1e-5)
    drawn_j = before["energy"]["total_j"]
    assert found["low_g"] / found["emissions_g"] == pytest.approx(before["energy"]["low_j"] / drawn_j)
    assert found["high_g"] / found["emissions_g"] == pytest.approx(before["energy"]["high_j"] / drawn_j)
    assert (found["pue"], found["covered_ratio"]) == (PUE, 1.0)
    mean = found["emissions_g"] / PUE / (drawn_j / JOULES_PER_KWH)
    assert found["intensity"] == {
        "mean_g_per_kwh": pytest.approx(mean),
        "zone": "FR",
        "source": "file grid.csv",
        "basis": None,
        "accounting": None,
        "kind": "fixed",
        "year": None,
        "note": None,
    }
    assert (found["by_uid"], found["region"], found["former"]) == (os.geteuid(), None, [])


def test_what_is_written_obeys_the_summary_s_schema(run_folder: Path, intensity_file: Path):
    assert invoke("--intensity-file", intensity_file, run_folder).exit_code == 0
    jsonschema.validate(
        summary_in(run_folder), schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    assert summary_of(run_folder)["settled"]["covered_ratio"] == 1.0


def test_settling_again_takes_the_place_of_what_was_settled(run_folder: Path, intensity_file: Path):
    assert invoke("--intensity-file", intensity_file, run_folder).exit_code == 0
    first = summary_in(run_folder)["settled"]["emissions_g"]
    intensity_file.write_text(f"start,end,value\n{NOON_S:.0f},{NOON_S + 1e5:.0f},0\n")
    assert invoke("--intensity-file", intensity_file, run_folder).exit_code == 0
    again = summary_in(run_folder)["settled"]
    assert first > again["emissions_g"] == 0.0
    (former,) = again["former"]
    assert (former["emissions_g"], former["by_uid"], former["region"]) == (first, os.geteuid(), None)
    assert former["settled_at"] <= again["settled_at"]
    jsonschema.validate(summary_in(run_folder), schema())
    assert fault_of(summary_in(run_folder)) == "", "it can be read again"


def test_of_many_earlier_results_the_newest_are_kept(run_folder: Path):
    summary = summary_in(run_folder)
    for number in range(25):
        settled = with_history({"emissions_g": float(number), "intensity": {}}, summary, None)
        summary["settled"] = settled
    kept = [former["emissions_g"] for former in summary["settled"]["former"]]
    assert kept == [float(number) for number in range(4, 24)]


# ---- A region that was wrong ----


@pytest.mark.parametrize(
    ("word", "zone", "place"), [("Sweden", "SE", "SE"), ("aws:us-east-1", "US-VA", "aws:us-east-1")]
)
def test_a_wrong_region_is_put_right_with_the_mean_of_the_right_one(
    run_folder: Path, word: str, zone: str, place: str
):
    before = summary_in(run_folder)
    result = invoke("--region", word, run_folder)
    assert result.exit_code == 0, result.output
    after = summary_in(run_folder)
    found = after.pop("settled")
    assert after == before, "the live figure and its region stay"
    intensity = resolve(word).intensity
    kwh = before["energy"]["total_j"] / JOULES_PER_KWH
    assert found["emissions_g"] == pytest.approx(kwh * PUE * intensity.g_per_kwh)
    assert found["region"] == {"given": place, "former": "DE"}
    origin = found["intensity"]
    assert (origin["zone"], origin["kind"], origin["year"]) == (zone, "table", intensity.year)
    assert (origin["source"], origin["basis"]) == (intensity.source, intensity.basis)
    jsonschema.validate(summary_in(run_folder), schema())
    assert f"region      {place} in place of DE" in result.output


def test_a_report_says_that_a_region_was_put_right_and_places_the_run_there(run_folder: Path):
    assert invoke("--region", "SE", run_folder).exit_code == 0
    summary = summary_of(run_folder)
    text = " ".join(details_text(summary).split())
    assert "SE, Ember Yearly Electricity Data via Our World in Data" in text
    assert "annual mean of 2024; SE in place of DE; settled 20" in text
    assert "known for" not in text
    (said, *_) = statement(summary, readable)
    assert "Recalculated with the annual mean of its right region: " in said
    assert place_name(summary) == "Sweden (SE)"
    assert [place.code for place in compare_regions(summary, "DE").places if place.is_own] == ["SE"]
    (section,) = sections(with_elsewhere(summary, "DE"))
    settled_g = summary["settled"]["emissions_g"]
    assert f"As it was settled: {mass_text(settled_g)} CO2e at a mean of 35.8" in section.notes[0]


def test_a_region_can_be_put_right_again_and_each_result_is_kept(run_folder: Path):
    for word in ("SE", "FR"):
        assert invoke("--region", word, run_folder).exit_code == 0
    settled = summary_in(run_folder)["settled"]
    assert settled["region"] == {"given": "FR", "former": "DE"}
    assert [former["region"]["given"] for former in settled["former"]] == ["SE"]
    assert summary_of(run_folder)["settled"] == settled, "and can be read again"


def test_an_unknown_region_is_answered_with_the_nearest_and_nothing_is_written(run_folder: Path):
    before = summary_in(run_folder)
    result = invoke("--region", "Swedn", run_folder)
    assert result.exit_code == 2
    assert "the nearest are SE (Sweden)" in " ".join(result.output.split())
    assert summary_in(run_folder) == before


def test_a_region_of_the_environment_puts_no_run_right(run_folder: Path):
    result = invoke(run_folder, environ={"CARBONMON_REGION": "SE"})
    assert result.exit_code == 2
    assert "where the run's region was wrong, --region PLACE" in " ".join(result.output.split())


def test_a_year_s_mean_has_no_gaps_to_fill(run_folder: Path):
    result = invoke("--region", "SE", "--fill", run_folder)
    assert result.exit_code == 2
    assert "--fill is for gaps" in " ".join(result.output.split())


def test_both_figures_and_their_difference_are_printed(run_folder: Path, intensity_file: Path):
    text = invoke("--intensity-file", intensity_file, run_folder).output
    assert "live" in text
    assert "settled" in text
    assert "file grid.csv, fixed" in text
    shown = json.loads(invoke("--intensity-file", intensity_file, "--format", "json", run_folder).output)
    assert shown["difference_g"] == pytest.approx(
        shown["settled"]["emissions_g"] - shown["live"]["emissions_g"]
    )
    assert f"({100 * abs(shown['difference_ratio']):.1f} %)" in text
    assert shown["phases"].keys() == {"main", "warm-up"}
    assert sum(shown["components"].values()) == pytest.approx(shown["settled"]["emissions_g"])


def test_several_runs_are_settled_at_once(tmp_path: Path, intensity_file: Path):
    for name in ("a", "b"):
        write_run(tmp_path / name, 600.0)
    result = invoke("--intensity-file", intensity_file, "--output", tmp_path, "--format", "json", "a", "b")
    assert [shown["written"] for shown in json.loads(result.output)] == [True, True]


def test_a_hole_is_an_error_that_names_the_times_and_writes_nothing(tmp_path: Path, run_folder: Path):
    path = write_intensities(tmp_path / "short.csv", range(2))
    result = invoke("--intensity-file", path, run_folder)
    assert result.exit_code == 2
    assert "nothing is known of 2026-11-21 14:00:00+00:00 to 2026-11-21 17:00:17+00:00" in result.output
    assert "--fill" in result.output
    assert "settled" not in summary_in(run_folder)


def test_figures_that_know_nothing_of_the_run_settle_nothing_even_with_fill(tmp_path: Path, run_folder: Path):
    path = write_intensities(tmp_path / "other.csv", range(100, 103))
    result = invoke("--intensity-file", path, "--fill", run_folder)
    assert result.exit_code == 2
    assert "100.0 % of the energy was drawn; name a source that knows\n" in result.output
    assert "settled" not in summary_in(run_folder)


def test_with_fill_holes_keep_the_live_figure_and_the_share_is_told(tmp_path: Path):
    folder = write_run(tmp_path / "run", 5 * HOUR_S, live=(100.0, 9000.0, 900.0))
    path = write_intensities(tmp_path / "short.csv", range(2))
    result = invoke("--intensity-file", path, "--fill", folder)
    assert result.exit_code == 0, result.output
    found = summary_in(folder)["settled"]

    def joules(at_s: float) -> float:
        return gpu_j(at_s) + cpu_j(at_s)

    edge_s = 2 * HOUR_S - 17
    live = (100.0, 9000.0, 900.0)
    filled_g = charged(joules, 5 * HOUR_S, live) - charged(joules, edge_s, live)
    assert found["emissions_g"] == pytest.approx(expected_g(edge_s, joules) + filled_g, rel=1e-4)
    assert found["covered_ratio"] == pytest.approx(joules(edge_s) / joules(5 * HOUR_S), rel=1e-3)
    assert found["intensity"]["note"].endswith("% of the energy with the live figure")
    energy, carbon = summary_in(folder)["energy"], summary_in(folder)["carbon"]
    assert found["high_g"] == pytest.approx(
        (found["emissions_g"] - filled_g) * energy["high_j"] / energy["total_j"]
        + filled_g * carbon["high_g"] / carbon["emissions_g"],
        rel=1e-4,
    ), "what keeps the live figure keeps its wider range"


def test_a_killed_run_gets_a_summary_with_what_is_settled(tmp_path: Path, intensity_file: Path):
    folder = write_run(tmp_path / "run", 2 * HOUR_S, killed=True)
    assert not (folder / SUMMARY_FILE).exists()
    assert invoke("--intensity-file", intensity_file, folder).exit_code == 0
    found = summary_in(folder)
    assert found["state"] == "recovered"
    assert found["settled"]["emissions_g"] == pytest.approx(
        expected_g(2 * HOUR_S, lambda at_s: gpu_j(at_s) + cpu_j(at_s)), rel=1e-3
    )


def test_a_run_that_goes_on_is_shown_and_not_written(tmp_path: Path, intensity_file: Path):
    from carbonmon.runs.writer import RunFiles

    folder = write_run(tmp_path / "run", 2 * HOUR_S, killed=True)
    watching = RunFiles(folder, "a boot")
    try:
        result = invoke("--intensity-file", intensity_file, folder)
    finally:
        watching.close()
    assert result.exit_code == 0
    assert "the run still goes on" in result.output
    assert not (folder / SUMMARY_FILE).exists()


def test_a_run_of_which_nothing_was_seen_cannot_be_settled(tmp_path: Path, intensity_file: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    final = a_snapshot(0.0, ended=True)
    write_summary(folder, summarize(final, final.runs[0], "final"))
    result = invoke("--intensity-file", intensity_file, folder)
    assert (result.exit_code, "nothing is known of the run's energy" in result.output) == (2, True), (
        result.output
    )


def test_a_run_without_any_energy_is_settled_to_nothing(tmp_path: Path, intensity_file: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    final = a_snapshot(0.0, ended=True)
    seen = final.runs[0]._replace(duration_s=1.0)
    write_summary(folder, summarize(final, seen, "final"))
    (folder / layout.SERIES_FILE).touch()
    result = invoke("--intensity-file", intensity_file, folder)
    assert result.exit_code == 0, result.output
    found = summary_in(folder)["settled"]
    assert (found["emissions_g"], found["covered_ratio"], found["intensity"]["mean_g_per_kwh"]) == (
        0.0,
        None,
        None,
    )


def figures_of(*sources: ScriptedSource) -> settle.FromGrid:
    return settle.FromGrid([source.name for source in sources], None, loader(*sources), NoHttp())


def test_it_is_settled_with_what_sources_tell_and_the_note_says_who_told_what(run_folder: Path):
    first, second = telling("first", range(3), 100), telling("second", range(9), 200)
    second.basis = "direct"
    found = settle.settle_run(run_folder, figures_of(first, second), fill=False)["settled"]
    assert found["intensity"]["source"] == "first"
    assert found["intensity"]["zone"] == "first-zone"
    assert found["intensity"]["kind"] == "live"
    assert found["intensity"]["note"].startswith("of the energy: ")
    assert "figures of different basis are added" in found["intensity"]["note"]
    assert 100 < found["intensity"]["mean_g_per_kwh"] < 200
    assert found["covered_ratio"] == 1.0


def test_what_is_only_predicted_is_called_so(run_folder: Path):
    first, second = telling("first", range(3), 100), telling("second", range(9), 200, kind="forecast")
    found = settle.settle_run(run_folder, figures_of(first, second), fill=False)["settled"]
    assert found["intensity"]["kind"] == "forecast"
    assert "of the energy with forecasts: settle again" in found["intensity"]["note"]


def test_when_no_source_tells_anything_it_is_no_mistake_of_the_user(run_folder: Path):
    bad = ScriptedSource("bad", says=lambda now_s: FetchError("timeout", "no answer"))
    with pytest.raises(settle.Unreachable, match="bad gave no figures: no answer") as error:
        settle.settle_run(run_folder, figures_of(bad), fill=False)
    assert error.value.exit_code == 1
    assert "settled" not in summary_in(run_folder)


def test_a_marginal_source_is_refused():
    with pytest.raises(ConfigError, match="never a footprint"):
        figures_of(ScriptedSource("watttime", is_marginal=True))


def open_source(settings: object) -> GridSource:
    """What the entry point of the next test names."""
    return telling("told", range(9), 150)


def test_the_command_loads_sources_by_name(run_folder: Path, monkeypatch: pytest.MonkeyPatch):
    from carbonmon.grid import http

    monkeypatch.setitem(
        plugins.OWN["carbonmon.grid"], "told", "tests.analysis.test_settle_command:open_source"
    )
    monkeypatch.setattr(http, "LiveHttp", gridsources.NoHttp)
    result = invoke("--grid", "told:ZZ", run_folder)
    assert result.exit_code == 0, result.output
    assert summary_in(run_folder)["settled"]["intensity"]["mean_g_per_kwh"] == pytest.approx(150)


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ((), {}, "what was the grid like? give --intensity-file FILE, or --grid SOURCE"),
        (("--grid", "uk", "--intensity-file", "x.csv"), {}, "exclude one another"),
        (("--grid", "table"), {}, "'table' is a mean of a year and not what the grid was"),
        (("--grid", "ku"), {}, "there is no 'ku'"),
        (("--intensity-file", "absent.csv"), {"CARBONMON_GRID": "uk"}, "absent.csv: cannot be read"),
        (("--intensity-file", "absent.csv"), {}, "absent.csv: cannot be read"),
    ],
)
def test_a_mistake_in_the_options_is_an_error_with_exit_code_2(
    run_folder: Path, arguments: tuple[str, ...], environ: dict[str, str], expected: str
):
    result = invoke(*arguments, run_folder, environ=environ)
    assert result.exit_code == 2
    assert expected in result.output


@pytest.mark.parametrize("run", ["no-such-run", "x" * 5000])
def test_a_run_that_does_not_exist_is_named(tmp_path: Path, intensity_file: Path, run: str):
    result = invoke("--intensity-file", intensity_file, "--output", tmp_path, run)
    assert result.exit_code == 2
    assert "settle" in result.output
