"""`carbonmon report`: the summary of a run in several forms, also of one whose monitor was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from carbonmon.cli import options, printing, progress
from carbonmon.cli.checked import Checked
from carbonmon.cli.log import set_up_log
from carbonmon.cli.report_forms import (
    FORMATS,
    LANGUAGES,
    PER,
    REQUIRED,
    WITHOUT_NOTES,
    Asked,
    Run,
    Summary,
    report_text,
)
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.runs.reader import read_run
from carbonmon.runs.summaries import Part, find, find_parts, node_folders


def _units(text: str) -> float:
    from carbonmon.analysis.estimate.quantities import number_of

    return number_of(text, "--units", "a number of units", 1e-9, 1e24, "12000 or 366G")


UNITS = Checked("number", _units)
_OF_PROMETHEUS = ("run_id", "since", "until", "username", "password_file", "token_file", "tenant", "timeout")


@click.command("report")
@options.with_options(*options.REPORT_OPTIONS)
@printing.format_option(*FORMATS)
@click.option(
    "--details",
    is_flag=True,
    help="With --format csv: also phases, components, methods, devices …, a row each, in J and g.",
)
@click.option("--merge", is_flag=True, help="Add up the nodes of one run.")
@click.option(
    "--series",
    is_flag=True,
    help="With --format csv: energy, power and emissions over time, by device and phase.",
)
@click.option(
    "--elsewhere",
    is_flag=False,
    flag_value="",
    metavar="[PLACE,…]",
    help="The same energy at other places: DE,SE,aws:us-east-1, a cloud provider, or `countries`.",
)
@click.option(
    "--region",
    "what_if",
    metavar="PLACE",
    help="What if the run had been there: its emissions beside its own, which stay.",
)
@click.option("--plot", is_flag=True, help="With --format text: power over time, in all and by device.")
@click.option("--advice", is_flag=True, help="What the run's own data says could be saved, and how much.")
@click.option("--per", type=click.Choice(PER), help="The functional unit of an SCI score.")
@click.option("--units", type=UNITS, metavar="N", help="How many of it there were, if the run did not tell.")
@click.option("--language", type=click.Choice(LANGUAGES), help="With --format paragraph. Default: en.")
@click.option("--embodied", is_flag=True, help="The run's part of making the hardware, as a range.")
@click.option(
    "--prometheus",
    "server",
    metavar="URL",
    help="Build the summary of a run, all its nodes, from a Prometheus server.",
)
@click.option("--run-id", type=options.RUN_ID, metavar="ID", help="With --prometheus: which run.")
@click.option(
    "--since",
    metavar="TIME",
    help="With --prometheus: look from then on. 2026-11-21T20:00Z, 12h; default: 30d.",
)
@click.option("--until", metavar="TIME", help="With --prometheus: the run as it was then. Default: now.")
@click.option("--username", metavar="NAME", help="With --prometheus: who asks, with --password-file.")
@click.option(
    "--password-file", type=options.PATH, metavar="FILE", help="With --prometheus: holds the password."
)
@click.option(
    "--token-file", type=options.PATH, metavar="FILE", help="With --prometheus: holds a bearer token."
)
@click.option(
    "--tenant",
    metavar="ID",
    help="With --prometheus: whose data, for Mimir, Cortex and Thanos (X-Scope-OrgID).",
)
@click.option(
    "--timeout",
    type=options.QUERY_TIMEOUT,
    metavar="SECONDS",
    help="With --prometheus: how long each answer is waited for. Default: 10.",
)
@click.argument("runs", nargs=-1, metavar="RUN…")
def command(
    runs: tuple[str, ...],
    form: str,
    details: bool,
    merge: bool,
    series: bool,
    elsewhere: str | None,
    what_if: str | None,
    plot: bool,
    advice: bool,
    per: str | None,
    units: float | None,
    language: str | None,
    embodied: bool,
    output: Path,
    **values: Any,
) -> None:
    """Print the summary of a run, also of one whose monitor was killed.

    RUN is a run's folder, its summary.json (or a copy of one that ended, under any name), or a run under
    the output folder: its id, how the id begins, its name, or `last`. With --merge it stands for the folders
    of all nodes, RUN_ID.HOST.

    --format csv has a row a run; with --elsewhere one for each place of each run.

    With --prometheus there is no RUN: the figures are those of the last scrape of each node. The login may
    also be in CARBONMON_PROMETHEUS_USERNAME and _PASSWORD or _PASSWORD_FILE, or _TOKEN or _TOKEN_FILE, the
    tenant in CARBONMON_PROMETHEUS_TENANT.
    """
    set_up_log(values["log_level"], values["log_format"])
    remote = {key: values[key] for key in ("server", *_OF_PROMETHEUS)}
    try:
        named, place = _told_apart(runs, elsewhere, output, remote["server"])
        _check(named, form, details, remote)
        _check_plot(plot, form, remote["server"])
        if series:
            _check_series(embodied, details, what_if, elsewhere, remote["server"])
        asked = Asked("details" if details else form, place, what_if, plot, advice, per, units, language)
        _check_asked(asked, embodied)
        if series:
            if form != "csv":
                raise ConfigError(f"--series is for --format csv of runs' folders, not for --format {form}")
            text = _series(named, output, merge)
        elif remote["server"] is None:
            text = report_text(_runs(named, output, merge, embodied), asked)
        else:
            text = _scraped(asked, embodied, **remote)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except FetchError as error:  # not the user's mistake: worth another try
        raise click.ClickException(f"--prometheus: {error}") from None
    printing.show_form(form, text)


def _told_apart(
    runs: tuple[str, ...], elsewhere: str | None, output: Path, server: str | None
) -> tuple[tuple[str, ...], str | None]:
    """The runs and the choice of places: in `--elsewhere RUN` the word is no place and thus a run."""
    if not elsewhere:
        return runs, elsewhere
    from carbonmon.analysis.compare_regions import is_place
    from carbonmon.runs import lookup

    if server is not None or is_place(elsewhere):
        return runs, elsewhere
    if runs:  # it is a run, or a place that is misspelt: then the comparison says which there are
        with suppress(ConfigError):
            lookup.named(elsewhere, output, "report")
            return (elsewhere, *runs), ""
        return runs, elsewhere
    return (elsewhere,), ""


def _check(runs: Sequence[str], form: str, details: bool, remote: Mapping[str, Any]) -> None:
    if remote["server"] is None:
        odd = [f"--{key.replace('_', '-')}" for key in _OF_PROMETHEUS if remote[key] is not None]
        if odd:
            raise ConfigError(f"{odd[0]} is for --prometheus URL; name a RUN, or give the URL as well")
        if not runs:
            raise ConfigError(
                "name a RUN: last, its id, its name, its folder, or its summary.json; see carbonmon runs"
            )
    elif not remote["run_id"]:
        word = runs[0] if runs else "ID"
        raise ConfigError(f"--prometheus: say which run with --run-id {word:.64}")
    elif runs:
        raise ConfigError("--prometheus: there is no RUN beside --run-id: leave one of them out")
    if details and form != "csv":
        raise ConfigError(f"--details is for --format csv; {form} has them already, or no place for them")


def _check_series(
    embodied: bool, details: bool, what_if: str | None, elsewhere: str | None, server: str | None
) -> None:
    """What a table of a run over time has no place for."""
    given = {
        "--prometheus": server is not None,
        "--embodied": embodied,
        "--details": details,
        "--region": what_if is not None,
        "--elsewhere": elsewhere is not None,
    }
    odd = next((name for name, is_given in given.items() if is_given), None)
    if odd is not None:
        raise ConfigError(f"--series is for --format csv of runs' folders, not for {odd}")


def _check_plot(plot: bool, form: str, server: str | None) -> None:
    if plot and form != "text":
        raise ConfigError(f"--plot is for --format text, not for {form}")
    if plot and server is not None:
        raise ConfigError("--plot is for runs' folders, which have the series, not for --prometheus")


def _check_asked(asked: Asked, embodied: bool) -> None:
    """What one form needs, or has no place for."""
    given = {
        "--region": asked.what_if is not None,
        "--elsewhere": asked.elsewhere is not None,
        "--embodied": embodied and asked.form not in ("annex-xi", "sci"),
    }
    odd = next((name for name, is_given in given.items() if is_given), None)
    if asked.form in REQUIRED and odd is not None:
        raise ConfigError(f"{odd} is not for --format {asked.form}, which has no place for it")
    if asked.form == "sci" and asked.per is None:
        raise ConfigError(f"--format sci needs the functional unit: --per {'|'.join(PER)}")
    if asked.per is not None and asked.form not in ("sci", "json"):
        raise ConfigError(f"--per is for --format sci and json, not for {asked.form}")
    if asked.units is not None and asked.per is None:
        raise ConfigError(f"--units {asked.units:g} needs the functional unit: --per {'|'.join(PER)}")
    if asked.language is not None and asked.form != "paragraph":
        raise ConfigError(f"--language is for --format paragraph, not for {asked.form}")
    if asked.advice and asked.form not in ("text", "json", "markdown", "html"):
        raise ConfigError(f"--advice is for --format text, json, markdown and html, not for {asked.form}")


def _runs(runs: Sequence[str], output: Path, merge: bool, embodied: bool) -> list[Run]:
    parts = [part for run in runs for part in (find_parts(run, output) if merge else [find(run, output)])]
    if embodied:
        parts = [part._replace(summary=_with_embodied(part.summary)) for part in parts]
    if not merge:
        return [Run(part.summary, [part]) for part in parts]
    from carbonmon.runs.report.merging import merged

    return [Run(merged([part.summary for part in parts]), parts)]


def _series(runs: Sequence[str], output: Path, merge: bool) -> str:
    """The rows of the runs' series; what is damaged in them is told beside it."""
    from carbonmon.runs import lookup
    from carbonmon.runs.report.series_csv import series_csv_text

    found = []
    for run in runs:
        run_id, nodes = node_folders(run, output) if merge else (run, [])
        nodes = [path for path in nodes if read_run(path)[0].id == run_id]
        found += nodes or [lookup.named(run, output, "report")]
    with progress.working("reading series"):
        text, notes = series_csv_text(found)
    for note in notes:
        printing.echo(f"carbonmon: {note}", err=True)
    return text


def _scraped(
    asked: Asked,
    embodied: bool,
    server: str,
    run_id: str,
    since: str | None,
    until: str | None,
    timeout: float | None,
    **login: Any,
) -> str:
    """What to print of a run from Prometheus, with how well it was scraped."""
    from carbonmon.analysis import prometheus
    from carbonmon.analysis.prometheus.address import Login
    from carbonmon.analysis.prometheus.client import TIME_LIMIT_S
    from carbonmon.analysis.prometheus.times import parse_moment
    from carbonmon.runs.report.merging import merged

    moments = (
        None if since is None else parse_moment(since, "--since"),
        None if until is None else parse_moment(until, "--until"),
    )
    limit_s = TIME_LIMIT_S if timeout is None else timeout
    with progress.working("asking Prometheus"):
        found = prometheus.find(server, run_id, *moments, time_limit_s=limit_s, login=Login(**login))
    parts = [dict(part.summary) for part in found.parts]
    summary = merged([_with_embodied(part) for part in parts] if embodied else parts)
    summary["monitor"]["sources"] = [found.source()]
    summary["prometheus"] = found.document()
    if asked.form in WITHOUT_NOTES:
        for note in found.notes():
            printing.echo(f"carbonmon: {note}", err=True)
    return report_text([Run(summary, [Part(part, None) for part in parts])], asked, [found.section()])


def _with_embodied(summary: Summary) -> Summary:
    from carbonmon.analysis.embodied import document, of_summary

    return {**summary, "embodied": document(of_summary(summary))}
