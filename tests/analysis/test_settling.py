"""A run's carbon reckoned again: exact where the answer is known, and nothing invented where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.analysis.settle import Settlement
from carbonmon.analysis.settle import settle as settled
from carbonmon.analysis.stretches import Stretch, read_stretches
from carbonmon.core.errors import FetchError
from carbonmon.core.model import JOULES_PER_KWH
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.grid.history import history
from carbonmon.runs import layout
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.summaries import summary_of
from carbonmon.runs.summary.document import summarize
from tests.support.gridsources import HOUR_S, NOON_S, NoHttp, ScriptedSource
from tests.support.settled_runs import (
    PUE,
    START_S,
    a_snapshot,
    cpu_j,
    curve,
    expected_g,
    gpu_j,
    telling,
    write_run,
)


def real(hours: range) -> Timeline:
    start_s = NOON_S
    return Timeline(
        Slot(start_s + hour * HOUR_S, start_s + (hour + 1) * HOUR_S, curve(hour), "fixed") for hour in hours
    )


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
