"""What every provider of intensity keeps to. A new one is one more line in `CASES`."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from carbonmon.core.errors import FetchError
from carbonmon.core.model import Intensity, IntensityKind
from carbonmon.core.ports import IntensityProvider, IntensitySettings
from carbonmon.core.timeline import Slot
from carbonmon.grid import file, fixed, live, table
from tests.support.gridsources import HOUR_S, NOON_S, NoHttp, ScriptedSource, WallClock, hour_of, loader

MOMENTS = (-1e9, 0.0, NOON_S - 5 * HOUR_S, *(NOON_S + quarter * 900.0 for quarter in range(40)), 1e12)


class Case(NamedTuple):
    name: str
    open_provider: Callable[[Path], IntensityProvider]
    kinds: set[str]
    """The kinds of figures that it gives at MOMENTS."""


def of_a_figure(folder: Path) -> IntensityProvider:
    return fixed.open_provider(IntensitySettings(g_per_kwh=123.4))


def of_a_place(folder: Path) -> IntensityProvider:
    return table.open_provider(IntensitySettings(region="FR"))


def of_the_world(folder: Path) -> IntensityProvider:
    return table.open_provider(IntensitySettings())


def of_a_file(folder: Path) -> IntensityProvider:
    path = folder / "grid.csv"
    path.write_text("time,value\n2026-11-21T12:00Z,100\n2026-11-21T13:00Z,300\n2026-11-21T14:30Z,20.5\n")
    return file.open_provider(IntensitySettings(region="FR", file=path))


def settled(provider: IntensityProvider, sources: int) -> IntensityProvider:
    """A live provider once one of its sources has answered, or all have failed."""
    provider.intensity_at(NOON_S)
    deadline_s = time.monotonic() + 10
    while provider.intensity_at(NOON_S).kind == "table" and len(provider.fetch_errors()) < sources:
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    return provider


def of_live_sources(folder: Path) -> IntensityProvider:
    def day(now_s: float) -> list[Slot]:
        ahead = [hour_of(NOON_S + hour * HOUR_S)[0]._replace(kind="forecast") for hour in range(1, 5)]
        return [*hour_of(NOON_S), *ahead]

    sources = (
        ScriptedSource("silent", says=lambda now_s: FetchError("connect", "refused")),
        ScriptedSource(says=day),
    )
    settings = IntensitySettings(grid=("silent", "good"), load_source=loader(*sources))
    return settled(live.open_provider(settings, NoHttp(), WallClock()), 2)


def of_live_sources_without_network(folder: Path) -> IntensityProvider:
    source = ScriptedSource(says=lambda now_s: FetchError("connect", "refused"))
    settings = IntensitySettings(region="FR", grid=("good",), load_source=loader(source))
    return settled(live.open_provider(settings, NoHttp(), WallClock()), 1)


CASES = (
    Case("fixed", of_a_figure, {"fixed"}),
    Case("table", of_a_place, {"table"}),
    Case("world", of_the_world, {"table"}),
    Case("file", of_a_file, {"fixed", "stale", "table"}),
    Case("live", of_live_sources, {"live", "forecast", "stale", "table"}),
    Case("offline", of_live_sources_without_network, {"table"}),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def provider(case: Case, tmp_path: Path) -> Iterator[IntensityProvider]:
    with closing(case.open_provider(tmp_path)) as opened:
        yield opened


def is_complete(intensity: Intensity) -> bool:
    figures = intensity[:3]
    return (
        all(math.isfinite(figure) and figure >= 0 for figure in figures)
        and intensity.low_g_per_kwh <= intensity.g_per_kwh <= intensity.high_g_per_kwh
        and intensity.kind in get_args(IntensityKind)
        and intensity.source != ""
        and intensity.basis in (None, "lifecycle", "direct")
        and intensity.accounting in (None, "production", "consumption")
        and (intensity.timestamp_s is None) == (intensity.kind in ("table",) or intensity.source == "user")
    )


def test_it_has_a_figure_for_every_moment_and_says_where_it_is_from(case: Case, provider: IntensityProvider):
    found = [provider.intensity_at(at_s) for at_s in MOMENTS]
    assert all(map(is_complete, found))
    assert {intensity.kind for intensity in found} == case.kinds


def test_a_figure_is_dated_at_or_before_its_moment(provider: IntensityProvider):
    for at_s in MOMENTS:
        dated_s = provider.intensity_at(at_s).timestamp_s
        assert dated_s is None or dated_s <= at_s


def test_the_mean_of_no_time_is_the_figure_in_force(provider: IntensityProvider):
    for at_s in MOMENTS:
        assert provider.mean_at(at_s, at_s) == provider.intensity_at(at_s)


def test_the_mean_over_a_stretch_is_that_of_its_minutes(provider: IntensityProvider):
    start_s, end_s = NOON_S - 3 * HOUR_S, NOON_S + 10 * HOUR_S
    minutes = [start_s + 60.0 * minute + 30.0 for minute in range(13 * 60)]
    mean = provider.mean_at(start_s, end_s)
    for field in range(3):
        expected = sum(provider.intensity_at(at_s)[field] for at_s in minutes) / len(minutes)
        assert mean[field] == pytest.approx(expected)
    assert is_complete(mean)
    kinds = Counter(provider.intensity_at(at_s).kind for at_s in minutes)
    assert [mean.kind] == [kind for kind, _ in kinds.most_common(1)], "that of most of the time"


def test_cutting_a_stretch_in_two_changes_nothing(provider: IntensityProvider):
    def sum_of(start_s: float, end_s: float) -> float:
        return provider.mean_at(start_s, end_s).g_per_kwh * (end_s - start_s)

    for cut_s in (NOON_S, NOON_S + 1, NOON_S + HOUR_S, NOON_S + 7777.7):
        whole = sum_of(NOON_S - HOUR_S, NOON_S + 9 * HOUR_S)
        assert sum_of(NOON_S - HOUR_S, cut_s) + sum_of(cut_s, NOON_S + 9 * HOUR_S) == pytest.approx(whole)


def test_the_same_question_has_the_same_answer_in_any_order(provider: IntensityProvider):
    first = [provider.intensity_at(at_s) for at_s in MOMENTS]
    assert [provider.intensity_at(at_s) for at_s in reversed(MOMENTS)] == first[::-1]


def test_what_could_not_be_fetched_is_counted_by_source_and_reason(provider: IntensityProvider):
    for source, reason, count in provider.fetch_errors():
        assert source
        assert reason
        assert count > 0


def test_an_answer_takes_microseconds(provider: IntensityProvider):
    best_s = math.inf
    for _ in range(20):
        begun_s = time.perf_counter()
        for _ in range(100):
            provider.intensity_at(NOON_S + 1)
        best_s = min(best_s, (time.perf_counter() - begun_s) / 100)
    assert best_s < 100e-6


def test_it_may_be_closed_twice_and_leaves_no_thread(case: Case, tmp_path: Path):
    provider = case.open_provider(tmp_path)
    provider.close()
    provider.close()
    assert is_complete(provider.intensity_at(NOON_S)), "the last snapshot may be made after the closing"
    deadline_s = time.monotonic() + 10
    while any(thread.name.startswith("carbonmon-grid") for thread in threading.enumerate()):
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_opening_is_silent_but_for_its_own_log(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    handlers = logging.getLogger().handlers[:]
    with closing(case.open_provider(tmp_path)) as provider:
        provider.intensity_at(NOON_S)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers
    assert all(record.name.startswith("carbonmon.grid") for record in caplog.records)
