"""Live sources that say what a test tells them to, and count how often they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carbonmon.core.ports import GridSettings, GridSource, Http
from carbonmon.core.timeline import Slot

HOUR_S = 3600.0
NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""


class NoHttp:
    """For sources that need no network: to ask it is a mistake."""

    def get_json(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
    ) -> Any:
        raise AssertionError(f"nothing is to be asked of {url}")


class WallClock:
    """Unix time that only the test moves."""

    def __init__(self, time_s: float = NOON_S) -> None:
        self.time_s = time_s

    def __call__(self) -> float:
        return self.time_s


def hour_of(now_s: float) -> list[Slot]:
    """The slot of this hour, of which the value says which hour it is since noon."""
    start_s = now_s // HOUR_S * HOUR_S
    return [Slot(start_s, start_s + HOUR_S, 100.0 + (start_s - NOON_S) / HOUR_S)]


class ScriptedSource:
    """A source whose answers are `says(now_s)`: slots, or an exception to raise."""

    basis: str | None = "lifecycle"
    accounting: str | None = "consumption"

    def __init__(
        self,
        name: str = "good",
        zone: str = "ZZ",
        says: Callable[[float], Sequence[Slot] | BaseException] = hour_of,
        *,
        slot_s: float = HOUR_S,
        lag_s: float = 0.0,
        is_marginal: bool = False,
    ) -> None:
        self.name, self.zone, self.says = name, zone, says
        self.slot_s, self.lag_s, self.is_marginal = slot_s, lag_s, is_marginal
        self.asked: list[float] = []

    def latest(self, http: Http, now_s: float) -> Sequence[Slot]:
        self.asked.append(now_s)
        return self._answer(now_s)

    def history(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        self.asked.append(start_s)
        return [slot for slot in self._answer(start_s) if slot.end_s > start_s and slot.start_s < end_s]

    def forecast(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        return self.history(http, start_s, end_s)

    def _answer(self, now_s: float) -> Sequence[Slot]:
        answer = self.says(now_s)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def loader(*sources: GridSource) -> Callable[[str], Callable[[GridSettings], GridSource]]:
    """What gives these sources by their names."""
    by_name = {source.name: source for source in sources}
    return lambda name: lambda settings: by_name[name]
