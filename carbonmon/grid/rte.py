"""RTE's éCO2mix: average intensity of metropolitan France by quarter-hours; direct, production, no key.

RTE counts the fuel burnt by power stations in France, without Corsica, per kWh that is generated there; it
publishes about an hour late, and no forecast. The portal is ODRÉ (Opendatasoft, API v2.1), whose newest rows
have no value yet. The real-time data set holds the last weeks; older ones are in other data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import GridSettings, GridSource, Http
from carbonmon.core.timeline import Slot
from carbonmon.core.times import utc_text
from carbonmon.core.typed import Entry
from carbonmon.grid import payload
from carbonmon.grid.livesource import LiveSource

_PATH = "/catalog/datasets/eco2mix-national-tr/records"
_KNOWN = "taux_co2 is not null"
_PAGE = 100


class Rte(LiveSource):
    """`GridSource` for France."""

    name = "rte"
    accounting: str | None = "production"
    slot_s = 900.0
    lag_s = 7200.0
    url = "https://odre.opendatasoft.com/api/explore/v2.1"
    longest_span_s = 90 * 86_400.0
    """Records beyond the 10,000th cannot be asked for: 90 days are 8,640."""

    def latest(self, http: Http, now_s: float) -> Sequence[Slot]:
        rows = self._ask(http, {"where": _KNOWN, "order_by": "date_heure desc", "limit": "8"})
        return payload.in_order(self._slots(rows))

    def _between(self, http: Http, from_s: float, to_s: float, kind: str) -> Iterator[Slot]:
        span = f"date_heure >= date'{utc_text(from_s)}' and date_heure < date'{utc_text(to_s)}'"
        params = {"where": f"{_KNOWN} and {span}", "order_by": "date_heure", "limit": str(_PAGE)}
        for offset in range(0, int((to_s - from_s) / self.slot_s), _PAGE):
            rows = self._ask(http, {**params, "offset": str(offset)})
            yield from self._slots(rows)
            if len(rows) < _PAGE:
                break

    def _ask(self, http: Http, params: Mapping[str, str]) -> Sequence[Entry]:
        found = http.get_json(self._url + _PATH, {"select": "taux_co2,date_heure", **params})
        return payload.answer(found).entries("results")

    def _slots(self, rows: Sequence[Entry]) -> Iterator[Slot]:
        for row in rows:
            value = payload.g_per_kwh(row, "taux_co2")
            start_s = payload.unix_s(row, "date_heure")
            if value is not None:
                yield Slot(start_s, start_s + self.slot_s, value)


def open_source(settings: GridSettings) -> GridSource:
    """The source of France; raises ConfigError for any other region."""
    if settings.zone.upper() not in ("", "FR"):
        raise ConfigError(f"--grid: rte covers France only, not {settings.zone!r:.60}; give --grid rte")
    if not settings.zone and settings.region not in (None, "FR"):
        raise ConfigError(
            f"--grid: rte covers France only, and the region is {settings.region}; leave one of them out"
        )
    return Rte("FR", settings.environ)
