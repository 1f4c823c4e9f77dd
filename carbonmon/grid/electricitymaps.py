"""Electricity Maps, API v3: average intensity of most grids of the world; lifecycle, consumption.

Hourly, in some zones by 5 or 15 minutes. The figure of the current hour is mostly an estimate, as the slot's
note says. A free key may request `latest` and `history` (the last 24 hours) for one zone; the past beyond
that and forecasts need other plans. Source of the format: the provider's API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.ports import GridSettings, GridSource, Http
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.core.times import utc_text
from carbonmon.core.typed import Entry
from carbonmon.grid import keys, payload
from carbonmon.grid.livesource import LiveSource

_HORIZONS_H = (24, 48, 72)
_SLOT_S = {"hourly": 3600.0, "15_minutes": 900.0, "5_minutes": 300.0}
_NOT_IN_PLAN = frozenset(("http_401", "http_403", "http_404", "empty"))
"""Reasons of errors where the key's plan does not include an endpoint."""

_ZONE = re.compile(r"[A-Z]{2,3}(-[A-Z0-9]{1,6}){0,3}")
_SHARED_ZONES = re.compile(
    r"[A-Z]{2}|SE-SE[1-4]|NO-NO[1-5]|DK-DK[12]|CA-(AB|BC|MB|NB|NS|NT|NU|ON|PE|QC|SK|YT)"
    r"|AU-(NSW|NT|QLD|SA|TAS|VIC)"
)
"""Zones of our table that Electricity Maps has under the same name."""
_METHOD = re.compile(r"[A-Za-z0-9_ -]{1,60}")


class ElectricityMaps(LiveSource):
    """`GridSource` for one zone of Electricity Maps."""

    name = "electricitymaps"
    basis: str | None = "lifecycle"
    slot_s = 3600.0
    lag_s = 1800.0
    """An hour's first figure may come some minutes late; after half an hour the last figure is stale."""
    url = "https://api.electricitymaps.com/v3"
    longest_span_s = 10 * 86_400.0

    def __init__(self, zone: str, environ: Mapping[str, str]) -> None:
        super().__init__(zone, environ)
        self._token = keys.find_key(keys.ELECTRICITYMAPS_TOKEN, environ, self.name)

    def latest(self, http: Http, now_s: float) -> Sequence[Slot]:
        found = self._ask(http, "latest")
        return payload.in_order(self._slots([found], found))

    def history(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        recent: Sequence[Slot] = ()
        try:
            found = self._ask(http, "history")
            recent = payload.within(self._slots(found.entries("history"), found), start_s, end_s)
        except FetchError as error:
            if error.reason not in _NOT_IN_PLAN:
                raise
        if not Timeline(recent).gaps(start_s, end_s):
            return recent
        try:
            older = super().history(http, start_s, end_s)
        except FetchError as error:
            if not recent or error.reason not in _NOT_IN_PLAN:
                raise
            return recent
        return Timeline(recent).merged(older).slots

    def forecast(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        hours = (end_s - start_s) / 3600
        more = {}
        if hours > _HORIZONS_H[0]:
            horizon = next((known for known in _HORIZONS_H if known >= hours), _HORIZONS_H[-1])
            more = {"horizonHours": str(horizon)}
        found = self._ask(http, "forecast", more)
        return payload.within(self._slots(found.entries("forecast"), found, "forecast"), start_s, end_s)

    def _between(self, http: Http, from_s: float, to_s: float, kind: str) -> Iterator[Slot]:
        found = self._ask(http, "past-range", {"start": utc_text(from_s), "end": utc_text(to_s)})
        return self._slots(found.entries("data"), found)

    def _ask(self, http: Http, what: str, more: Mapping[str, str] | None = None) -> Entry:
        # Without disableCallerLookup an unknown zone is answered with that of the caller's address.
        params = {"zone": self.zone, "emissionFactorType": "lifecycle", "disableCallerLookup": "true"}
        headers = {"auth-token": self._token.reveal()}
        url = f"{self._url}/carbon-intensity/{what}"
        found = payload.answer(http.get_json(url, {**params, **(more or {})}, headers))
        if "sandbox" in str(found.values.get("_disclaimer", ""))[:1000].lower():
            raise FetchError("sandbox", "it is a sandbox key: its figures are changed on purpose")
        payload.expect(found, "zone", self.zone)
        return found

    def _slots(self, rows: Sequence[Entry], found: Entry, kind: str = "live") -> Iterator[Slot]:
        """The rows as slots; zone, basis and length are the row's own, or those of the whole answer."""
        for row in rows:
            if row.has("zone"):
                payload.expect(row, "zone", self.zone)
            if row.has("emissionFactorType"):
                payload.expect(row, "emissionFactorType", "lifecycle")
            length = {**found.values, **row.values}.get("temporalGranularity", "hourly")
            slot_s = _SLOT_S.get(length) if isinstance(length, str) else None
            if slot_s is None:
                raise payload.garbage("temporalGranularity is none that was asked for")
            value = payload.g_per_kwh(row, "carbonIntensity")
            start_s = payload.unix_s(row, "datetime")
            if value is not None:
                yield Slot(start_s, start_s + slot_s, value, kind, _note(row.values))


def open_source(settings: GridSettings) -> GridSource:
    """The source of the user's zone; raises ConfigError without a zone that it knows, and without a key."""
    zone = settings.zone.upper() or settings.em_zone or _zone_of(settings.region)
    if _ZONE.fullmatch(zone) is None:
        raise ConfigError(
            f"--grid: {settings.zone!r:.60} is no zone of Electricity Maps; give one like "
            "electricitymaps:DE or electricitymaps:US-CAL-CISO"
        )
    return ElectricityMaps(zone, settings.environ)


def _zone_of(region: str | None) -> str:
    """The zone with the name of the region of our table; raises ConfigError if there is none."""
    if region is None:
        raise ConfigError(
            "--grid: electricitymaps needs a place; give --region FR, or a zone: --grid electricitymaps:FR"
        )
    if _SHARED_ZONES.fullmatch(region) is None or region == "EU":
        raise ConfigError(
            f"--grid: Electricity Maps has no zone for the region {region}; give one by its own name, "
            "country, area and grid operator: --grid electricitymaps:US-CAL-CISO"
        )
    return region


def _note(row: Mapping[str, Any]) -> str:
    """The provider's note on how a figure was estimated."""
    if row.get("isEstimated") is not True:
        return ""
    method = row.get("estimationMethod")
    if isinstance(method, str) and _METHOD.fullmatch(method):
        return f"estimated by the provider ({method})"
    return "estimated by the provider"
