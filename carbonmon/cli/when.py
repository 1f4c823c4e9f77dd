"""`carbonmon when`: the greenest start within the next hours, from forecasts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from time import time
from typing import Any, NamedTuple

import click

from carbonmon.analysis.best_time import BestTime, Start, find_best_time
from carbonmon.cli import options, printing
from carbonmon.cli.checked import Checked
from carbonmon.core import config
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.ports import GridSource, Http
from carbonmon.core.timeline import Slot, Timeline
from carbonmon.core.times import MINUTES, rfc3339, utc_text
from carbonmon.grid.cache import check_slot
from carbonmon.grid.regions import resolve
from carbonmon.grid.sources import TABLE, LoadSource, open_sources
from carbonmon.runs.summary.figures import duration_text, figure, percent_text
from carbonmon.service import plugins

LONGEST_H = 24.0 * 366
MOST_GAPS_SHOWN = 3
SOON_S = 60.0
"""A better start within a minute is now."""


def _hours(option: str, low: float) -> Checked:
    return Checked("hours", lambda text: config.parse_number(text, option, "a time in hours", low, LONGEST_H))


class Figures(NamedTuple):
    """What is known of the next hours, and of whom; `remarks` say what went wrong before."""

    timeline: Timeline
    source: str
    zone: str
    basis: str | None
    accounting: str | None
    is_marginal: bool
    remarks: Sequence[str]


@click.command("when")
@click.option(
    "--for",
    "run_h",
    type=_hours("--for", 0.01),
    required=True,
    metavar="HOURS",
    help="How long the run takes.",
)
@click.option(
    "--within",
    "within_h",
    type=_hours("--within", 0.0),
    required=True,
    metavar="HOURS",
    help="How long it may wait: the latest start.",
)
@options.with_options("region", "intensity-file", "grid", "log-level", "log-format")
@printing.format_option("text", "json")
@click.pass_context
def command(ctx: click.Context, /, run_h: float, within_h: float, form: str, **values: Any) -> None:
    """Find the greenest start within the next hours.

    Compares all starts within the next hours by the mean intensity over the run, from the forecast of the
    first live source that answers, or from a file. WattTime may be asked as well, for advice: `--grid
    watttime:CAISO_NORTH`.
    """
    options.set_up_log(values["log_level"], values["log_format"])
    run_s, within_s = 3600 * run_h, 3600 * within_h
    try:
        path, names = _choice(ctx, values["intensity_file"], values["grid"])
        now_s = time()
        if path is not None:
            figures = _of_file(path, values["region"])
        else:
            load: LoadSource = partial(plugins.load, "carbonmon.grid")
            sources = open_sources(names, values["region"], os.environ, load, takes_marginal=True)
            figures = _of_grid(sources, now_s, now_s + within_s + run_s)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    advice = find_best_time(figures.timeline, now_s, run_s, within_s)
    if advice is None:
        raise click.ClickException(_too_short(figures, now_s, run_s))
    if form == "json":
        printing.show(printing.json_text(_document(figures, advice, now_s, run_s, within_s)))
    else:
        printing.show(_text(figures, advice, now_s, run_s, within_s))


def _choice(
    ctx: click.Context, path: Path | None, grid: tuple[str, ...] | None
) -> tuple[Path | None, tuple[str, ...]]:
    """The file or the sources; the command line takes precedence over environment and file."""
    path, grid = options.file_or_grid(ctx, path, grid)
    names = tuple(name for name in grid or () if name != TABLE)
    if path is None and not names:
        raise ConfigError(
            "an annual mean knows no better hour: give --grid SOURCE, one with a forecast, or "
            "--intensity-file FILE"
        )
    return path, names


def _of_file(path: Path, region: str | None) -> Figures:
    from carbonmon.grid.timefile import read_timefile

    found = read_timefile(path)
    place = "" if region is None else resolve(region).zone
    return Figures(found.timeline, f"file {path.name}", found.zone or place, found.basis, None, False, ())


def _of_grid(sources: Sequence[GridSource], now_s: float, end_s: float) -> Figures:
    """The forecast of the first source that has one; raises ClickException if none has."""
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
    raise click.ClickException("; ".join(remarks))


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


def _too_short(figures: Figures, now_s: float, run_s: float) -> str:
    slots = [slot for slot in figures.timeline.slots if slot.end_s > now_s]
    reach = f"reach from {_utc(slots[0].start_s)} to {_utc(slots[-1].end_s)}" if slots else "are of the past"
    name = _label(figures)
    problem = f"the figures of {name} {reach}: no run of {duration_text(run_s)} lies within them"
    return "; ".join((problem, *figures.remarks))


def _label(figures: Figures) -> str:
    return f"{figures.source}:{figures.zone}" if figures.zone else figures.source


def _notes(figures: Figures, advice: BestTime, run_s: float, end_s: float) -> list[str]:
    """What a reader ought to know. `end_s` is when the latest run would end."""
    notes = list(figures.remarks)
    if figures.is_marginal:
        notes.append(
            "this is the marginal intensity, what one more kWh would cause: advice on when to run, never a "
            "footprint"
        )
    if advice.now is None:
        notes.append("what a start now would cause is not known")
    gaps = list(advice.gaps)
    tail = gaps.pop() if gaps and gaps[-1][1] == end_s else None
    for start_s, until_s in gaps[:MOST_GAPS_SHOWN]:
        notes.append(f"nothing is known of {_utc(start_s)} to {_utc(until_s)}: no run in it was compared")
    if len(gaps) > MOST_GAPS_SHOWN:
        notes.append(f"nor of {len(gaps) - MOST_GAPS_SHOWN} more times")
    if tail is not None:
        latest = _utc(tail[0] - run_s)
        notes.append(f"the figures end at {_utc(tail[0])}: no start after {latest} was compared")
    return notes


def _text(figures: Figures, advice: BestTime, now_s: float, run_s: float, within_s: float) -> str:
    rows = [("best", advice.best)]
    if advice.now is not None:
        rows.append(("now", advice.now))
    rows.append(("worst", advice.worst))
    lines = []
    for name, start in rows:
        wait_s = start.start_s - now_s
        wait = "" if name == "now" else f"  in {duration_text(wait_s)}" if wait_s > SOON_S else "  now"
        shown = f"{_local(start.start_s)}  {_utc(start.start_s)}"
        lines.append(f"{name:<7} {shown}  {figure(start.g_per_kwh):>5} gCO2e/kWh{wait}")
    saving = advice.saving_ratio
    if saving is not None:
        text = f"{percent_text(saving)} of the emissions of starting now" if saving > 0 else "none: start now"
        lines.append(f"saving  {text}")
    terms = ("marginal" if figures.is_marginal else "", figures.basis or "", figures.accounting or "")
    lines.append(f"source  {', '.join((_label(figures), *filter(None, terms)))}")
    lines += [f"note    {note}" for note in _notes(figures, advice, run_s, now_s + within_s + run_s)]
    return "".join(f"{line}\n" for line in lines)


def _document(
    figures: Figures, advice: BestTime, now_s: float, run_s: float, within_s: float
) -> dict[str, Any]:
    return {
        "schema": "carbonmon.when/1",
        "asked_at": rfc3339(now_s),
        "run_s": run_s,
        "within_s": within_s,
        "best": _start(advice.best, now_s),
        "now": None if advice.now is None else _start(advice.now, now_s),
        "worst": _start(advice.worst, now_s),
        "saving_ratio": advice.saving_ratio,
        "source": figures.source,
        "zone": figures.zone or None,
        "basis": figures.basis,
        "accounting": figures.accounting,
        "marginal": figures.is_marginal,
        "unknown": [{"from": rfc3339(start_s), "to": rfc3339(end_s)} for start_s, end_s in advice.gaps],
        "notes": _notes(figures, advice, run_s, now_s + within_s + run_s),
    }


def _start(start: Start, now_s: float) -> dict[str, Any]:
    return {
        "start": rfc3339(start.start_s),
        "start_local": datetime.fromtimestamp(start.start_s).astimezone().isoformat(timespec="seconds"),
        "wait_s": start.start_s - now_s,
        "mean_g_per_kwh": start.g_per_kwh,
    }


def _local(time_s: float) -> str:
    return datetime.fromtimestamp(time_s).astimezone().strftime("%a %d %b %H:%M %Z")


def _utc(time_s: float) -> str:
    return utc_text(time_s, MINUTES)
