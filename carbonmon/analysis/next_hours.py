"""What is known of the intensity of the next hours, and of whom: for advice on when to start a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carbonmon.core.errors import FetchError
from carbonmon.core.ports import GridSource, Http
from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.core.times import local_text
from carbonmon.grid.cache import check_slot
from carbonmon.grid.regions import resolve
from carbonmon.runs.summary.figures import duration_text


class Figures(NamedTuple):
    """What is known of the next hours, and of whom; `remarks` say what went wrong before."""

    timeline: Timeline
    source: str
    zone: str
    basis: str | None
    accounting: str | None
    is_marginal: bool
    remarks: Sequence[str]

    @property
    def label(self) -> str:
        return f"{self.source}:{self.zone}" if self.zone else self.source


class NoForecast(Exception):
    """No source knows the next hours; the text says why of each."""


def of_file(path: Path, region: str | None) -> Figures:
    """The figures of a file; raises `ConfigError`."""
    from carbonmon.grid.timefile import read_timefile

    found = read_timefile(path)
    place = "" if region is None else resolve(region).zone
    return Figures(found.timeline, f"file {path.name}", found.zone or place, found.basis, None, False, ())


def of_grid(sources: Sequence[GridSource], now_s: float, end_s: float) -> Figures:
    """The forecast of the first source that has one; raises `NoForecast` if none has."""
    from carbonmon.grid.http import LiveHttp

    http = LiveHttp()
    remarks: list[str] = []
    for source in sources:
        label = f"{source.name}:{source.zone}"
        try:
            timeline = _forecast(source, http, now_s, end_s)
        except FetchError as error:
            remarks.append(f"{label} has no forecast: {error} ({error.reason})")
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a third party's code may raise anything)
            remarks.append(f"{label} has no forecast: {type(error).__name__} in its own code (bug)")
        else:
            return Figures(
                timeline,
                source.name,
                source.zone,
                source.basis,
                source.accounting,
                source.is_marginal,
                remarks,
            )
    raise NoForecast("; ".join(remarks))


def _forecast(source: GridSource, http: Http, now_s: float, end_s: float) -> Timeline:
    """The forecast from now on; where it begins with the next slot, the figure in force before it."""
    forecast = _checked(source.forecast(http, now_s, end_s))
    if forecast.at(now_s) is None:
        try:
            return _checked(source.latest(http, now_s)).merged(forecast.slots)
        except FetchError:
            pass  # what a start now would cause is unknown then, and said to be
    return forecast


def _checked(slots: Sequence[Slot]) -> Timeline:
    try:
        return Timeline(check_slot(slot) for slot in slots)
    except (ValueError, TypeError, OverflowError):
        raise FetchError("garbage", "it told impossible figures") from None


def too_short(figures: Figures, now_s: float, run_s: float) -> str:
    """Why no run of so many seconds is wholly known."""
    slots = [slot for slot in figures.timeline.slots if slot.end_s > now_s]
    reach = (
        f"reach from {local_text(slots[0].start_s)} to {local_text(slots[-1].end_s)}"
        if slots
        else "are of the past"
    )
    problem = f"the figures of {figures.label} {reach}: no run of {duration_text(run_s)} lies within them"
    return "; ".join((problem, *figures.remarks))
