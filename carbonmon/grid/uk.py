"""The UK Carbon Intensity API of the system operator: average intensity by half-hours; direct, no key.

Great Britain only, without Northern Ireland. The national figure is an estimate from metered generation with
the imports of interconnectors; where it is not known yet (`actual` is null), and for regions always, the
forecast is used. Source of the format: carbon-intensity.github.io/api-definitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import GridSettings, GridSource, Http
from carbonmon.core.timeline import Slot
from carbonmon.core.times import MINUTES, utc_text
from carbonmon.core.typed import Entry
from carbonmon.grid import payload
from carbonmon.grid.livesource import LiveSource

NOTE = "Great Britain without Northern Ireland"
_REGIONS = range(1, 18)
_POSTCODE = re.compile(r"[A-Z]{1,2}[0-9][A-Z0-9]?")


class Uk(LiveSource):
    """`GridSource` for Great Britain (`GB`), one of its regions (`13`) or a postcode (`RG10`)."""

    name = "uk"
    slot_s = 1800.0
    lag_s = 0.0
    url = "https://api.carbonintensity.org.uk"
    longest_span_s = 14 * 86_400.0

    def __init__(self, zone: str, environ: Mapping[str, str]) -> None:
        super().__init__(zone, environ)
        self._region_path = ""
        if zone != "GB":
            self._region_path = f"/regionid/{zone}" if zone.isdecimal() else f"/postcode/{zone}"

    def latest(self, http: Http, now_s: float) -> Sequence[Slot]:
        path = f"/regional{self._region_path}" if self._region_path else "/intensity"
        return payload.in_order(self._slots(http.get_json(self._url + path)))

    def forecast(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        return self.history(http, start_s, end_s)

    def _between(self, http: Http, from_s: float, to_s: float, kind: str) -> Iterator[Slot]:
        base = f"{self._url}/regional" if self._region_path else self._url
        span = f"{utc_text(from_s, MINUTES)}/{utc_text(to_s, MINUTES)}"
        yield from self._slots(http.get_json(f"{base}/intensity/{span}{self._region_path}"))

    def _slots(self, found: Any) -> Iterator[Slot]:
        container = payload.answer(found)
        if self._region_path:
            container = self._region(container)
        for row in container.entries("data"):
            intensity = row.entry("intensity")
            value = payload.g_per_kwh(intensity, "actual") if intensity.has("actual") else None
            kind = "live"
            if value is None:
                value, kind = payload.g_per_kwh(intensity, "forecast"), "forecast"
            start_s, end_s = payload.unix_s(row, "from"), payload.unix_s(row, "to")
            if value is not None:
                yield Slot(start_s, end_s, value, kind, NOTE)

    def _region(self, found: Entry) -> Entry:
        """The one region of an answer: in a list, or, if a span was requested, by itself."""
        if isinstance(found.values.get("data"), list):
            regions = found.entries("data")
            if len(regions) != 1:
                raise payload.garbage("data is not the one region")
            region = regions[0]
        else:
            region = found.entry("data")
        if self.zone.isdecimal():
            payload.expect(region, "regionid", int(self.zone))
        else:
            payload.expect(region, "postcode", self.zone)
        return region


def open_source(settings: GridSettings) -> GridSource:
    """The source of Great Britain or of a place in it; raises ConfigError for any other place."""
    zone = settings.zone.upper()
    if not zone and settings.region not in (None, "GB"):
        raise ConfigError(
            f"--grid: uk covers Great Britain only, and the region is {settings.region}; "
            "leave one of them out"
        )
    if _POSTCODE.fullmatch(zone) and zone.startswith("BT"):
        raise ConfigError(
            "--grid: uk covers Great Britain only, and BT is in Northern Ireland; use --region GB"
        )
    is_region = zone.isascii() and zone.isdecimal() and len(zone) < 4 and int(zone) in _REGIONS
    if zone not in ("", "GB") and not is_region and _POSTCODE.fullmatch(zone) is None:
        raise ConfigError(
            f"--grid: {settings.zone!r:.60} is no place in uk; give uk, a region's number uk:1 to uk:17, "
            "or the first half of a postcode, uk:RG10"
        )
    zone = str(int(zone)) if is_region else zone or "GB"
    return Uk(zone, settings.environ)
