"""Live sources: which of them speaks for a moment, when each is asked, and that no answer ever waits."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.model import Intensity
from carbonmon.core.ports import GridSource, IntensitySettings
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.grid import live, refresh
from carbonmon.grid.cache import Cache
from carbonmon.grid.chain import SourceChain, SourceFigures
from carbonmon.grid.default_intensity import region_or_world
from carbonmon.grid.refresh import Refresher
from tests.support.gridsources import HOUR_S, NOON_S, NoHttp, ScriptedSource, WallClock, hour_of, loader
from tests.support.rows import for_each_row

TABLE = region_or_world("FR").intensity
MINUTE_S = 60.0


def a_refresher(
    *sources: GridSource,
    clock: WallClock | None = None,
    folder: Path | None = None,
    spread_ratio: float = 0.0,
) -> Refresher:
    return Refresher(sources, NoHttp(), Cache(folder), clock or WallClock(), TABLE, spread_ratio)


def timeout(now_s: float) -> BaseException:
    return FetchError("timeout", "no answer within 10 s")


def until(end_s: float, then: Callable[[float], object] = timeout) -> Callable[[float], Sequence[Slot]]:
    """Says the hour's slot until a Unix time, and something else later."""
    return lambda now_s: hour_of(now_s) if now_s < end_s else then(now_s)  # type: ignore[return-value]


def look(refresher: Refresher, clock: WallClock, to_s: float) -> None:
    """Let time pass as the thread would see it."""
    next_s = refresher.step()
    while next_s <= to_s:
        assert next_s > clock.time_s
        clock.time_s = next_s
        next_s = refresher.step()
    clock.time_s = to_s


# Which source speaks.


def test_the_first_source_with_a_figure_in_force_speaks_for_the_moment():
    clock = WallClock(NOON_S + 10)
    first, second = ScriptedSource("first", "A"), ScriptedSource("second", "B")
    refresher = a_refresher(first, second, clock=clock)
    refresher.step()
    now = refresher.chain.at(clock()).intensity
    assert now == Intensity(100, 100, 100, "A", "first", "live", "lifecycle", "consumption", None, NOON_S)
    assert second.asked == [], "nobody asks for what nobody needs"


def test_a_slot_that_was_predicted_is_called_a_forecast_and_its_note_is_kept():
    said = [Slot(NOON_S, NOON_S + HOUR_S, 80, "forecast", "estimated from the hour before")]
    refresher = a_refresher(ScriptedSource(says=lambda now_s: said))
    refresher.step()
    now = refresher.chain.at(NOON_S).intensity
    assert (now.kind, now.note) == ("forecast", "estimated from the hour before")


def test_a_silent_source_is_stale_for_two_hours_then_the_next_speaks_and_it_comes_back():
    clock = WallClock(NOON_S)
    first = ScriptedSource("first", says=until(NOON_S + 1))
    second = ScriptedSource("second")
    refresher = a_refresher(first, second, clock=clock)
    seen = {}
    for minute in range(0, 5 * 60, 5):
        look(refresher, clock, NOON_S + minute * MINUTE_S)
        now = refresher.chain.at(clock()).intensity
        seen[minute] = (now.source, now.kind)
        if minute == 4 * 60:
            first.says = hour_of
    assert {minute for minute, found in seen.items() if found == ("first", "live")} >= set(range(0, 61, 5))
    assert all(seen[minute] == ("first", "stale") for minute in range(65, 180, 5))
    assert all(seen[minute] == ("second", "live") for minute in range(180, 241, 5))
    assert seen[295] == ("first", "live"), "the first source answers again, at most an hour later"


def test_while_the_first_source_is_stale_the_next_is_asked_so_that_it_can_follow_at_once():
    clock = WallClock(NOON_S)
    first, second = ScriptedSource("first", says=until(NOON_S + 1)), ScriptedSource("second")
    refresher = a_refresher(first, second, clock=clock)
    look(refresher, clock, NOON_S + 2 * HOUR_S)
    assert second.asked
    two_hours_old = NOON_S + HOUR_S + 7200
    assert refresher.chain.at(two_hours_old - 0.01).intensity.kind == "stale"
    look(refresher, clock, two_hours_old)
    now = refresher.chain.at(two_hours_old).intensity
    assert (now.source, now.note) == ("second", "first had no figure")


def test_without_any_figure_the_annual_one_of_the_region_stands_in_and_says_why():
    refresher = a_refresher(ScriptedSource("first", "A", timeout), ScriptedSource("second", "B", timeout))
    refresher.step()
    now = refresher.chain.at(NOON_S).intensity
    assert now == TABLE._replace(note=now.note)
    assert now.note.startswith("first:A and second:B had no figure")


def test_before_a_source_was_asked_it_is_not_said_to_have_had_no_figure():
    refresher = a_refresher(ScriptedSource("first", "A", timeout))
    assert refresher.chain.at(NOON_S).intensity.note.startswith(
        "first:A not asked yet: the annual figure stands in"
    )


def test_a_figure_older_than_two_hours_never_speaks():
    old = [Slot(NOON_S - 4 * HOUR_S, NOON_S - 2 * HOUR_S, 5)]
    refresher = a_refresher(ScriptedSource(says=lambda now_s: old))
    refresher.step()
    assert refresher.chain.at(NOON_S).intensity.kind == "table"


def test_a_source_that_publishes_late_is_live_for_as_long_as_it_uses_to_be_late():
    said = [Slot(NOON_S - 900, NOON_S, 40)]
    refresher = a_refresher(ScriptedSource(says=lambda now_s: said, slot_s=900, lag_s=3600))
    refresher.step()
    kinds = [
        refresher.chain.at(NOON_S + minute * MINUTE_S).intensity.kind for minute in (0, 59, 60, 119, 120)
    ]
    assert kinds == ["live", "live", "stale", "stale", "table"]


# The mean over a stretch.


def a_chain() -> SourceChain:
    slots = [Slot(NOON_S, NOON_S + HOUR_S, 100), Slot(NOON_S + HOUR_S, NOON_S + 2 * HOUR_S, 300)]
    return SourceChain([SourceFigures(Timeline(slots), "first", "A")], TABLE, "first had no figure")


def test_the_mean_is_exact_over_slots_a_stale_part_and_the_annual_figure():
    mean = a_chain().mean(NOON_S + 0.5 * HOUR_S, NOON_S + 5 * HOUR_S)
    total = 0.5 * 100 + 1 * 300 + 2 * 300 + 1 * TABLE.g_per_kwh
    assert mean.g_per_kwh == pytest.approx(total / 4.5)
    assert mean.low_g_per_kwh == pytest.approx(mean.g_per_kwh)
    assert (mean.kind, mean.source) == ("stale", "first"), "for two hours of four and a half"
    assert mean.note.endswith(f"in part live (first), table ({TABLE.source})")


def test_the_mean_is_named_after_what_was_in_force_for_most_of_it():
    mean = a_chain().mean(NOON_S - 0.5 * HOUR_S, NOON_S + HOUR_S)
    assert mean.g_per_kwh == pytest.approx((0.5 * TABLE.g_per_kwh + 100) / 1.5)
    assert (mean.kind, mean.timestamp_s) == ("live", NOON_S)
    assert mean.note == f"in part table ({TABLE.source})"


def test_a_long_silence_at_the_annual_figure_does_not_count_as_live_for_its_last_minutes():
    mean = a_chain().mean(NOON_S - 8 * HOUR_S, NOON_S + 600)
    assert mean.g_per_kwh == pytest.approx((8 * TABLE.g_per_kwh + 100 / 6) / (8 + 1 / 6))
    assert (mean.kind, mean.source, mean.timestamp_s) == ("table", TABLE.source, None)
    assert mean.note.endswith("in part live (first)")


def test_the_mean_within_a_slot_and_of_no_time_is_the_figure_itself():
    chain = a_chain()
    assert chain.mean(NOON_S + 1, NOON_S + 2) is chain.at(NOON_S + 5).intensity
    assert chain.mean(NOON_S + 7, NOON_S + 7) == chain.at(NOON_S + 7).intensity


def test_past_slots_are_kept_for_two_days_so_that_a_long_silence_is_charged_exactly():
    clock = WallClock(NOON_S)
    refresher = a_refresher(ScriptedSource(), clock=clock)
    look(refresher, clock, NOON_S + 72 * HOUR_S)
    chain = refresher.chain
    mean = chain.mean(NOON_S + 30 * HOUR_S, NOON_S + 60 * HOUR_S)
    assert mean.g_per_kwh == pytest.approx(sum(100 + hour for hour in range(30, 60)) / 30)
    assert len(chain.sources[0].timeline.slots) <= 50


# When a source is asked.


def test_a_source_is_asked_once_a_slot():
    clock = WallClock(NOON_S + 1234)
    source = ScriptedSource()
    refresher = a_refresher(source, clock=clock)
    look(refresher, clock, NOON_S + 24 * HOUR_S + 30)
    assert source.asked == [NOON_S + 1234, *(NOON_S + hour * HOUR_S for hour in range(1, 25))]


def test_nodes_ask_at_different_moments_after_a_slot_and_the_figure_stays_in_force_meanwhile():
    asked = set()
    for node in range(20):
        clock, source = WallClock(NOON_S + 1), ScriptedSource()
        refresher = a_refresher(source, clock=clock, spread_ratio=node / 20)
        look(refresher, clock, NOON_S + HOUR_S - 1)
        assert len(source.asked) == 1
        assert refresher.chain.at(NOON_S + HOUR_S + 60).intensity.kind == "live"
        look(refresher, clock, NOON_S + HOUR_S + 60)
        asked.add(source.asked[-1])
    assert len(asked) == 20
    assert min(asked) == NOON_S + HOUR_S
    assert max(asked) <= NOON_S + HOUR_S + 60


def test_a_process_s_place_among_others_is_its_own_and_stays():
    assert 0 <= refresh.own_spread_ratio() <= 1
    assert refresh.own_spread_ratio() == refresh.own_spread_ratio()


def test_a_source_that_publishes_late_is_asked_about_once_a_slot_not_at_every_look():
    """Each quarter of an hour is known 50 minutes after its end."""

    def late(now_s: float) -> list[Slot]:
        end_s = (now_s - 3000) // 900 * 900
        return [Slot(end_s - 900, end_s, 50)]

    clock, source = WallClock(NOON_S), ScriptedSource(says=late, slot_s=900, lag_s=3000 + 900 + 300)
    refresher = a_refresher(source, clock=clock)
    for hour in range(1, 25):
        look(refresher, clock, NOON_S + hour * HOUR_S)
        assert refresher.chain.at(clock()).intensity.kind == "live"
    assert 96 <= len(source.asked) <= 140


def test_a_source_that_has_nothing_new_for_long_is_asked_more_and_more_rarely():
    said = [Slot(NOON_S - HOUR_S, NOON_S, 50)]
    clock, source = WallClock(NOON_S), ScriptedSource(says=lambda now_s: said, slot_s=300)
    refresher = a_refresher(source, clock=clock)
    look(refresher, clock, NOON_S + 24 * HOUR_S)
    assert len(source.asked) < 40
    gaps = [later - earlier for earlier, later in pairwise(source.asked)]
    assert max(gaps) <= HOUR_S


def test_after_errors_a_source_is_left_alone_for_30_s_and_twice_as_long_each_time_up_to_an_hour():
    clock, source = WallClock(), ScriptedSource(says=timeout)
    refresher = a_refresher(source, clock=clock)
    look(refresher, clock, NOON_S + 8 * HOUR_S)
    gaps = [later - earlier for earlier, later in pairwise(source.asked)]
    assert gaps[:9] == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert refresher.errors == (("good", "timeout", len(source.asked)),)


def test_success_resets_the_pause():
    clock = WallClock()
    answers = iter([timeout(0), timeout(0), hour_of(NOON_S), timeout(0), timeout(0)])
    source = ScriptedSource(says=lambda now_s: next(answers))
    refresher = a_refresher(source, clock=clock)
    look(refresher, clock, NOON_S + HOUR_S + 30)
    assert source.asked == [NOON_S + second for second in (0, 30, 90, 3600, 3630)]


@pytest.mark.parametrize(
    ("retry_after_s", "pause_s"),
    [(600.0, 600.0), (5.0, 30.0), (-1.0, 30.0), (1e12, 86_400.0), (float("nan"), 30.0), (None, 30.0)],
)
def test_a_source_is_left_alone_for_as_long_as_it_asks_but_not_for_ever(
    retry_after_s: float | None, pause_s: float
):
    source = ScriptedSource(says=lambda now_s: FetchError("http_429", "too many requests", retry_after_s))
    clock = WallClock()
    refresher = a_refresher(source, clock=clock)
    refresher.step()
    clock.time_s = NOON_S + pause_s - 1
    refresher.step()
    assert len(source.asked) == 1
    clock.time_s = NOON_S + pause_s
    refresher.step()
    assert len(source.asked) == 2


def test_a_machine_that_slept_finds_its_slots_ended_and_asks_at_once():
    clock, source = WallClock(), ScriptedSource()
    refresher = a_refresher(source, clock=clock)
    refresher.step()
    clock.time_s = NOON_S + 10 * HOUR_S
    assert refresher.chain.at(clock()).intensity.kind == "table"
    refresher.step()
    assert refresher.chain.at(clock()).intensity.g_per_kwh == 110


@pytest.mark.parametrize("says", [hour_of, timeout])
def test_a_clock_that_was_set_back_by_years_stops_nothing(says: Callable[[float], Sequence[Slot]]):
    clock, source = WallClock(NOON_S + 1e8), ScriptedSource(says=says)
    refresher = a_refresher(source, clock=clock)
    refresher.step()
    clock.time_s = NOON_S
    source.says = hour_of
    refresher.step()
    assert refresher.chain.at(NOON_S).intensity.g_per_kwh == 100


# What goes wrong.


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (FetchError("http_500", "HTTP 500"), "http_500"),
        (FetchError("It's 5 o'clock!", "odd"), "other"),
        (ValueError("secret-token"), "bug"),
        (SystemExit(1), "bug"),
        ([], "empty"),
        ([Slot(NOON_S + 96 * HOUR_S, NOON_S + 97 * HOUR_S, 5)], "empty"),
        ([Slot(NOON_S, NOON_S + HOUR_S, -1)], "garbage"),
        ([Slot(NOON_S, NOON_S + HOUR_S, 5001)], "garbage"),
        ([Slot(NOON_S, NOON_S + HOUR_S, float("nan"))], "garbage"),
        ([Slot(NOON_S, NOON_S, 5)], "garbage"),
        ([Slot(NOON_S, NOON_S + 9, 5), Slot(NOON_S, NOON_S + 8, 6)], "garbage"),
        ([Slot(NOON_S, NOON_S + 9, 5, "measured")], "garbage"),
        ([(NOON_S, NOON_S + 9)], "garbage"),
        ("nonsense", "garbage"),
        (None, "garbage"),
    ],
)
def test_whatever_a_source_does_is_counted_by_reason_and_the_next_is_asked(
    answer: object, reason: str, caplog: pytest.LogCaptureFixture
):
    bad = ScriptedSource("bad", says=lambda now_s: answer)  # type: ignore[arg-type,return-value]
    refresher = a_refresher(bad, ScriptedSource("good"))
    with caplog.at_level(logging.DEBUG):
        refresher.step()
    assert refresher.errors == (("bad", reason, 1),)
    assert refresher.chain.at(NOON_S).intensity.source == "good"
    assert "secret-token" not in caplog.text


def test_an_error_is_logged_once_while_it_lasts_and_so_is_its_end(caplog: pytest.LogCaptureFixture):
    clock = WallClock()
    source = ScriptedSource("uk", "13", says=timeout)
    refresher = a_refresher(source, clock=clock)
    with caplog.at_level(logging.INFO):
        look(refresher, clock, NOON_S + 3 * HOUR_S)
        source.says = hour_of
        look(refresher, clock, NOON_S + 8 * HOUR_S)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "grid: uk:13: no answer within 10 s (timeout); asking again in 30 s",
        "grid: no live figure: the annual one of FR is used",
        "grid: uk:13 answers again",
        "grid: the figures are now those of uk:13",
    ]


# What is on disk.


def test_ten_runs_in_an_hour_ask_once(tmp_path: Path):
    clock = WallClock(NOON_S)
    sources = []
    for run in range(10):
        clock.time_s = NOON_S + 300 * run + 1
        source = ScriptedSource()
        refresher = a_refresher(source, clock=clock, folder=tmp_path)
        look(refresher, clock, clock() + 200)
        assert refresher.chain.at(clock()).intensity.g_per_kwh == 100
        sources.append(source)
    assert [len(source.asked) for source in sources] == [1] + [0] * 9


def test_of_runs_at_the_same_time_one_asks_for_the_next_slot_and_the_others_read_its_answer(tmp_path: Path):
    clock = WallClock(NOON_S)
    sources = [ScriptedSource() for _ in range(10)]
    runs = [
        a_refresher(source, clock=clock, folder=tmp_path, spread_ratio=place / 10)
        for place, source in enumerate(sources)
    ]
    for second in range(0, 3 * int(HOUR_S), 3):
        clock.time_s = NOON_S + second
        for run in runs:
            run.step()
            assert run.chain.at(clock()).intensity.kind == "live"
    assert sum(len(source.asked) for source in sources) == 3
    assert all(run.chain.at(clock()).intensity.g_per_kwh == 102 for run in runs)


def test_without_any_network_a_run_begins_with_what_is_on_disk(tmp_path: Path):
    a_refresher(ScriptedSource(), folder=tmp_path).step()
    offline = ScriptedSource(says=timeout)
    clock = WallClock(NOON_S + 1800)
    refresher = a_refresher(offline, clock=clock, folder=tmp_path)
    assert refresher.chain.at(clock()).intensity.g_per_kwh == 100, "before anything was asked"
    look(refresher, clock, NOON_S + HOUR_S - 1)
    assert offline.asked == []
    assert refresher.errors == ()


def test_what_is_on_disk_serves_the_mean_of_the_time_before_this_run(tmp_path: Path):
    clock = WallClock(NOON_S)
    look(a_refresher(ScriptedSource(), clock=clock, folder=tmp_path), clock, NOON_S + 5 * HOUR_S)
    later = a_refresher(ScriptedSource(says=timeout), clock=clock, folder=tmp_path)
    assert later.chain.mean(NOON_S + HOUR_S, NOON_S + 4 * HOUR_S).g_per_kwh == pytest.approx(102)


# The provider as a whole.


@contextmanager
def opened(
    *sources: ScriptedSource, wall_s: Callable[[], float] = time.time, **settings: object
) -> Iterator[live.LiveProvider]:
    names = tuple(source.name for source in sources)
    provider = live.open_provider(
        IntensitySettings(grid=names, load_source=loader(*sources), **settings),  # type: ignore[arg-type]
        NoHttp(),
        wall_s,
    )
    assert isinstance(provider, live.LiveProvider)
    try:
        yield provider
    finally:
        provider.close()


def grid_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "carbonmon-grid"]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.005)


def test_the_thread_begins_with_the_first_question_and_ends_with_the_provider():
    before = len(grid_threads())
    with opened(ScriptedSource(), region="FR") as provider:
        assert len(grid_threads()) == before
        provider.intensity_at(time.time())
        assert len(grid_threads()) == before + 1
        wait_for(lambda: provider.intensity_at(time.time()).kind == "live")
        assert len(grid_threads()) == before + 1
        assert all(thread.daemon for thread in grid_threads())
    wait_for(lambda: len(grid_threads()) == before)
    assert provider.intensity_at(time.time()).kind == "live", "what is known stays"
    assert len(grid_threads()) == before


def test_a_source_that_hangs_delays_no_answer_and_no_end():
    hanging, going = threading.Event(), threading.Event()

    def hang(now_s: float) -> list[Slot]:
        hanging.set()
        going.wait(60)
        return hour_of(now_s)

    with opened(ScriptedSource(says=hang), region="FR") as provider:
        provider.intensity_at(time.time())
        assert hanging.wait(10)
        slowest_s = 0.0
        for _ in range(100):
            begun_s = time.perf_counter()
            assert provider.intensity_at(time.time()).kind == "table"
            provider.mean_at(time.time() - 3600, time.time())
            provider.fetch_errors()
            slowest_s = max(slowest_s, time.perf_counter() - begun_s)
        assert slowest_s < 1.0, "far below the time for which the source hangs"
        begun_s = time.perf_counter()
        provider.close()
        assert time.perf_counter() - begun_s < 1.0
        going.set()
    wait_for(lambda: not grid_threads())


def test_many_threads_may_ask_at_once_and_one_refreshes():
    with opened(ScriptedSource(), region="FR") as provider:
        threads = [threading.Thread(target=provider.intensity_at, args=(time.time(),)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(grid_threads()) == 1
    wait_for(lambda: not grid_threads())


def test_a_fault_of_ours_does_not_end_the_refreshing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(refresh, "MAX_SLEEP_S", 0.01)
    faults = iter([True])
    real = Refresher.step

    def step(self: Refresher) -> float:
        if next(faults, False):
            raise RuntimeError("ours")
        return real(self)

    monkeypatch.setattr(Refresher, "step", step)
    with opened(ScriptedSource(), region="FR") as provider:
        wait_for(lambda: provider.intensity_at(time.time()).kind == "live")
    assert "could not be refreshed" in caplog.text
    wait_for(lambda: not grid_threads())


def test_the_cache_is_where_the_environment_says(tmp_path: Path):
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    with opened(ScriptedSource(), region="FR", environ=environ) as provider:
        provider.intensity_at(time.time())
        wait_for(lambda: len(list(tmp_path.glob("carbonmon/good-ZZ-*.json"))) == 1)
    wait_for(lambda: not grid_threads())
    (path,) = tmp_path.glob("carbonmon/*.json")
    assert json.loads(path.read_bytes())["source"] == "good"


def open_chain(*grid: str, region: str | None = "FR") -> None:
    sources = (
        ScriptedSource("uk"),
        ScriptedSource("dk", "DK1"),
        ScriptedSource("watttime", is_marginal=True),
        ScriptedSource("odd", slot_s=0.0),
    )

    def load(name: str) -> Callable[[object], GridSource]:
        if name == "broken":
            return lambda settings: 1 / 0  # type: ignore[return-value]
        if name not in ("uk", "dk", "watttime", "odd"):
            raise ConfigError(f"--grid: there is no {name!r}")
        return loader(*sources)(name)  # type: ignore[return-value]

    live.open_provider(IntensitySettings(region=region, grid=grid, load_source=load), NoHttp())


@for_each_row(
    ("grid", "expected"),
    [
        (
            ("watttime",),
            "'watttime' gives the marginal intensity, to choose a time to run, and is never a footprint",
        ),
        (("uk", "watttime:CAISO_NORTH"), "gives the marginal intensity"),
        (("table", "uk"), "'table' always has a figure, so no later source is used; put it last"),
        (("uk", "dk", "uk"), "'uk' is given twice"),
        (("ku",), "--grid: there is no 'ku'"),
        (("broken",), "'broken' cannot be opened: ZeroDivisionError"),
        (("odd",), "'odd' cannot be opened: its name or its times are impossible"),
        ((), "no live source was named"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_before_anything_starts(grid: tuple[str, ...], expected: str):
    with pytest.raises(ConfigError) as mistake:
        open_chain(*grid)
    assert expected in str(mistake.value)


def test_a_place_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="region 'Atlantis' is unknown"):
        open_chain("uk", region="Atlantis")


@pytest.mark.parametrize("grid", [("uk",), ("uk", "dk", "table"), ("table",)])
def test_a_chain_may_end_with_the_word_table(grid: tuple[str, ...]):
    open_chain(*grid)


@pytest.mark.parametrize(
    ("zone", "region", "expected"),
    [
        ("FR", None, "FR"),
        ("DK1", None, "DK"),
        ("US-CAL-CISO", None, "US-CA"),
        ("13", None, "WORLD"),
        ("", None, "WORLD"),
        ("FR", "BE", "BE"),
    ],
)
def test_without_a_region_the_annual_figure_is_that_of_the_place_named_with_the_source(
    zone: str, region: str | None, expected: str
):
    source = ScriptedSource("good", zone, timeout)
    settings = IntensitySettings(region=region, grid=("good",), load_source=loader(source))
    with closing(live.open_provider(settings, NoHttp())) as provider:
        now = provider.intensity_at(NOON_S)
    assert (now.kind, now.zone) == ("table", expected)
    wait_for(lambda: not grid_threads())


def test_the_table_alone_starts_no_thread():
    settings = IntensitySettings(region="FR", grid=("table",), load_source=loader())
    provider = live.open_provider(settings)
    assert provider.intensity_at(0.0) == TABLE
    assert not grid_threads()


def test_a_source_is_told_the_zone_behind_its_name_and_else_the_region():
    told = []

    def load(name: str) -> Callable[[object], GridSource]:
        def factory(settings: object) -> GridSource:
            told.append(settings)
            return ScriptedSource(name)

        return factory

    live.open_provider(
        IntensitySettings(
            region="gcp:europe-west1", grid=("dk: DK1", "uk"), environ={"KEY": "x"}, load_source=load
        ),  # type: ignore[arg-type]
        NoHttp(),
    )
    assert [(settings.zone, settings.region) for settings in told] == [("DK1", "BE"), ("", "BE")]
    assert all(settings.environ == {"KEY": "x"} for settings in told)
