"""Energinet's Energi Data Service: average intensity of western (DK1) and eastern Denmark (DK2), 5 minutes.

No key. Data sets CO2Emis (the past until now) and CO2EmisProg (at least the next 9 hours). Their pages say:
CO2 of electricity *consumed*, from the emissions of each power station, its production, and the exchange with
neighbours; where a station makes heat as well, that takes its fuel at an efficiency of 125 %. So the basis is
direct and the accounting consumption. They are updated about every quarter of an hour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import GridSettings, GridSource, Http
from carbonmon.core.timeline import Slot
from carbonmon.core.times import utc_text
from carbonmon.grid import payload
from carbonmon.grid.livesource import LiveSource

AREAS = ("DK1", "DK2")
_DATASETS = {"live": "CO2Emis", "forecast": "CO2EmisProg"}
_DANISH_S = 7200.0
"""`start` and `end` are Danish time, an hour or two after UTC: more is requested than is needed."""


class Dk(LiveSource):
    """`GridSource` for one price area of Denmark."""

    name = "dk"
    slot_s = 300.0
    lag_s = 1800.0
    url = "https://api.energidataservice.dk"
    longest_span_s = 7 * 86_400.0

    def latest(self, http: Http, now_s: float) -> Sequence[Slot]:
        return payload.in_order(self._slots(http, {"sort": "Minutes5UTC DESC", "limit": "12"}, "live"))

    def forecast(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        return self._stretch(http, start_s, end_s, "forecast")

    def _between(self, http: Http, from_s: float, to_s: float, kind: str) -> Iterator[Slot]:
        params = {
            "start": utc_text(from_s, "%Y-%m-%dT%H:%M"),
            "end": utc_text(to_s + _DANISH_S, "%Y-%m-%dT%H:%M"),
            "sort": "Minutes5UTC ASC",
            "limit": "0",  # no limit
        }
        return self._slots(http, params, kind)

    def _slots(self, http: Http, params: Mapping[str, str], kind: str) -> Iterator[Slot]:
        wanted = {"filter": json.dumps({"PriceArea": [self.zone]}, separators=(",", ":"))}
        found = http.get_json(f"{self._url}/dataset/{_DATASETS[kind]}", {**wanted, **params})
        for row in payload.answer(found).entries("records"):
            payload.expect(row, "PriceArea", self.zone)
            value = payload.g_per_kwh(row, "CO2Emission")
            start_s = payload.unix_s(row, "Minutes5UTC", is_utc=True)
            if value is not None:
                yield Slot(start_s, start_s + self.slot_s, value, kind)


def open_source(settings: GridSettings) -> GridSource:
    """The source of the price area that the user named; raises ConfigError for Denmark as a whole."""
    # A cloud region in Denmark lies in one area, which is in Electricity Maps' name of its grid.
    named = settings.zone or next(
        (zone for zone in (settings.em_zone, settings.region) if zone and zone.startswith("DK-")), ""
    )
    area = named.upper().removeprefix("DK-")
    if area in AREAS:
        return Dk(area, settings.environ)
    if settings.zone:
        problem = f"{settings.zone!r:.60} is no price area of Denmark"
    elif settings.region in (None, "DK"):
        problem = "Denmark has two grids"
    else:
        problem = f"dk covers Denmark only, and the region is {settings.region}"
    raise ConfigError(
        f"--grid: {problem}; give dk:DK1 for Jutland and Funen, or dk:DK2 for Zealand and the east"
    )
