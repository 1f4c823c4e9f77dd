"""`carbonmon when`: the greenest start within the next hours, from forecasts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import click

from carbonmon.analysis import next_hours
from carbonmon.analysis.best_time import BestTime, Start, find_best_time
from carbonmon.analysis.next_hours import Figures, NoForecast
from carbonmon.cli import options, printing, progress, terminal
from carbonmon.cli.checked import hours
from carbonmon.cli.log import set_up_log
from carbonmon.core import times
from carbonmon.core.errors import ConfigError
from carbonmon.core.text_layout import table, wrapped
from carbonmon.core.times import MINUTES, rfc3339, utc_text
from carbonmon.grid.sources import TABLE, LoadSource, open_sources
from carbonmon.runs.summary.figures import duration_text, figure, percent_text
from carbonmon.service import plugins

MOST_GAPS_SHOWN = 3
SOON_S = 60.0
"""A better start within a minute is now."""


@click.command("when")
@click.option(
    "--for",
    "run_h",
    type=hours("--for", 0.01),
    required=True,
    metavar="HOURS",
    help="How long the run takes.",
)
@click.option(
    "--within",
    "within_h",
    type=hours("--within", 0.0),
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
    set_up_log(values["log_level"], values["log_format"])
    run_s, within_s = 3600 * run_h, 3600 * within_h
    now_s = time()
    try:
        figures, advice = advise(ctx, values, now_s, run_s, within_s)
    except NoForecast as error:
        raise click.ClickException(str(error)) from None
    if form == "json":
        printing.show_document(printing.json_text(_document(figures, advice, now_s, run_s, within_s)))
    else:
        printing.show(_text(figures, advice, now_s, run_s, within_s, terminal.width()))


def advise(
    ctx: click.Context, values: Mapping[str, Any], now_s: float, run_s: float, within_s: float
) -> tuple[Figures, BestTime]:
    """The best start of a run of `run_s` within `within_s`, and by what it was found.

    Raises `UsageError` for wrong options, and `NoForecast` where no run is wholly known.
    """
    try:
        figures = _figures(ctx, values, now_s, now_s + within_s + run_s)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    advice = find_best_time(figures.timeline, now_s, run_s, within_s)
    if advice is None:
        raise NoForecast(next_hours.too_short(figures, now_s, run_s))
    return figures, advice


def _figures(ctx: click.Context, values: Mapping[str, Any], now_s: float, end_s: float) -> Figures:
    """The intensity from now until `end_s`, by the options; raises `ConfigError`, `NoForecast`."""
    path, names = _choice(ctx, values["intensity_file"], values["grid"])
    if path is not None:
        return next_hours.of_file(path, values["region"])
    load: LoadSource = partial(plugins.load, "carbonmon.grid")
    sources = open_sources(names, values["region"], os.environ, load, takes_marginal=True)
    with progress.working("asking for a forecast"):
        return next_hours.of_grid(sources, now_s, end_s)


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


def _notes(
    figures: Figures, advice: BestTime, run_s: float, end_s: float, shown: Callable[[float], str]
) -> list[str]:
    """What a reader ought to know. `end_s` is when the latest run would end, `shown` writes a time."""
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
        notes.append(f"nothing is known of {shown(start_s)} to {shown(until_s)}: no run in it was compared")
    if len(gaps) > MOST_GAPS_SHOWN:
        notes.append(f"nor of {len(gaps) - MOST_GAPS_SHOWN} more times")
    if tail is not None:
        latest = shown(tail[0] - run_s)
        notes.append(f"the figures end at {shown(tail[0])}: no start after {latest} was compared")
    return notes


def _text(
    figures: Figures, advice: BestTime, now_s: float, run_s: float, within_s: float, width: int | None
) -> str:
    rows = [("best", advice.best)]
    if advice.now is not None:
        rows.append(("now", advice.now))
    rows.append(("worst", advice.worst))
    cells = []
    for name, start in rows:
        wait_s = start.start_s - now_s
        wait = "" if name == "now" else f"in {duration_text(wait_s)}" if wait_s > SOON_S else "now"
        rate = f"{figure(start.g_per_kwh)} gCO2e/kWh"
        cells.append((name, local_text(start.start_s), rate, wait))
    lines = table(cells, numbers=(2,), width=width)
    saving = advice.saving_ratio
    if saving is not None:
        text = f"{percent_text(saving)} of the emissions of starting now" if saving > 0 else "none: start now"
        lines += wrapped(text, width, "saving  ")
    terms = ("marginal" if figures.is_marginal else "", figures.basis or "", figures.accounting or "")
    lines += wrapped(", ".join((figures.label, *filter(None, terms))), width, "source  ")
    for note in _notes(figures, advice, run_s, now_s + within_s + run_s, local_text):
        lines += wrapped(note, width, "note    ")
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
        "notes": _notes(figures, advice, run_s, now_s + within_s + run_s, _utc),
    }


def _start(start: Start, now_s: float) -> dict[str, Any]:
    return {
        "start": rfc3339(start.start_s),
        "start_local": datetime.fromtimestamp(start.start_s).astimezone().isoformat(timespec="seconds"),
        "wait_s": start.start_s - now_s,
        "mean_g_per_kwh": start.g_per_kwh,
    }


def local_text(time_s: float) -> str:
    """A Unix time for people: the day of the week, and the time in this machine's zone, with its offset."""
    return f"{datetime.fromtimestamp(time_s).astimezone():%a} {times.local_text(time_s)}"


def _utc(time_s: float) -> str:
    return utc_text(time_s, MINUTES)
