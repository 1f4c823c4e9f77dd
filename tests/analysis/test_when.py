"""When to start: the best of all starts, from what is known, and what is not known is said."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.analysis.best_time import BestTime, find_best_time
from carbonmon.cli import main
from carbonmon.core.timeline import Slot, Timeline
from tests.support import gridproviders
from tests.support.gridproviders import NOW_S
from tests.support.gridserver import SECRET, GridServer, Reply

HOUR_S = 3600.0
NOON_S = 1_795_262_400.0


def hourly(*figures: float | None, start_s: float = NOON_S) -> Timeline:
    """A figure for each hour from noon on, None for a gap."""
    return Timeline(
        Slot(start_s + place * HOUR_S, start_s + (place + 1) * HOUR_S, figure, "forecast")
        for place, figure in enumerate(figures)
        if figure is not None
    )


def advice_for(timeline: Timeline, now_s: float, run_h: float, within_h: float) -> BestTime:
    advice = find_best_time(timeline, now_s, run_h * HOUR_S, within_h * HOUR_S)
    assert advice is not None
    return advice


def in_hours(advice: BestTime) -> tuple[float, float]:
    """The best and the worst start, in hours since noon."""
    return (advice.best.start_s - NOON_S) / HOUR_S, (advice.worst.start_s - NOON_S) / HOUR_S


# The best start.


def test_the_best_start_is_where_the_mean_over_the_run_is_lowest():
    advice = advice_for(hourly(200, 300, 100, 100, 400, 400), NOON_S, 2, 4)
    assert in_hours(advice) == (2, 4)
    assert (advice.best.g_per_kwh, advice.worst.g_per_kwh) == (100, 400)
    assert advice.now is not None and advice.now.g_per_kwh == 250
    assert advice.saving_ratio == pytest.approx(0.6)
    assert advice.gaps == []


def test_a_run_may_best_end_where_a_slot_ends_and_start_inside_of_one():
    advice = advice_for(hourly(300, 200, 100, 400), NOON_S, 1.5, 3)
    assert in_hours(advice)[0] == 1.5, "until the hour of 400 begins"
    assert advice.best.g_per_kwh == pytest.approx((0.5 * 200 + 100) / 1.5)


def test_the_latest_start_may_be_best_though_no_slot_begins_there():
    assert in_hours(advice_for(hourly(300, 200, 100, 50, 50), NOON_S + 600, 1, 1.5))[0] == pytest.approx(
        1.5 + 1 / 6
    )


def test_of_starts_that_are_the_same_the_earliest_is_best_and_now_is_best_of_all():
    advice = advice_for(hourly(*[150] * 12), NOON_S + 1234.5, 2, 8)
    assert advice.best == advice.worst == advice.now
    assert advice.best.start_s == NOON_S + 1234.5
    assert advice.saving_ratio == 0


def test_a_grid_without_emissions_saves_nothing():
    assert advice_for(hourly(0, 0, 0), NOON_S, 1, 2).saving_ratio == 0


def test_a_run_that_would_lie_in_a_hole_is_not_compared():
    advice = advice_for(hourly(300, 200, None, 100, 150), NOON_S, 1, 4)
    assert in_hours(advice) == (3, 0)
    assert advice.gaps == [(NOON_S + 2 * HOUR_S, NOON_S + 3 * HOUR_S)]
    before = advice_for(hourly(300, 200, None, 100, 150), NOON_S, 2, 4)
    assert in_hours(before)[0] == 3, "from 1 to 3 nothing is known of the second hour"


def test_a_start_now_that_is_not_known_is_none_and_saves_nobody_knows_what():
    advice = advice_for(hourly(None, 200, 100), NOON_S, 1, 2)
    assert (advice.now, advice.saving_ratio) == (None, None)
    assert in_hours(advice)[0] == 2


def test_a_forecast_that_ends_too_early_leaves_the_starts_that_it_covers():
    advice = advice_for(hourly(300, 200, 100), NOON_S, 1, 24)
    assert in_hours(advice)[0] == 2
    assert advice.gaps == [(NOON_S + 3 * HOUR_S, NOON_S + 25 * HOUR_S)]
    assert find_best_time(hourly(300, 200, 100), NOON_S, 4 * HOUR_S, HOUR_S) is None
    assert find_best_time(Timeline(), NOON_S, HOUR_S, HOUR_S) is None


FIGURES = st.lists(st.one_of(st.none(), st.integers(0, 5000)), min_size=1, max_size=12)


@given(
    figures=FIGURES,
    late_s=st.integers(-7200, 7200),
    run_s=st.integers(60, 30_000),
    within_s=st.integers(0, 30_000),
    ratio=st.floats(0, 1),
)
def test_no_start_is_better_or_worse_than_those_that_are_told(
    figures: Sequence[float | None], late_s: int, run_s: int, within_s: int, ratio: float
):
    timeline = hourly(*figures)
    now_s = NOON_S + late_s
    start_s = now_s + ratio * within_s
    is_known = not timeline.gaps(start_s, start_s + run_s)
    advice = find_best_time(timeline, now_s, run_s, within_s)
    if advice is None:
        assert not is_known
        return
    for start in filter(None, (advice.best, advice.worst, advice.now)):
        assert now_s <= start.start_s <= now_s + within_s
        gaps = timeline.gaps(start.start_s, start.start_s + run_s)
        assert sum(end_s - from_s for from_s, end_s in gaps) < 0.01
        mean = timeline.mean(start.start_s, start.start_s + run_s, lambda *_: 0.0)
        assert start.g_per_kwh == pytest.approx(mean, rel=1e-3, abs=1e-3)
    if is_known:
        mean = timeline.mean(start_s, start_s + run_s, lambda *_: 0.0)
        assert advice.best.g_per_kwh <= mean + 0.01 and mean <= advice.worst.g_per_kwh + 0.01
    if advice.saving_ratio is not None:
        assert 0 <= advice.saving_ratio <= 1


def test_a_year_of_minutes_is_compared_at_once():
    timeline = Timeline(
        Slot(NOON_S + place * 60, NOON_S + (place + 1) * 60, float(place * 7919 % 500))
        for place in range(100_000)
    )
    advice = advice_for(timeline, NOON_S, 24, 24 * 60)
    assert 0 < advice.best.g_per_kwh <= advice.worst.g_per_kwh < 500


# The command.


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without options of anybody, at NOW_S."""
    monkeypatch.setattr("carbonmon.cli.when.time", lambda: NOW_S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("CARBONMON_GRID", "CARBONMON_REGION", "CARBONMON_INTENSITY_FILE", "CARBONMON_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def when(*arguments: object, **environ: str) -> Result:
    runner = CliRunner()
    return runner.invoke(main, ["when", *map(str, arguments)], env=environ)


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def a_file(folder: Path, *figures: float) -> Path:
    """A figure for each hour, from the one that has begun."""
    first_s = NOW_S // HOUR_S * HOUR_S
    lines = ["time,value"]
    for place, figure in enumerate(figures):
        start = datetime.fromtimestamp(first_s + place * HOUR_S, tz=timezone.utc)
        lines.append(f"{start:%Y-%m-%dT%H:%MZ},{figure}")
    path = folder / "grid.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def grid(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GridServer]:
    """A server that stands for a provider, whose `answer` the test chooses."""
    with GridServer() as server:
        for name in ("ELECTRICITYMAPS", "UK", "RTE", "DK", "WATTTIME"):
            monkeypatch.setenv(f"CARBONMON_{name}_URL", server.url)
        monkeypatch.setenv("CARBONMON_ELECTRICITYMAPS_TOKEN", SECRET)
        monkeypatch.setenv("CARBONMON_WATTTIME_USERNAME", "ada")
        monkeypatch.setenv("CARBONMON_WATTTIME_PASSWORD", SECRET)
        yield server


def test_a_file_shows_the_best_start_the_worst_and_what_waiting_saves(nowhere: Path):
    path = a_file(nowhere, 400, 300, 200, 100, 100, 100, 200, 500, 500, 500)
    found = document(when("--for", 2, "--within", 6, "--intensity-file", path, "--format", "json"))
    first_s = NOW_S // HOUR_S * HOUR_S
    assert found["schema"] == "carbonmon.when/1"
    assert found["best"]["mean_g_per_kwh"] == pytest.approx(100)
    assert found["best"]["start"] == rfc3339(first_s + 3 * HOUR_S)
    local = datetime.fromisoformat(found["best"]["start_local"])
    assert local.timestamp() == first_s + 3 * HOUR_S and local.tzinfo is not None
    assert found["best"]["wait_s"] == 3 * HOUR_S - 2400
    assert found["now"]["mean_g_per_kwh"] == pytest.approx((400 / 3 + 300 + 200 * 2 / 3) / 2)
    assert found["saving_ratio"] == pytest.approx(1 - 100 / found["now"]["mean_g_per_kwh"])
    assert found["worst"]["mean_g_per_kwh"] >= found["now"]["mean_g_per_kwh"]
    assert (found["source"], found["marginal"], found["unknown"]) == ("file grid.csv", False, [])


def rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def test_the_text_names_both_times_the_saving_and_the_source(nowhere: Path):
    result = when("--for", 1, "--within", 3, "--intensity-file", a_file(nowhere, 400, 400, 100, 400, 400))
    assert result.exit_code == 0, result.output
    best, now, worst, saving, source = result.stdout.splitlines()
    assert re.fullmatch(
        r"best   \w{3} \d{4}-\d\d-\d\d \d\d:00[+-]\d\d:\d\d  100 gCO2e/kWh  in .* min.*", best
    )
    assert re.search(r"  400 gCO2e/kWh$", now) and re.search(r"  400 gCO2e/kWh  now$", worst)
    assert saving == "saving  75.0 % of the emissions of starting now"
    assert source == "source  file grid.csv"


def test_where_waiting_saves_nothing_the_text_says_to_start(nowhere: Path):
    result = when("--for", 1, "--within", 2, "--intensity-file", a_file(nowhere, 100, 100, 200, 300))
    assert "saving  none: start now\n" in result.stdout
    assert result.stdout.splitlines()[0].endswith("100 gCO2e/kWh  now")


def test_where_the_figures_end_is_said(nowhere: Path):
    path = a_file(nowhere, 400, 300, 200)
    found = document(when("--for", 1, "--within", 24, "--intensity-file", path, "--format", "json"))
    (unknown,) = found["unknown"]
    end_s = NOW_S // HOUR_S * HOUR_S + 3 * HOUR_S
    assert unknown["from"] == rfc3339(end_s)
    start, end = (
        f"{datetime.fromtimestamp(s, tz=timezone.utc):%Y-%m-%dT%H:%MZ}" for s in (end_s - HOUR_S, end_s)
    )
    assert found["notes"] == [f"the figures end at {end}: no start after {start} was compared"]
    assert found["best"]["start"] == rfc3339(end_s - HOUR_S)


def test_figures_that_are_too_few_for_the_run_are_an_error(nowhere: Path):
    result = when("--for", 30, "--within", 24, "--intensity-file", a_file(nowhere, 400, 300))
    assert result.exit_code == 1
    assert "no run of 30 h 00 min lies within them" in result.output


def test_the_uk_forecast_is_asked_for_the_whole_stretch(grid: GridServer):
    grid.answer = gridproviders.Uk()
    found = document(when("--for", 3, "--within", 12, "--grid", "uk:13", "--format", "json"))
    assert (found["source"], found["zone"], found["basis"]) == ("uk", "13", "direct")
    assert found["unknown"] == [] and found["notes"] == []
    assert (
        found["best"]["mean_g_per_kwh"] <= found["now"]["mean_g_per_kwh"] <= found["worst"]["mean_g_per_kwh"]
    )
    (path,) = grid.paths
    assert path.startswith("/regional/intensity/") and path.endswith("/regionid/13")


def test_a_forecast_that_begins_with_the_next_hour_gets_this_hours_figure_before_it(grid: GridServer):
    grid.answer = gridproviders.ElectricityMaps()
    found = document(
        when("--for", 2, "--within", 6, "--grid", "electricitymaps", "--region", "DE", "--format", "json")
    )
    assert found["now"] is not None and found["unknown"] == []
    assert grid.paths == ["/carbon-intensity/forecast", "/carbon-intensity/latest"]


def test_without_this_hours_figure_the_saving_is_unknown_and_not_0(grid: GridServer):
    inner = gridproviders.ElectricityMaps()
    grid.answer = lambda request: Reply({}, 500) if request.path.endswith("latest") else inner(request)
    arguments = ("--for", 2, "--within", 6, "--grid", "electricitymaps:DE")
    found = document(when(*arguments, "--format", "json"))
    assert (found["now"], found["saving_ratio"]) == (None, None)
    assert "what a start now would cause is not known" in found["notes"]
    text = when(*arguments).stdout
    assert "\nnow" not in text and "saving" not in text and "note    what a start now" in text


def test_marginal_intensity_is_said_to_be_advice_and_never_a_footprint(grid: GridServer):
    grid.answer = gridproviders.WattTime()
    arguments = ("--for", 1, "--within", 20, "--grid", "watttime:CAISO_NORTH")
    result = when(*arguments)
    assert "source  watttime:CAISO_NORTH, marginal" in result.stdout
    assert re.search(
        r"note    this is the marginal intensity.*advice on when to run, never a footprint",
        " ".join(result.stdout.split(" ")).replace("\n       ", ""),
    )
    found = document(when(*arguments, "--format", "json"))
    assert found["marginal"] is True and (found["basis"], found["accounting"]) == (None, None)
    assert found["unknown"] == []


def test_the_first_source_with_a_forecast_is_taken_and_the_others_failures_are_told(grid: GridServer):
    inner = gridproviders.Dk()
    grid.answer = lambda request: inner(request) if "dataset" in request.path else Reply({}, 403)
    chain = "electricitymaps:DE,rte,dk:DK1,uk,table"
    result = when("--for", 1, "--within", 24, "--grid", chain, "--format", "json")
    found = document(result)
    assert (found["source"], found["zone"], found["accounting"]) == ("dk", "DK1", "consumption")
    assert found["notes"][:2] == [
        "electricitymaps:DE has no forecast: 127.0.0.1: the key may not ask for this (http_403)",
        "rte:FR has no forecast: rte offers no forecast (unsupported)",
    ]
    assert found["notes"][2].startswith("the figures end at "), "Denmark looks nine hours ahead"
    assert SECRET not in result.output


def test_where_no_source_has_a_forecast_all_reasons_are_told(grid: GridServer):
    result = when("--for", 1, "--within", 24, "--grid", "rte,uk")
    assert result.exit_code == 1
    assert (
        "rte:FR has no forecast: rte offers no forecast (unsupported); uk:GB has no forecast: "
        in result.output
    )
    assert "(http_404)" in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--for", "1"), "--within HOURS is missing: How long it may wait"),
        (("--for", "0", "--within", "1", "--grid", "uk"), "--for: '0' is not a time in hours"),
        (("--for", "nan", "--within", "1", "--grid", "uk"), "--for: 'nan' is not a time in hours"),
        (("--for", "1", "--within", "-1", "--grid", "uk"), "--within: '-1' is not a time in hours"),
        (("--for", "1", "--within", "1e9", "--grid", "uk"), "--within: '1e9' is not a time in hours"),
        (("--for", "1", "--within", "2"), "give --grid SOURCE"),
        (("--for", "1", "--within", "2", "--grid", "table"), "give --grid SOURCE"),
        (("--for", "1", "--within", "2", "--grid", "uk", "--region", "FR"), "uk covers Great Britain only"),
        (("--for", "1", "--within", "2", "--grid", "nosuch"), "there is no 'nosuch'"),
        (("--for", "1", "--within", "2", "--grid", "electricitymaps"), "electricitymaps needs a place"),
        (("--for", "1", "--within", "2", "--grid", "electricitymaps:DE"), "CARBONMON_ELECTRICITYMAPS_TOKEN"),
        (("--for", "1", "--within", "2", "--intensity-file", "nosuch.csv"), "nosuch.csv: cannot be read"),
        (("--for", "1", "--within", "2", "--grid", "uk", "--intensity-file", "x.csv"), "exclude one another"),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(arguments: Sequence[str], problem: str, nowhere: Path):
    result = when(*arguments)
    assert result.exit_code == 2
    assert problem in result.output.replace("\n", " ")


def test_the_command_line_goes_before_the_environment(grid: GridServer, nowhere: Path):
    grid.answer = gridproviders.Uk()
    path = a_file(nowhere, 100, 100, 100, 100)
    base = ("--for", 1, "--within", 1, "--format", "json")
    assert document(when(*base, "--grid", "uk", CARBONMON_INTENSITY_FILE=str(path)))["source"] == "uk"
    assert document(when(*base, "--intensity-file", path, CARBONMON_GRID="uk"))["source"] == "file grid.csv"
    assert document(when(*base, CARBONMON_GRID="uk"))["source"] == "uk"
