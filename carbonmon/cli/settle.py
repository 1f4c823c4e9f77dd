"""`carbonmon settle`: a run's carbon reckoned again, with what the grid really was."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from carbonmon.analysis import settle
from carbonmon.analysis.settle import Origin, Settlement
from carbonmon.analysis.stretches import read_stretches
from carbonmon.analysis.wrong_region import FromRegion, with_history
from carbonmon.cli import options, printing, progress, terminal
from carbonmon.cli.log import set_up_log
from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import Http
from carbonmon.core.text_layout import labelled, table, wrapped
from carbonmon.core.timeline import Timeline
from carbonmon.core.times import known_time, local_text, rfc3339
from carbonmon.grid.history import history
from carbonmon.grid.regions import resolve
from carbonmon.grid.sources import TABLE, LoadSource, open_sources
from carbonmon.grid.timefile import read_timefile
from carbonmon.runs import lookup
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.report.details import correction_text
from carbonmon.runs.summaries import summary_of
from carbonmon.runs.summary.figures import (
    GRAMS,
    MASS_UNITS,
    co2e_text,
    energy_text,
    figure,
    mass_text,
    percent_text,
    range_text,
    unit_of,
)
from carbonmon.runs.summary.file import write_summary
from carbonmon.runs.summary.strings import one_line, phase_text
from carbonmon.service import plugins

MOST_GAPS_SHOWN = 3
MOST_PHASES_SHOWN = 12

Known = tuple[Timeline, Mapping[str, Origin], Sequence[str]]
"""What is known of a stretch of time, by the note of a slot whose figure it is, and remarks."""


class Unreachable(click.ClickException):
    """No source told anything: not the user's mistake, and worth another try later."""


class FromFile:
    """The figures of the user's file, whatever the time."""

    def __init__(self, path: Path, region: str | None) -> None:
        found = read_timefile(path)
        place = "" if region is None else resolve(region).zone
        zone = found.zone or place
        self._known: Known = found.timeline, {"": Origin(zone, f"file {path.name}", found.basis)}, ()

    def known(self, start_s: float, end_s: float) -> Known:
        return self._known


class FromGrid:
    """What live sources tell of the past, best first."""

    def __init__(
        self, names: Sequence[str], region: str | None, load: LoadSource, http: Http | None = None
    ) -> None:
        self._sources = open_sources(names, region, os.environ, load)
        if http is None:
            from carbonmon.grid.http import LiveHttp

            http = LiveHttp()
        self._http = http

    def known(self, start_s: float, end_s: float) -> Known:
        timeline, remarks = history(self._sources, self._http, start_s, end_s, time.time())
        if not timeline.slots:
            raise Unreachable("; ".join(remarks) or "the sources know nothing of that time")
        origins = {
            str(place): Origin(source.zone, source.name, source.basis, source.accounting)
            for place, source in enumerate(self._sources)
        }
        return timeline, origins, remarks


Figures = FromFile | FromGrid | FromRegion


@click.command("settle")
@options.with_options("region", "intensity-file", "grid", *options.REPORT_OPTIONS)
@click.option(
    "--fill", is_flag=True, help="Use the intensity recorded during the run where there is no grid data."
)
@printing.format_option("text", "json")
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.pass_context
def command(ctx: click.Context, /, runs: tuple[str, ...], form: str, fill: bool, **values: Any) -> None:
    """Recalculate a run's emissions with the actual grid intensity.

    RUN is a run's folder, its summary.json, or a run under the output folder: its id, how the id begins, its
    name, or `last`. The energy of each row of the
    run's series is multiplied by the intensity of its time, from a file or from a source's history.
    summary.json keeps the result beside the live figure, and earlier results; for a run that is still active
    the result is only printed.

    --region alone is for a run whose region was wrong: all of its energy is charged with the annual mean of
    that region, and the summary says so.
    """
    set_up_log(values["log_level"], values["log_format"])
    try:
        figures = _figures(ctx, values["intensity_file"], values["grid"], values["region"])
        places = [lookup.named(run, values["output"], "settle") for run in runs]
        if fill and isinstance(figures, FromRegion):
            raise ConfigError("--fill is for gaps in a grid's figures: the mean of a year has none")
        label = "settling" if len(places) == 1 else f"settling {len(places)} runs"
        results = [settle_run(folder, figures, fill) for folder in progress.over(places, label)]
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if form == "json":
        printing.show_document(printing.json_text(results[0] if len(results) == 1 else results))
    else:
        printing.show("".join(_text(result, terminal.width()) for result in results))


def settle_run(folder: Path, figures: Figures, fill: bool) -> dict[str, Any]:
    """Settle the run of a folder and write its summary; returns what there is to show."""
    summary = summary_of(folder)
    if summary["state"] == "estimated":
        raise ConfigError(f"{folder}: an estimate has no time of its own: there is nothing to settle")
    end_s = known_time(summary["run"]["ended_at"]) if summary["state"] == "final" else None
    if end_s is None:
        end_s = read_checkpoint(folder).snapshot.at_s
    stretches, remarks = read_stretches(folder, summary, end_s)
    timeline, origins, more = figures.known(stretches[0].start_s, stretches[-1].end_s)
    result = settle.settle(stretches, timeline, summary["carbon"]["pue"])
    if result.gaps and (not fill or not result.origins):
        raise ConfigError(_holes_text(folder, result))
    at = rfc3339(time.time()) or ""
    place = figures.place if isinstance(figures, FromRegion) else None
    settled = with_history(settle.describe(result, summary, origins, [*remarks, *more], at), summary, place)
    written = summary["state"] != "running"
    if written:
        _write(folder, summary, settled)
    live_g = summary["carbon"]["emissions_g"]
    difference_g = settled["emissions_g"] - live_g
    return {
        "run": summary["run"]["id"],
        "folder": str(folder),
        "state": summary["state"],
        "written": written,
        "energy_j": result.energy_j,
        "live": summary["carbon"],
        "settled": settled,
        "difference_g": difference_g,
        "difference_ratio": difference_g / live_g if live_g else None,
        "phases": _by(result, 0),
        "components": {name: grams for name, grams in _by(result, 1).items() if name},
    }


def _write(folder: Path, summary: Mapping[str, Any], settled: Mapping[str, Any]) -> None:
    """Replace the summary by one with what is settled right behind the live figure."""
    document: dict[str, Any] = {}
    for key, value in summary.items():
        if key != "settled":
            document[key] = value
        if key == "carbon":
            document["settled"] = settled
    try:
        write_summary(folder, document)
    except OSError as error:
        path = folder / SUMMARY_FILE
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


def _figures(
    ctx: click.Context, path: Path | None, grid: tuple[str, ...] | None, region: str | None
) -> Figures:
    """Where the figures come from; the command line takes precedence over environment and file."""
    path, grid = options.file_or_grid(ctx, path, grid)
    if path is not None:
        return FromFile(path, region)
    names = tuple(name for name in grid or () if name != TABLE)
    is_typed = ctx.get_parameter_source("grid") is click.core.ParameterSource.COMMANDLINE
    if grid and TABLE in grid and (is_typed or not names):
        raise ConfigError(
            "--grid: 'table' is a mean of a year and not what the grid was; leave it out, or give --fill"
        )
    if not names:
        # One in the environment or in a file is that of the next runs, and not said to be this run's.
        if ctx.get_parameter_source("region") is click.core.ParameterSource.COMMANDLINE:
            return FromRegion(str(region))
        raise ConfigError(
            "what was the grid like? give --intensity-file FILE, or --grid SOURCE; "
            "where the run's region was wrong, --region PLACE"
        )
    load: LoadSource = partial(plugins.load, "carbonmon.grid")
    return FromGrid(names, region, load)


def _by(result: Settlement, part: int) -> dict[str, float]:
    """Grams by phase (0) or by component (1)."""
    sums: dict[str, float] = {}
    for key, grams in result.emissions_g.items():
        sums[key[part]] = sums.get(key[part], 0.0) + grams
    return {name: max(0.0, grams) for name, grams in sums.items()}


def _holes_text(folder: Path, result: Settlement) -> str:
    shown = [
        f"{local_text(start_s, 'seconds')} to {local_text(end_s, 'seconds')}"
        for start_s, end_s in result.gaps
    ]
    more = f" and {len(shown) - MOST_GAPS_SHOWN} times more" if len(shown) > MOST_GAPS_SHOWN else ""
    part = percent_text(min(1.0, result.filled_j / result.energy_j))
    keep = ", or give --fill to keep the live figure there" if result.origins else ""
    return (
        f"{folder}: nothing is known of {', '.join(shown[:MOST_GAPS_SHOWN])}{more}, when {part} of the "
        f"energy was drawn; name a source that knows{keep}"
    )


def _text(result: Mapping[str, Any], width: int | None) -> str:
    """Both figures, one below the other."""
    live, settled = result["live"], result["settled"]
    unit = unit_of(max(live["emissions_g"], settled["emissions_g"]), MASS_UNITS)
    rows = [(name, *_row(carbon, unit)) for name, carbon in (("live", live), ("settled", settled))]
    rows.append(("difference", _difference(result["difference_g"], result["difference_ratio"], unit), ""))
    if settled["region"] is not None:
        rows.append(("region", one_line(correction_text(settled), 400), ""))
    lines = [f"carbonmon: run {one_line(result['run'], 64)}, {energy_text(result['energy_j'])}"]
    lines += table(rows, width=width, indent="  ", wraps=2)
    if len(result["phases"]) > 1:
        ordered = sorted(result["phases"].items(), key=lambda item: item[1], reverse=True)
        phases = [
            ("phase", one_line(phase_text(name), 40), co2e_text(grams, unit))
            for name, grams in ordered[:MOST_PHASES_SHOWN]
        ]
        lines += table(phases, width=width, indent="  ", cuts=1)
    lines += labelled("note", one_line(settled["intensity"]["note"] or "", 1000), width)
    if not result["written"]:
        text = "the run still goes on: this is what it has by now, and nothing was written"
        lines += wrapped(text, width, "  ")
    return "\n".join(lines) + "\n"


def _difference(grams: float, ratio: float | None, unit: str) -> str:
    if abs(ratio if ratio is not None else grams) < 1e-6:
        return "none"
    share = "" if ratio is None else f" ({100 * abs(ratio):.1f} %)"
    return f"{'−' if grams < 0 else '+'}{figure(abs(grams) / GRAMS[unit])} {unit}{share}"


def _row(carbon: Mapping[str, Any], unit: str) -> tuple[str, str]:
    now = carbon["intensity"]
    mean = "" if now["mean_g_per_kwh"] is None else f"{figure(now['mean_g_per_kwh'])} g CO2e/kWh: "
    origin = ", ".join(str(now[key]) for key in ("zone", "source", "kind", "basis") if now.get(key))
    span = range_text(carbon["low_g"], carbon["high_g"], GRAMS[unit])
    return f"{mass_text(carbon['emissions_g'], unit)} CO2e ({span})", one_line(f"{mean}{origin}", 400)
