"""The live sources against servers that speak the providers' formats: what is asked, and what is believed."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.ports import GridSettings, GridSource, IntensitySettings
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.grid import live
from carbonmon.grid.cache import check_slot
from carbonmon.grid.http import LiveHttp
from carbonmon.grid.regions import resolve
from carbonmon.grid.sources import open_sources
from carbonmon.service import plugins
from tests.support import gridproviders
from tests.support.gridproviders import NOW_S, intensity, seconds
from tests.support.gridserver import SECRET, Answer, GridServer
from tests.support.rows import for_each_row

SAMPLES = Path(__file__).parents[1] / "provider_samples"
HOUR_S, DAY_S = 3600.0, 86_400.0
KEYS = {
    "CARBONMON_ELECTRICITYMAPS_TOKEN": SECRET,
    "CARBONMON_WATTTIME_USERNAME": "ada",
    "CARBONMON_WATTTIME_PASSWORD": SECRET,
}


def opened(name: str, zone: str = "", url: str = "", region: str | None = None, **environ: str) -> GridSource:
    """The source of a name, asked at a URL of its own."""
    place = None if region is None else resolve(region)
    settings = GridSettings(
        zone=zone,
        region=None if place is None else place.zone,
        em_zone="" if place is None else place.em_zone,
        environ={**KEYS, **environ, f"CARBONMON_{name.upper()}_URL": url},
    )
    source: GridSource = plugins.load("carbonmon.grid", name)(settings)
    return source


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], GridServer]]:
    """Servers that end with the test."""
    servers: list[GridServer] = []

    def start(answer: Answer) -> GridServer:
        servers.append(GridServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__(None, None, None)


class Told:
    """What a server would answer, without one: the same to each question."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    def get_json(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
    ) -> Any:
        self.asked.append((url, params or {}))
        if url.endswith("/login"):
            return {"token": "eyJ"}
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def values(slots: Sequence[Slot]) -> list[float]:
    return [slot.value for slot in slots]


def is_true(slots: Sequence[Slot]) -> bool:
    """Whether the figures are those of the grid, without gaps."""
    assert all(before.end_s == after.start_s for before, after in pairwise(slots))
    return all(slot.value == pytest.approx(intensity(slot.start_s)) for slot in slots)


# What each provider's documentation shows.


@for_each_row(
    ("sample", "name", "zone", "ask", "expected"),
    [
        ("em_latest", "electricitymaps", "DE", "latest", [("2026-11-21T20:00Z", HOUR_S, 302, "live")]),
        ("em_history", "electricitymaps", "DE", "history", [("2026-11-21T20:00Z", HOUR_S, 302, "live")]),
        (
            "em_forecast",
            "electricitymaps",
            "DE",
            "forecast",
            [("2026-11-21T21:00Z", HOUR_S, 310, "forecast")],
        ),
        ("gb_intensity", "uk", "", "latest", [("2018-01-20T12:00Z", 1800, 263, "live")]),
        ("gb_intensity_actual_null", "uk", "", "latest", [("2026-11-21T20:30Z", 1800, 120, "forecast")]),
        ("gb_regional_postcode", "uk", "RG10", "latest", [("2018-01-20T12:00Z", 1800, 266, "forecast")]),
        ("gb_regional_postcode", "uk", "12", "latest", [("2018-01-20T12:00Z", 1800, 266, "forecast")]),
        ("rte_eco2mix", "rte", "", "latest", [("2026-11-21T19:45Z", 900, 31, "live")]),
        ("dk_energidataservice", "dk", "DK1", "latest", [("2026-11-21T20:40Z", 300, 94, "live")]),
        ("wt_forecast", "watttime", "CAISO_NORTH", "latest", [("2026-11-21T20:45Z", 300, 395.1697, "live")]),
        (
            "wt_historical",
            "watttime",
            "CAISO_NORTH",
            "history",
            [("2026-11-21T20:40Z", 300, 394.6254, "live")],
        ),
    ],
)
def test_the_documented_samples_are_understood(
    sample: str, name: str, zone: str, ask: str, expected: list[tuple[str, float, float, str]]
):
    http = Told(json.loads((SAMPLES / f"{sample}.json").read_text()))
    slots = asked(opened(name, zone), ask, http)
    assert [(slot.start_s, slot.end_s - slot.start_s, slot.kind) for slot in slots] == [
        (seconds(start), length_s, kind) for start, length_s, _, kind in expected
    ]
    assert values(slots) == pytest.approx([value for _, _, value, _ in expected], abs=1e-3)


def asked(source: GridSource, ask: str, http: Any) -> Sequence[Slot]:
    if ask == "latest":
        return source.latest(http, NOW_S)
    start_s, end_s = seconds("2026-11-21T20:00Z"), seconds("2026-11-21T22:00Z")
    if ask == "history":
        end_s = seconds("2026-11-21T21:00Z")
    return getattr(source, ask)(http, start_s, end_s)  # type: ignore[no-any-return]


def test_a_past_range_as_documented_is_understood():
    refused = {"zone": "DE", "history": []}
    sample = json.loads((SAMPLES / "em_past_range.json").read_text())
    slots = asked(opened("electricitymaps", "DE"), "history", Told(refused, sample))
    assert values(slots) == [302]


@pytest.mark.parametrize("sample", ["em_error_401", "em_error_404", "gb_error"])
@pytest.mark.parametrize(("name", "zone"), [("electricitymaps", "DE"), ("uk", "")])
def test_an_error_that_comes_with_status_200_is_no_figure(sample: str, name: str, zone: str):
    with pytest.raises(FetchError) as caught:
        opened(name, zone).latest(Told(json.loads((SAMPLES / f"{sample}.json").read_text())), NOW_S)
    assert caught.value.reason == "error_body"


# What is not plainly right.

CASES = [
    ("em_latest", "electricitymaps", "DE", "latest"),
    ("em_history", "electricitymaps", "DE", "history"),
    ("em_forecast", "electricitymaps", "DE", "forecast"),
    ("gb_intensity", "uk", "", "latest"),
    ("gb_regional_postcode", "uk", "RG10", "latest"),
    ("rte_eco2mix", "rte", "", "latest"),
    ("dk_energidataservice", "dk", "DK1", "latest"),
    ("wt_forecast", "watttime", "CAISO_NORTH", "forecast"),
    ("wt_historical", "watttime", "CAISO_NORTH", "history"),
]
WRONG: list[Any] = [
    *(
        None,
        True,
        False,
        "",
        "x",
        SECRET,
        "302",
        -1,
        -0.001,
        5000.1,
        1e9,
        10**400,
        float("nan"),
        float("inf"),
    ),
    *(
        [],
        {},
        [None],
        [[]],
        {"error": SECRET},
        "2026-11-21T20:00:00",
        "2026-02-30T20:00Z",
        "0001-01-01T00:00Z",
    ),
    *(
        "9999-12-31T23:59Z",
        "2026-11-21T25:00Z",
        "2026-11-21 20:00Z; drop",
        "٢٠٢٦-11-21T20:00Z",
        1_795_290_000,
    ),
]


def places(document: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a document."""
    yield way
    if isinstance(document, (dict, list)):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(value, (*way, key))


def replaced(document: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in way[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[way[-1]]
    else:
        inner[way[-1]] = value
    return document


@for_each_row(("sample", "name", "zone", "ask"), CASES)
def test_any_wrong_value_anywhere_is_an_error_or_a_figure_that_is_possible(
    sample: str, name: str, zone: str, ask: str
):
    right = json.loads((SAMPLES / f"{sample}.json").read_text())
    source = opened(name, zone)
    reasons = set()
    for way in places(right):
        for value in [*WRONG, *([KeyError] if way else [])]:
            http = Told(replaced(right, way, value))
            try:
                slots = asked(source, ask, http)
            except FetchError as error:
                reasons.add(error.reason)
                assert SECRET not in str(error)
            else:
                Timeline(check_slot(slot) for slot in slots)
                assert slots and all(slot.value >= 0 for slot in slots)
    assert {"garbage", "error_body"} <= reasons <= {"garbage", "error_body", "empty"}


@for_each_row(
    ("sample", "name", "zone", "way", "wrong"),
    [
        ("em_latest", "electricitymaps", "DE", ("zone",), "FR"),
        ("em_latest", "electricitymaps", "DE", ("emissionFactorType",), "direct"),
        ("em_latest", "electricitymaps", "DE", ("temporalGranularity",), "daily"),
        ("em_latest", "electricitymaps", "DE", ("carbonIntensity",), "302"),
        ("em_latest", "electricitymaps", "DE", ("carbonIntensity",), True),
        ("em_latest", "electricitymaps", "DE", ("carbonIntensity",), -1),
        ("em_latest", "electricitymaps", "DE", ("carbonIntensity",), 5001),
        ("em_latest", "electricitymaps", "DE", ("carbonIntensity",), float("nan")),
        ("em_latest", "electricitymaps", "DE", ("datetime",), "2026-11-21T20:00:00"),
        ("gb_intensity", "uk", "", ("data", 0, "to"), "2018-01-20T11:30Z"),
        ("gb_intensity", "uk", "", ("data", 0, "to"), "2018-01-21T12:00Z"),
        ("gb_regional_postcode", "uk", "RG11", (), None),
        ("gb_regional_postcode", "uk", "13", (), None),
        ("gb_regional_postcode", "uk", "RG10", ("data", 0, "postcode"), "RG11"),
        ("dk_energidataservice", "dk", "DK2", (), None),
        ("wt_forecast", "watttime", "CAISO_SOUTH", (), None),
        ("wt_forecast", "watttime", "CAISO_NORTH", ("meta", "units"), "kg_co2_per_mwh"),
        ("wt_forecast", "watttime", "CAISO_NORTH", ("meta", "signal_type"), "health_damage"),
        ("wt_signal_index", "watttime", "CAISO_NORTH", (), None),
        ("wt_historical", "watttime", "CAISO_NORTH", ("meta", "data_point_period_seconds"), 3600),
    ],
)
def test_an_answer_to_another_question_or_in_another_unit_is_garbage(
    sample: str, name: str, zone: str, way: tuple[Any, ...], wrong: Any
):
    document = json.loads((SAMPLES / f"{sample}.json").read_text())
    if way:
        document = replaced(document, way, wrong)
    with pytest.raises(FetchError, match="an answer of another form") as caught:
        opened(name, zone).latest(Told(document), NOW_S)
    assert caught.value.reason == "garbage"


def rows_of(*rows: tuple[str, Any]) -> dict[str, Any]:
    return {
        "results": [{"date_heure": f"2026-11-21T{time}:00+00:00", "taux_co2": value} for time, value in rows]
    }


def test_unsorted_and_repeated_rows_are_put_in_order():
    slots = opened("rte").latest(
        Told(rows_of(("19:45", 31), ("19:15", 33), ("19:30", 32), ("19:45", 31))), NOW_S
    )
    assert values(slots) == [33, 32, 31]
    Timeline(slots)


def test_an_unknown_figure_is_a_hole_and_not_0():
    slots = opened("rte").latest(Told(rows_of(("19:15", 33), ("19:30", None), ("19:45", 31))), NOW_S)
    assert values(slots) == [33, 31]
    assert len(Timeline(slots).gaps(slots[0].start_s, slots[1].end_s)) == 1


@pytest.mark.parametrize(
    "rows",
    [(("19:45", 31), ("19:45", 32)), (("19:45", 31), ("19:50", 31))],
    ids=["two figures for one time", "figures for times that overlap"],
)
def test_figures_that_contradict_one_another_are_garbage(rows: tuple[tuple[str, Any], ...]):
    with pytest.raises(FetchError) as caught:
        opened("rte").latest(Told(rows_of(*rows)), NOW_S)
    assert caught.value.reason == "garbage"


def test_an_answer_without_a_known_figure_is_empty():
    for answer in (rows_of(), rows_of(("19:45", None))):
        with pytest.raises(FetchError) as caught:
            opened("rte").latest(Told(answer), NOW_S)
        assert caught.value.reason == "empty"


def test_the_offset_of_a_time_is_taken_off():
    document = {"results": [{"date_heure": "2026-11-21T20:45:00+01:00", "taux_co2": 31}]}
    assert opened("rte").latest(Told(document), NOW_S)[0].start_s == seconds("2026-11-21T19:45Z")
    document["results"][0]["date_heure"] = "2026-11-21T17:15:30.5-0230"
    assert opened("rte").latest(Told(document), NOW_S)[0].start_s == seconds("2026-11-21T19:45:30Z")


# Electricity Maps.


def test_electricity_maps_says_which_figures_are_estimates(serve):
    server = serve(gridproviders.ElectricityMaps())
    source = opened("electricitymaps", "DE", server.url)
    (now,) = source.latest(LiveHttp(), NOW_S)
    assert (now.start_s, now.end_s) == (seconds("2026-11-21T20:00Z"), seconds("2026-11-21T21:00Z"))
    assert now.note == "estimated by the provider (TIME_SLICER_AVERAGE)"
    past = source.history(LiveHttp(), NOW_S - 10 * HOUR_S, NOW_S)
    assert [slot.note for slot in past] == [""] * 9 + [now.note] * 2, "11 hours reach into the stretch"
    assert is_true(past)
    assert (source.basis, source.accounting, source.is_marginal) == ("lifecycle", "consumption", False)


def test_an_estimation_method_that_is_no_word_is_left_out():
    sample = json.loads((SAMPLES / "em_latest.json").read_text())
    sample["estimationMethod"] = 'x"} evil\n'
    (slot,) = opened("electricitymaps", "DE").latest(Told(sample), NOW_S)
    assert slot.note == "estimated by the provider"


def test_figures_of_a_sandbox_key_are_never_taken_for_the_grid_s():
    sample = json.loads((SAMPLES / "em_latest.json").read_text())
    fine = opened("electricitymaps", "DE").latest(Told({**sample, "_disclaimer": "property of …"}), NOW_S)
    assert values(fine) == [302]
    sample["_disclaimer"] = "This data is disturbed, as part of the Sandbox mode."
    with pytest.raises(FetchError) as refusal:
        opened("electricitymaps", "DE").latest(Told(sample), NOW_S)
    assert refusal.value.reason == "sandbox"


@pytest.mark.parametrize("slot_s", [3600.0, 900.0, 300.0])
def test_electricity_maps_tells_how_long_its_figures_last(slot_s: float, serve):
    server = serve(gridproviders.ElectricityMaps(slot_s=slot_s))
    (now,) = opened("electricitymaps", "DE", server.url).latest(LiveHttp(), NOW_S)
    assert now.end_s - now.start_s == slot_s
    assert now.start_s <= NOW_S < now.end_s


def test_a_day_of_the_past_costs_a_free_key_one_question(serve):
    server = serve(gridproviders.ElectricityMaps(is_free=True))
    slots = opened("electricitymaps", "DE", server.url).history(LiveHttp(), NOW_S - 20 * HOUR_S, NOW_S)
    assert is_true(slots) and slots[0].start_s <= NOW_S - 20 * HOUR_S and slots[-1].end_s >= NOW_S
    assert server.paths == ["/carbon-intensity/history"]


def test_a_longer_past_is_asked_for_in_pieces_of_ten_days(serve):
    server = serve(gridproviders.ElectricityMaps())
    start_s = NOW_S - 25 * DAY_S
    slots = opened("electricitymaps", "DE", server.url).history(LiveHttp(), start_s, NOW_S)
    assert is_true(slots) and slots[0].start_s <= start_s and slots[-1].end_s >= NOW_S
    assert server.paths == ["/carbon-intensity/history"] + ["/carbon-intensity/past-range"] * 3


def test_of_a_longer_past_a_free_key_gets_the_part_that_it_may_have(serve):
    server = serve(gridproviders.ElectricityMaps(is_free=True))
    source = opened("electricitymaps", "DE", server.url)
    slots = source.history(LiveHttp(), NOW_S - 3 * DAY_S, NOW_S)
    assert is_true(slots) and len(slots) == 24
    with pytest.raises(FetchError) as caught:
        source.history(LiveHttp(), NOW_S - 5 * DAY_S, NOW_S - 4 * DAY_S)
    assert caught.value.reason == "http_401"


def test_a_past_that_cannot_be_asked_for_now_is_an_error_and_no_half_answer(serve):
    server = serve(gridproviders.ElectricityMaps())
    inner = server.answer

    def busy(request):
        answer = inner(request)
        return answer._replace(status=503) if request.path.endswith("past-range") else answer

    server.answer = busy
    with pytest.raises(FetchError) as caught:
        opened("electricitymaps", "DE", server.url).history(LiveHttp(), NOW_S - 3 * DAY_S, NOW_S)
    assert caught.value.reason == "http_503"


@pytest.mark.parametrize(("hours", "horizon"), [(3, None), (24, None), (30, "48"), (50, "72"), (200, "72")])
def test_the_forecast_is_asked_for_as_far_as_it_is_needed(hours: float, horizon: str | None, serve):
    server = serve(gridproviders.ElectricityMaps())
    source = opened("electricitymaps", "DE", server.url)
    slots = source.forecast(LiveHttp(), NOW_S, NOW_S + hours * HOUR_S)
    assert is_true(slots) and {slot.kind for slot in slots} == {"forecast"}
    assert slots[0].start_s == seconds("2026-11-21T21:00Z")
    assert server.requests[0].query.get("horizonHours") == horizon


@for_each_row(
    ("zone", "region", "expected"),
    [
        ("de", None, "DE"),
        ("US-CAL-CISO", "US-CA", "US-CAL-CISO"),
        ("", "FR", "FR"),
        ("", "UK", "GB"),
        ("", "SE4", "SE-SE4"),
        ("", "DK1", "DK-DK1"),
        ("", "CA-ON", "CA-ON"),
        ("", "AU-NSW", "AU-NSW"),
        ("", "aws:us-west-1", "US-CAL-CISO"),
        ("", "azure:denmarkeast", "DK-DK2"),
    ],
)
def test_the_zone_of_electricity_maps_is_the_users_choice(zone: str, region: str | None, expected: str):
    source = opened("electricitymaps", zone, region=region)
    assert source.zone == expected
    http = Told({"zone": expected, "carbonIntensity": 1, "datetime": "2026-11-21T20:00:00.000Z"})
    source.latest(http, NOW_S)
    ((url, params),) = http.asked
    assert params == {"zone": expected, "emissionFactorType": "lifecycle", "disableCallerLookup": "true"}
    assert SECRET not in url


@for_each_row("region", ["US-CA", "EGRID-CAMX", "CN-GD", "IN-KA", "CA-NL", "AU-ACT", "WORLD", "EU"])
def test_a_region_that_electricity_maps_does_not_know_so_is_an_error_with_the_form_of_its_zones(region: str):
    with pytest.raises(ConfigError, match=f"no zone for the region {region}.*electricitymaps:US-CAL-CISO"):
        opened("electricitymaps", region=region)


# The United Kingdom.


def test_great_britain_has_what_was_until_now_and_forecasts_from_now_on(serve):
    server = serve(gridproviders.Uk())
    source = opened("uk", url=server.url)
    (now,) = source.latest(LiveHttp(), NOW_S)
    assert (now.kind, now.start_s) == ("forecast", seconds("2026-11-21T20:30Z")), (
        "actual is null until it is over"
    )
    slots = source.history(LiveHttp(), NOW_S - 2 * HOUR_S, NOW_S + HOUR_S)
    assert is_true(slots)
    assert [slot.kind for slot in slots] == ["live"] * 4 + ["forecast"] * 3
    assert {slot.note for slot in slots} == {"Great Britain without Northern Ireland"}
    assert (source.zone, source.basis, source.accounting) == ("GB", "direct", "consumption")


def test_a_month_of_great_britain_is_asked_for_in_pieces_of_fourteen_days(serve):
    server = serve(gridproviders.Uk())
    start_s = NOW_S - 30 * DAY_S
    slots = opened("uk", url=server.url).history(LiveHttp(), start_s, NOW_S)
    assert is_true(slots) and {slot.kind for slot in slots[:-1]} == {"live"}
    assert slots[0].start_s <= start_s < slots[0].end_s and slots[-1].start_s < NOW_S <= slots[-1].end_s
    assert server.paths[0] == "/intensity/2026-10-22T20:30Z/2026-11-05T20:30Z"
    assert len(server.paths) == 3


@pytest.mark.parametrize(
    ("zone", "path"), [("13", "regionid/13"), ("013", "regionid/13"), ("rg10", "postcode/RG10")]
)
def test_a_region_of_great_britain_has_forecasts_of_its_own(zone: str, path: str, serve):
    server = serve(gridproviders.Uk())
    source = opened("uk", zone, server.url, region="GB")
    (now,) = source.latest(LiveHttp(), NOW_S)
    assert (now.kind, now.value) == ("forecast", intensity(now.start_s))
    slots = source.forecast(LiveHttp(), NOW_S, NOW_S + 4 * HOUR_S)
    assert is_true(slots) and {slot.kind for slot in slots} == {"forecast"} and len(slots) == 9
    assert server.paths[0] == f"/regional/{path}"
    assert server.paths[1] == f"/regional/intensity/2026-11-21T20:30Z/2026-11-22T01:00Z/{path}"


# France.


def test_the_newest_rows_of_france_that_have_a_value_are_taken(serve):
    server = serve(gridproviders.Rte())
    source = opened("rte", url=server.url)
    slots = source.latest(LiveHttp(), NOW_S)
    assert is_true(slots) and slots[-1].start_s == seconds("2026-11-21T19:30Z")
    assert slots[-1].end_s + source.lag_s > NOW_S, "an hour late is what it always is"


def test_the_past_of_france_is_asked_for_page_by_page(serve):
    server = serve(gridproviders.Rte())
    start_s = NOW_S - 4 * DAY_S
    slots = opened("rte", url=server.url).history(LiveHttp(), start_s, NOW_S)
    assert is_true(slots) and slots[0].start_s <= start_s < slots[0].end_s
    assert slots[-1].start_s == seconds("2026-11-21T19:30Z")
    assert [request.query["offset"] for request in server.requests] == ["0", "100", "200", "300"]


def test_more_than_ten_thousand_rows_of_france_are_asked_for_in_spans():
    http = Told({"results": []})
    with pytest.raises(FetchError) as caught:
        opened("rte").history(http, NOW_S - 200 * DAY_S, NOW_S)
    assert caught.value.reason == "empty"
    assert len(http.asked) == 3


def test_a_source_without_forecasts_says_so():
    with pytest.raises(FetchError, match="rte offers no forecast") as caught:
        opened("rte").forecast(Told({}), NOW_S, NOW_S + HOUR_S)
    assert caught.value.reason == "unsupported"


# Denmark.


@pytest.mark.parametrize("zone", ["DK1", "dk2", "DK-DK1"])
def test_each_area_of_denmark_has_its_figures_of_five_minutes(zone: str, serve):
    server = serve(gridproviders.Dk())
    source = opened("dk", zone, server.url)
    slots = source.latest(LiveHttp(), NOW_S)
    assert is_true(slots) and len(slots) == 12
    assert slots[-1].end_s + source.lag_s > NOW_S
    assert json.loads(server.requests[0].query["filter"]) == {"PriceArea": [zone.upper()[-3:]]}
    assert (source.basis, source.accounting) == ("direct", "consumption")


def test_the_past_and_the_forecast_of_denmark_cover_the_stretch_whatever_its_time_zone(serve):
    server = serve(gridproviders.Dk())
    source = opened("dk", "DK1", server.url)
    start_s = NOW_S - 10 * DAY_S + 123
    slots = source.history(LiveHttp(), start_s, NOW_S - HOUR_S)
    assert (
        is_true(slots) and slots[0].start_s <= start_s < slots[0].end_s and slots[-1].end_s >= NOW_S - HOUR_S
    )
    assert slots[-1].start_s < NOW_S - HOUR_S, "what was asked for beyond is left out"
    ahead = source.forecast(LiveHttp(), NOW_S, NOW_S + 24 * HOUR_S)
    assert is_true(ahead) and {slot.kind for slot in ahead} == {"forecast"}
    assert ahead[0].start_s <= NOW_S and ahead[-1].end_s == NOW_S + 9 * HOUR_S
    assert server.paths == ["/dataset/CO2Emis", "/dataset/CO2Emis", "/dataset/CO2EmisProg"]


@pytest.mark.parametrize("region", [None, "DK"])
def test_denmark_alone_names_its_two_areas(region: str | None):
    with pytest.raises(ConfigError, match=r"Denmark has two grids; give dk:DK1 .* dk:DK2"):
        opened("dk", region=region)


@pytest.mark.parametrize(("region", "zone"), [("DK2", "DK2"), ("azure:denmarkeast", "DK2")])
def test_a_region_that_lies_in_one_area_is_enough(region: str, zone: str):
    assert opened("dk", region=region).zone == zone


# WattTime.


def test_watttime_logs_in_once_for_many_questions_and_anew_when_the_token_has_run_out(serve):
    provider = gridproviders.WattTime()
    server = serve(provider)
    source = opened("watttime", "caiso_north", server.url)
    (now,) = source.latest(LiveHttp(), NOW_S)
    assert now.value == pytest.approx(intensity(now.start_s))
    assert now.note == "marginal" and source.is_marginal
    source.history(LiveHttp(), NOW_S - HOUR_S, NOW_S)
    assert provider.logins == 1
    provider.expire()
    source.latest(LiveHttp(), provider.now_s)
    assert provider.logins == 2
    assert server.paths == [
        *("/login", "/v3/forecast", "/v3/historical"),
        *("/v3/forecast", "/login", "/v3/forecast"),
    ]


def test_watttimes_pounds_per_mwh_become_grams_per_kwh(serve):
    server = serve(gridproviders.WattTime())
    source = opened("watttime", "CAISO_NORTH", server.url)
    ahead = source.forecast(LiveHttp(), NOW_S, NOW_S + 30 * HOUR_S)
    assert is_true(ahead) and len(ahead) == 360 and {slot.kind for slot in ahead} == {"forecast"}
    past = source.history(LiveHttp(), NOW_S - 40 * DAY_S, NOW_S)
    assert is_true(past) and past[0].start_s == NOW_S - 40 * DAY_S
    assert server.paths.count("/v3/historical") == 2, "at most 30 days a call"


def test_a_wrong_login_is_tried_once(serve):
    server = serve(gridproviders.WattTime(password="another"))
    with pytest.raises(FetchError, match="key is not accepted") as caught:
        opened("watttime", "CAISO_NORTH", server.url).latest(LiveHttp(), NOW_S)
    assert caught.value.reason == "http_401"
    assert server.paths == ["/login"]


def test_a_token_that_is_never_good_ends_in_an_error_and_no_endless_logins(serve):
    provider = gridproviders.WattTime()
    provider._tokens_until = 1000
    server = serve(provider)
    source = opened("watttime", "CAISO_NORTH", server.url)
    for _ in range(2):
        with pytest.raises(FetchError) as caught:
            source.latest(LiveHttp(), NOW_S)
        assert caught.value.reason == "http_401"
    assert provider.logins == 2


@pytest.mark.parametrize("token", [None, 5, "", "a b", "a\r\nHost: evil", "ü"])
def test_a_token_that_could_not_stand_in_a_header_is_garbage(token: Any):
    http = Told({})
    http.get_json = lambda *args, **named: {"token": token}  # type: ignore[method-assign]
    with pytest.raises(FetchError) as caught:
        opened("watttime", "CAISO_NORTH").latest(http, NOW_S)
    assert caught.value.reason == "garbage"


def test_a_marginal_source_is_no_source_of_a_footprint():
    with pytest.raises(ConfigError, match="never a footprint"):
        open_sources(("watttime:CAISO_NORTH",), None, KEYS, lambda name: plugins.load("carbonmon.grid", name))


# What users write.


@for_each_row(
    ("name", "zone", "region", "problem"),
    [
        ("electricitymaps", "", None, "needs a place; give --region FR"),
        ("electricitymaps", "über", None, "'über' is no zone"),
        ("electricitymaps", "DE&key=1", None, "is no zone"),
        ("uk", "", "FR", "uk covers Great Britain only, and the region is FR"),
        ("uk", "18", None, "uk:1 to uk:17"),
        ("uk", "0", None, "uk:1 to uk:17"),
        ("uk", "²", None, "uk:1 to uk:17"),
        ("uk", "RG10 9EY", None, "first half of a postcode"),
        ("uk", "../intensity", None, "no place in uk"),
        ("uk", "BT1", None, "BT is in Northern Ireland"),
        ("rte", "FR-IDF", None, "rte covers France only"),
        ("rte", "", "DE", "rte covers France only, and the region is DE"),
        ("dk", "DK3", None, "'DK3' is no price area"),
        ("dk", "", "SE4", "dk covers Denmark only, and the region is SE-SE4"),
        ("watttime", "", "US-CA", "watttime needs a region; give one by WattTime's own name"),
        ("watttime", "caiso north", None, "'caiso north' is no region of WattTime"),
    ],
)
def test_a_place_that_a_source_does_not_know_is_told_with_what_it_knows(
    name: str, zone: str, region: str | None, problem: str
):
    with pytest.raises(ConfigError, match=problem) as caught:
        opened(name, zone, region=region)
    assert str(caught.value).startswith("--grid: ")


@pytest.mark.parametrize(
    ("name", "zone", "variable"),
    [
        ("electricitymaps", "DE", "CARBONMON_ELECTRICITYMAPS_TOKEN"),
        ("watttime", "CAISO_NORTH", "CARBONMON_WATTTIME_USERNAME"),
        ("watttime", "CAISO_NORTH", "CARBONMON_WATTTIME_PASSWORD"),
    ],
)
def test_a_missing_key_is_named(name: str, zone: str, variable: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=f"{name} needs a key: set {variable}"):
        opened(name, zone, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path), **{variable: ""})


@pytest.mark.parametrize("name", sorted(plugins.OWN["carbonmon.grid"]))
def test_a_base_url_that_would_show_keys_is_refused_by_each_source(name: str):
    zones = {"electricitymaps": "DE", "dk": "DK1", "watttime": "CAISO_NORTH"}
    with pytest.raises(ConfigError, match=f"CARBONMON_{name.upper()}_URL"):
        opened(name, zones.get(name, ""), "http://mirror.example")


@pytest.mark.parametrize("name", sorted(plugins.OWN["carbonmon.grid"]))
def test_each_source_is_what_the_port_says(name: str):
    zones = {"electricitymaps": "DE", "dk": "DK1", "watttime": "CAISO_NORTH"}
    source = opened(name, zones.get(name, ""))
    assert source.name == name and source.zone
    assert source.basis in ("lifecycle", "direct", None)
    assert source.accounting in ("production", "consumption", None)
    assert 0 < source.slot_s <= HOUR_S and 0 <= source.lag_s <= 2 * HOUR_S
    assert SECRET not in repr(vars(source))


# From the server to the provider of a run.


def test_a_run_sees_what_the_server_says(serve, tmp_path: Path):
    provider = gridproviders.Uk()
    provider.now_s = time.time()
    server = serve(provider)
    settings = IntensitySettings(
        grid=("uk:13",),
        environ={"CARBONMON_UK_URL": server.url, "XDG_CACHE_HOME": str(tmp_path)},
        load_source=lambda name: plugins.load("carbonmon.grid", name),
    )
    of_run = live.open_provider(settings)
    try:
        deadline_s = time.monotonic() + 20
        while (now := of_run.intensity_at(provider.now_s)).kind == "table":
            assert time.monotonic() < deadline_s, of_run.fetch_errors()
            time.sleep(0.01)
    finally:
        of_run.close()
    assert (now.kind, now.source, now.zone, now.basis) == ("forecast", "uk", "13", "direct")
    assert now.g_per_kwh == intensity(provider.now_s // 1800 * 1800)
