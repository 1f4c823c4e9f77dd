"""A run's carbon reckoned again: exact where the answer is known, and nothing invented where it is not."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from itertools import count, pairwise, takewhile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from carbonmon.analysis.compare_regions import compare_regions, place_name, with_elsewhere
from carbonmon.analysis.settle import Settlement
from carbonmon.analysis.settle import settle as settled
from carbonmon.analysis.stretches import Stretch, read_stretches
from carbonmon.analysis.wrong_region import with_history
from carbonmon.cli import settle
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.model import JOULES_PER_KWH, Snapshot
from carbonmon.core.ports import GridSource
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.grid.history import history
from carbonmon.grid.regions import resolve
from carbonmon.runs import layout
from carbonmon.runs.checked import RunFileError
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
from tests.support import checkpoints, gridsources, records
from tests.support.gridsources import HOUR_S, NOON_S, NoHttp, ScriptedSource, loader
from tests.support.series import write_series, write_series_1
from tests.support.strictness import strict_schema

PUE = 1.2
START_S = NOON_S + 17.0
"""A run that begins at no round time."""


def curve(hour: int) -> float:
    """What the grid really was, in gCO2e/kWh."""
    return 250.0 + 200.0 * math.sin(hour / 24 * 2 * math.pi) + 7.0 * (hour % 3)


def real(hours: range) -> Timeline:
    start_s = NOON_S
    return Timeline(
        Slot(start_s + hour * HOUR_S, start_s + (hour + 1) * HOUR_S, curve(hour), "fixed") for hour in hours
    )


def gpu_j(seconds: float) -> float:
    """Joules of the GPU: 300 W, with a wave of 100 W and seven hours."""
    wave_s = 7 * HOUR_S / (2 * math.pi)
    return 300.0 * seconds + 100.0 * wave_s * (1 - math.cos(seconds / wave_s))


def cpu_j(seconds: float) -> float:
    """Joules of the package: it idles at 50 W, and draws 170 W in the first third of each 90 minutes."""
    whole, rest = divmod(seconds, 5400.0)
    return 50.0 * seconds + 120.0 * (1800.0 * whole + min(rest, 1800.0))


Live = tuple[float, float, float]
"""The live figure before a second of the run, that second, and the live figure after it."""


def charged(joules: Callable[[float], float], seconds: float, live: Live) -> float:
    """What joules were charged with live until a second of the run, in grams."""
    before, switch_s, after = live
    early_j = joules(min(seconds, switch_s))
    return (early_j * before + (joules(seconds) - early_j) * after) / JOULES_PER_KWH * PUE


def a_snapshot(seconds: float, live: Live = (360.0, 0.0, 360.0), *, ended: bool = False) -> Snapshot:
    """The run after so many seconds: of the GPU's joules the first two hours are `warm-up`."""
    gpu, package = records.gpu(), records.package()

    def early_j(at_s: float) -> float:
        return gpu_j(min(at_s, 2 * HOUR_S))

    def late_j(at_s: float) -> float:
        return gpu_j(at_s) - early_j(at_s)

    rows = [(gpu, "warm-up", early_j), (gpu, "main", late_j), (package, "main", cpu_j)]
    totals = tuple(
        records.run_total(
            device.id,
            device.component,
            "counter",
            joules(seconds),
            phase=phase,
            emissions_g=charged(joules, seconds, live),
        )
        for device, phase, joules in rows
    )
    run = records.run_state(
        None,
        totals,
        power_w=((gpu.id, 300.0), (package.id, 50.0)),
        phases_s=(("main", max(0.0, seconds - 7200)), ("warm-up", min(seconds, 7200.0))),
        duration_s=seconds,
        ended_at_s=START_S + seconds if ended else None,
    )
    run = run._replace(info=_at_start(run.info))
    states = (
        records.device_state(gpu, counter_j=gpu_j(seconds)),
        records.device_state(package, counter_j=cpu_j(seconds)),
    )
    found = records.snapshot(
        (run,), states, now=records.intensity(live[2]), pue_ratio=PUE, sensors=(), exporter_errors=()
    )
    return found._replace(at_s=START_S + seconds)


def _at_start(info: Any) -> Any:
    return info._replace(started_at_s=START_S)


def write_run(
    folder: Path,
    seconds: float,
    *,
    killed: bool = False,
    period_s: float = 60.0,
    outage_s: tuple[float, float] = (0.0, 0.0),
    live: Live = (360.0, 0.0, 360.0),
    version: int = 2,
) -> Path:
    """The folder of a run of so many seconds as its monitor left it; between `outage_s` there was none."""
    folder.mkdir()
    devices = [state.device for state in a_snapshot(0.0).devices]
    moments = [
        a_snapshot(at_s, live)
        for at_s in takewhile(lambda at_s: at_s < seconds, count(5.0, period_s))
        if not outage_s[0] < at_s < outage_s[1]
    ]
    final = a_snapshot(seconds, live, ended=not killed)
    if not killed:
        moments.append(final)
        write_summary(folder, summarize(final, final.runs[0], "final"))
    (folder / layout.RUN_FILE).write_text(layout.run_text(final.runs[0].info, devices))
    checkpoints.write(folder, layout.checkpoint_text(final, final.runs[0], "a boot"))
    if version == 1:
        write_series_1(folder, moments, devices)
    else:
        write_series(folder, moments)
    return folder


def expected_g(seconds: float, joules: Callable[[float], float], start_s: float = 0.0) -> float:
    """Grams in closed form: the joules of each hour of the clock times that hour's intensity."""
    bounds = [start_s, *(hour * HOUR_S - 17.0 for hour in range(1, 200)), seconds]
    bounds = sorted({bound for bound in bounds if start_s <= bound <= seconds})
    grams = 0.0
    for from_s, to_s in pairwise(bounds):
        hour = int((from_s + to_s) / 2 + 17.0) // int(HOUR_S)
        grams += (joules(to_s) - joules(from_s)) / JOULES_PER_KWH * curve(hour) * PUE
    return grams


def grams_of(result: Settlement, phase: str | None = None, component: str | None = None) -> float:
    return sum(
        grams
        for key, grams in result.emissions_g.items()
        if phase in (None, key[0]) and component in (None, key[1])
    )


def settle_folder(
    folder: Path, timeline: Timeline, end_s: float | None = None
) -> tuple[Settlement, list[str]]:
    summary = summary_of(folder)
    ended_s = end_s if end_s is not None else START_S + summary["run"]["duration_s"]
    stretches, remarks = read_stretches(folder, summary, ended_s)
    return settled(stretches, timeline, summary["carbon"]["pue"]), remarks


# How right it is.


@pytest.mark.parametrize("version", [1, 2])
def test_over_a_day_it_is_within_a_fifth_of_a_percent_of_the_closed_form_in_all_parts(
    tmp_path: Path, version: int
):
    seconds = 26 * HOUR_S + 1234.5
    result, remarks = settle_folder(write_run(tmp_path / "run", seconds, version=version), real(range(40)))
    assert remarks == []
    whole = expected_g(seconds, lambda at_s: gpu_j(at_s) + cpu_j(at_s))
    assert grams_of(result) == pytest.approx(whole, rel=0.002)
    assert grams_of(result) == pytest.approx(whole, rel=1e-5), "in fact it is far better than asked for"
    assert grams_of(result, component="gpu") == pytest.approx(expected_g(seconds, gpu_j), rel=1e-4)
    assert grams_of(result, component="cpu") == pytest.approx(expected_g(seconds, cpu_j), rel=1e-4)
    assert grams_of(result, phase="warm-up") == pytest.approx(expected_g(2 * HOUR_S, gpu_j), rel=1e-4)
    assert result.energy_j == pytest.approx(gpu_j(seconds) + cpu_j(seconds), abs=1e-6)
    assert (result.filled_j, result.gaps) == (0.0, [])


def test_with_a_constant_intensity_it_gives_what_the_live_figure_gave(tmp_path: Path):
    folder = write_run(tmp_path / "run", 5000.0)
    result, _ = settle_folder(folder, Timeline([Slot(NOON_S, NOON_S + 1e6, 360.0)]))
    assert grams_of(result) == pytest.approx(summary_of(folder)["carbon"]["emissions_g"], rel=1e-12)


def test_what_was_drawn_while_no_monitor_ran_is_spread_over_the_outage(tmp_path: Path):
    seconds = 10 * HOUR_S
    folder = write_run(tmp_path / "run", seconds, outage_s=(2 * HOUR_S, 6 * HOUR_S))
    stretches, _ = read_stretches(folder, summary_of(folder), START_S + seconds)
    (longest,) = [stretch for stretch in stretches if stretch.end_s - stretch.start_s > 100]
    drawn_j = sum(longest.energy_j.values())
    begun_s, ended_s = longest.start_s - START_S, longest.end_s - START_S
    assert ended_s - begun_s == pytest.approx(4 * HOUR_S, abs=60)
    assert drawn_j == pytest.approx(
        gpu_j(ended_s) + cpu_j(ended_s) - gpu_j(begun_s) - cpu_j(begun_s), abs=0.01
    )
    result, _ = settle_folder(folder, real(range(12)))
    meanwhile = sum(
        overlap * curve(hour)
        for hour in range(12)
        if (overlap := min(ended_s + 17, (hour + 1) * HOUR_S) - max(begun_s + 17, hour * HOUR_S)) > 0
    ) / (ended_s - begun_s)
    expected = drawn_j / JOULES_PER_KWH * meanwhile * PUE + sum(
        expected_g(to_s, lambda at_s: gpu_j(at_s) + cpu_j(at_s), from_s)
        for from_s, to_s in ((0.0, begun_s), (ended_s, seconds))
    )
    assert grams_of(result) == pytest.approx(expected, rel=1e-5)


def test_of_a_killed_run_the_time_between_the_last_line_and_the_checkpoint_counts(tmp_path: Path):
    seconds = 3 * HOUR_S + 50.0
    folder = write_run(tmp_path / "run", seconds, killed=True)
    result, _ = settle_folder(folder, real(range(5)), START_S + seconds)
    assert summary_of(folder)["state"] == "recovered"
    assert result.energy_j == pytest.approx(gpu_j(seconds) + cpu_j(seconds), abs=1e-6)
    whole = expected_g(seconds, lambda at_s: gpu_j(at_s) + cpu_j(at_s))
    assert grams_of(result) == pytest.approx(whole, rel=1e-4)


def test_a_torn_or_damaged_line_makes_a_longer_stretch_and_loses_nothing(tmp_path: Path):
    seconds = 2 * HOUR_S
    folder = write_run(tmp_path / "run", seconds)
    path = folder / layout.SERIES_FILE
    lines = path.read_text().splitlines(keepends=True)
    lines[30] = lines[30][:40] + "\n"
    lines[31] = '{"at_s": null}\n'
    path.write_text("".join(lines) + '{"at_s": 17')
    result, remarks = settle_folder(folder, real(range(5)))
    assert remarks == ["2 damaged lines of the series are left out"]
    assert result.energy_j == pytest.approx(gpu_j(seconds) + cpu_j(seconds), abs=1e-6)
    whole = expected_g(seconds, lambda at_s: gpu_j(at_s) + cpu_j(at_s))
    assert grams_of(result) == pytest.approx(whole, rel=0.002)


def test_without_any_moment_the_run_is_one_stretch_and_the_remark_says_so(tmp_path: Path):
    folder = write_run(tmp_path / "run", 600.0)
    path = folder / layout.SERIES_FILE
    path.write_text("")
    result, remarks = settle_folder(folder, real(range(2)))
    assert "the series is empty" in remarks[0]
    drawn_j = gpu_j(600.0) + cpu_j(600.0)
    assert grams_of(result) == pytest.approx(drawn_j / JOULES_PER_KWH * curve(0) * PUE)


def test_moments_at_which_the_clock_stood_still_are_charged_with_that_moment():
    timeline = Timeline([Slot(0, 10, 100), Slot(10, 20, 500)])
    stretches = [Stretch(10, 10, {("main", "gpu"): JOULES_PER_KWH}, 7.0)]
    assert grams_of(settled(stretches, timeline, 1.0)) == 500
    stretches = [Stretch(20, 20, {("main", "gpu"): JOULES_PER_KWH}, 7.0)]
    result = settled(stretches, timeline, 1.0)
    assert (grams_of(result), result.gaps, result.filled_j) == (7.0, [(20, 20)], JOULES_PER_KWH)


def test_a_stretch_over_slots_and_a_hole_is_split_by_time():
    timeline = Timeline([Slot(0, 10, 100), Slot(20, 30, 400, "forecast")])
    result = settled([Stretch(0, 40, {("a", "gpu"): 2 * JOULES_PER_KWH}, 1000.0)], timeline, 1.5)
    assert grams_of(result) == pytest.approx(2 * 1.5 * (100 + 400 + 2 * 1000) / 4)
    assert result.gaps == [(10, 20), (30, 40)]
    assert result.filled_j == pytest.approx(JOULES_PER_KWH)
    assert result.origins == {("", "live"): JOULES_PER_KWH / 2, ("", "forecast"): JOULES_PER_KWH / 2}


def test_a_hole_in_which_nothing_was_drawn_is_none():
    timeline = Timeline([Slot(0, 10, 100)])
    stretches = [Stretch(0, 10, {("a", "gpu"): 5.0}, 9.0), Stretch(10, 99, {("a", "gpu"): 0.0}, 9.0)]
    assert settled(stretches, timeline, 1.0).gaps == []


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path):
    folder = write_run(tmp_path / "run", 600.0)
    later = a_snapshot(300.0, ended=True)
    with pytest.raises(RunFileError, match=r"the series holds .* J more than the summary"):
        read_stretches(folder, summarize(later, later.runs[0], "final"), START_S + 300)
    summary = summary_of(folder)
    summary["energy"]["devices"][0]["id"] = "GPU-other"
    with pytest.raises(RunFileError, match="the summary does not know it"):
        read_stretches(folder, summary, START_S + 600)


def test_energy_of_the_total_that_is_in_no_phase_is_said(tmp_path: Path):
    folder = write_run(tmp_path / "run", 600.0)
    summary = summary_of(folder)
    summary["energy"]["total_j"] += 5.0
    _, remarks = read_stretches(folder, summary, START_S + 600)
    assert remarks == ["5.000 J of the total are in no phase, and are not settled"]


def test_a_summary_of_an_older_version_without_components_of_phases_is_settled_by_phase(tmp_path: Path):
    folder = write_run(tmp_path / "run", 3 * HOUR_S)
    summary = summary_of(folder)
    for phase in summary["energy"]["phases"].values():
        del phase["components"]
    stretches, _ = read_stretches(folder, summary, START_S + 3 * HOUR_S)
    result = settled(stretches, real(range(4)), PUE)
    assert {component for _, component in result.emissions_g} == {""}
    assert grams_of(result, phase="warm-up") == pytest.approx(expected_g(2 * HOUR_S, gpu_j), rel=1e-4)


# What sources tell of the past.


def telling(name: str, hours: range, value: float, **more: Any) -> ScriptedSource:
    slots = [Slot(NOON_S + h * HOUR_S, NOON_S + (h + 1) * HOUR_S, value, **more) for h in hours]
    return ScriptedSource(name, f"{name}-zone", says=lambda now_s: slots)


def test_a_source_is_asked_only_for_what_those_before_it_do_not_know():
    first, second, third = (
        telling("a", range(3), 10),
        telling("b", range(1, 6), 20),
        telling("c", range(9), 30),
    )
    timeline, remarks = history(
        [first, second, third], NoHttp(), NOON_S + 60, NOON_S + 5 * HOUR_S, NOON_S + 9 * HOUR_S
    )
    assert remarks == []
    assert [(slot.value, slot.note) for slot in timeline.slots] == [(10, "0")] * 3 + [(20, "1")] * 3
    assert second.asked == [NOON_S + 3 * HOUR_S - HOUR_S], "from one slot before the first gap"
    assert third.asked == []


@pytest.mark.parametrize(
    ("answer", "remark"),
    [
        (
            FetchError("http_401", "the key was refused"),
            "bad gave no figures: the key was refused (http_401)",
        ),
        (ValueError("secret"), "bad gave impossible figures (garbage)"),
        (KeyError("secret"), "bad gave no figures: KeyError in its own code (bug)"),
    ],
)
def test_a_source_that_fails_is_remarked_and_the_next_is_asked(answer: BaseException, remark: str):
    bad = ScriptedSource("bad", says=lambda now_s: answer)
    timeline, remarks = history(
        [bad, telling("good", range(2), 5)], NoHttp(), NOON_S, NOON_S + 60, NOON_S + 1e4
    )
    assert remarks == [remark]
    assert timeline.at(NOON_S) is not None


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

    monkeypatch.setitem(plugins.OWN["carbonmon.grid"], "told", "tests.analysis.test_settling:open_source")
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
