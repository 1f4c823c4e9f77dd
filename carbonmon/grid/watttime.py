"""WattTime, API v3: marginal intensity by 5 minutes. It is used to choose a time, never for a footprint.

The emissions of one more kWh now (co2_moer), in pounds per MWh. A login gives a token for half an hour. The
regions have WattTime's own names; without a subscription CAISO_NORTH can be requested. Source of the format:
the provider's API documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.ports import GridSettings, GridSource, Http
from carbonmon.core.timeline import Slot
from carbonmon.core.times import utc_text
from carbonmon.grid import keys, payload
from carbonmon.grid.livesource import LiveSource

LB_PER_MWH_G_PER_KWH = 0.45359237
"""The international pound is 453.59237 g exactly."""
UNITS = "lbs_co2_per_mwh"
SIGNAL = "co2_moer"
LONGEST_HORIZON_H = 72
_REGION = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")


class WattTime(LiveSource):
    """`GridSource` for one of WattTime's regions."""

    name = "watttime"
    basis: str | None = None
    accounting: str | None = None
    is_marginal = True
    slot_s = 300.0
    lag_s = 600.0
    url = "https://api.watttime.org"
    longest_span_s = 30 * 86_400.0

    def __init__(self, zone: str, environ: Mapping[str, str]) -> None:
        self._username = keys.find_key(keys.WATTTIME_USERNAME, environ, self.name)
        self._password = keys.find_key(keys.WATTTIME_PASSWORD, environ, self.name)
        super().__init__(zone, environ)
        self._token: keys.Key | None = None

    def latest(self, http: Http, now_s: float) -> Sequence[Slot]:
        # A horizon of 0 is the figure of now alone.
        return payload.in_order(self._slots(http, "forecast", {"horizon_hours": "0"}, "live"))

    def forecast(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        hours = min(max(ceil((end_s - start_s) / 3600) + 1, 24), LONGEST_HORIZON_H)
        slots = self._slots(http, "forecast", {"horizon_hours": str(hours)}, "forecast")
        return payload.within(slots, start_s, end_s)

    def _between(self, http: Http, from_s: float, to_s: float, kind: str) -> Iterator[Slot]:
        return self._slots(http, "historical", {"start": utc_text(from_s), "end": utc_text(to_s)}, kind)

    def _slots(self, http: Http, what: str, more: Mapping[str, str], kind: str) -> Iterator[Slot]:
        params = {"region": self.zone, "signal_type": SIGNAL, **more}
        found = payload.answer(self._ask(http, f"{self._url}/v3/{what}", params))
        meta = found.entry("meta")
        payload.expect(meta, "region", self.zone)
        payload.expect(meta, "signal_type", SIGNAL)
        payload.expect(meta, "units", UNITS)
        if meta.has("data_point_period_seconds"):
            payload.expect(meta, "data_point_period_seconds", int(self.slot_s))
        for row in found.entries("data"):
            value = payload.g_per_kwh(row, "value", LB_PER_MWH_G_PER_KWH)
            start_s = payload.unix_s(row, "point_time")
            if value is not None:
                yield Slot(start_s, start_s + self.slot_s, value, kind, "marginal")

    def _ask(self, http: Http, url: str, params: Mapping[str, str]) -> Any:
        """An answer with the present token; when that has expired, with a new one."""
        if self._token is not None:
            try:
                return http.get_json(url, params, self._bearer(self._token))
            except FetchError as error:
                if error.reason != "http_401":
                    raise
        self._token = self._login(http)
        return http.get_json(url, params, self._bearer(self._token))

    def _login(self, http: Http) -> keys.Key:
        self._token = None
        user = self._username.reveal(), self._password.reveal()
        token = payload.answer(http.get_json(f"{self._url}/login", basic=user)).text("token")
        if _TOKEN.fullmatch(token) is None:
            raise payload.garbage("token is no token")
        return keys.Key(token)

    def _bearer(self, token: keys.Key) -> dict[str, str]:
        return {"Authorization": f"Bearer {token.reveal()}"}


def open_source(settings: GridSettings) -> GridSource:
    """The source of the user's region of WattTime; raises ConfigError without one, and without a login."""
    region = settings.zone.upper()
    if _REGION.fullmatch(region) is None:
        problem = f"{settings.zone!r:.60} is no region of WattTime" if region else "watttime needs a region"
        raise ConfigError(f"--grid: {problem}; give one by WattTime's own name: --grid watttime:CAISO_NORTH")
    return WattTime(region, settings.environ)
