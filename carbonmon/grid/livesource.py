"""What live sources have in common: where they are asked, and that a long time is asked for in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from carbonmon.core.errors import FetchError
from carbonmon.core.ports import Http
from carbonmon.core.timeline import Slot
from carbonmon.grid.http import base_url
from carbonmon.grid.payload import spans, within


class LiveSource:
    """The part of a `GridSource` that is the same for all.

    A source adds the attributes below, the port's `latest`, and `_between`: the slots of one piece of time.
    `longest_span_s` is the longest piece that the provider answers at once. `url` is where it is
    asked unless CARBONMON_NAME_URL names a mirror; raises `ConfigError` for one that cannot be used.
    """

    name: str
    basis: str | None = "direct"
    accounting: str | None = "consumption"
    is_marginal = False
    slot_s: float
    lag_s: float
    url: str
    longest_span_s: float

    def __init__(self, zone: str, environ: Mapping[str, str]) -> None:
        self.zone = zone
        self._url = base_url(environ, f"CARBONMON_{self.name.upper()}_URL", self.url)

    def history(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        return self._stretch(http, start_s, end_s, "live")

    def forecast(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        raise FetchError("unsupported", f"{self.name} offers no forecast")

    def _stretch(self, http: Http, start_s: float, end_s: float, kind: str) -> Sequence[Slot]:
        pieces = spans(start_s, end_s, self.longest_span_s, self.slot_s)
        slots = (slot for from_s, to_s in pieces for slot in self._between(http, from_s, to_s, kind))
        return within(slots, start_s, end_s)

    def _between(self, http: Http, from_s: float, to_s: float, kind: str) -> Iterator[Slot]:
        raise NotImplementedError
