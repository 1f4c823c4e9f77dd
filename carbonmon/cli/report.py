"""`carbonmon report`: the summary of a run in several forms, also of one whose monitor was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from carbonmon.cli import options, printing, terminal
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.runs.reader import read_run
from carbonmon.runs.summaries import find, find_nodes, node_folders
from carbonmon.runs.summary.text import table_text

Summary = dict[str, Any]
Sections = Sequence[Any]
"""Of `carbonmon_exporters.report.details.Section`, which is imported only where it is used."""

FORMATS = ("text", "json", "markdown", "csv", "model-card")
_OF_PLACES = ("text", "markdown")
_WITHOUT_NOTES = ("csv", "model-card")
"""Formats that have no place for how well a run was scraped."""
_OF_PROMETHEUS = ("run_id", "since", "until", "username", "password_file", "token_file", "tenant", "timeout")


@click.command("report")
@options.with_options(*options.REPORT_OPTIONS)
@printing.format_option(*FORMATS)
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
    metavar="[PROVIDER]",
    help="The same energy in other regions of a cloud provider, or in other `countries`.",
)
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
    merge: bool,
    series: bool,
    elsewhere: str | None,
    embodied: bool,
    output: Path,
    **values: Any,
) -> None:
    """Print the summary of a run, also of one whose monitor was killed.

    RUN is a run's folder, its summary.json (or a copy of one that ended, under any name), or a run under
    the output folder: its id, how the id begins, its name, or `last`. With --merge it stands for the folders
    of all nodes, RUN_ID.HOST.

    With --prometheus there is no RUN: the figures are those of the last scrape of each node. The login may
    also be in CARBONMON_PROMETHEUS_USERNAME and _PASSWORD or _PASSWORD_FILE, or _TOKEN or _TOKEN_FILE, the
    tenant in CARBONMON_PROMETHEUS_TENANT.
    """
    options.set_up_log(values["log_level"], values["log_format"])
    remote = {key: values[key] for key in ("server", *_OF_PROMETHEUS)}
    try:
        named, place = _told_apart(runs, elsewhere)
        _check(named, form, place, remote)
        if series:
            text = _series(named, output, form, merge, embodied, remote["server"])
        elif remote["server"] is None:
            text = _text(_summaries(named, output, merge, embodied), form, place)
        else:
            text = _scraped(form, place, embodied, **remote)
    except ConfigError as error:
        raise click.UsageError(f"{error}{_hint(str(error), elsewhere)}") from None
    except FetchError as error:  # not the user's mistake: worth another try
        raise click.ClickException(f"--prometheus: {error}") from None
    printing.show_form(form, text)


def _told_apart(runs: tuple[str, ...], elsewhere: str | None) -> tuple[tuple[str, ...], str | None]:
    """The runs and the choice of places: in `--elsewhere RUN` the word is no provider and thus a run."""
    if not elsewhere:
        return runs, elsewhere
    from carbonmon.analysis.compare_regions import COUNTRIES, providers

    if elsewhere.lower() in (*providers(), COUNTRIES):
        return runs, elsewhere
    return (elsewhere, *runs), ""


def _hint(error: str, elsewhere: str | None) -> str:
    """For somebody who misspelt a provider, which was then taken for a run."""
    if not elsewhere or f"no run {elsewhere!r}" not in error:
        return ""
    from carbonmon.analysis.compare_regions import COUNTRIES, providers

    known = ", ".join((*providers(), COUNTRIES))
    return f"; behind --elsewhere there may also stand {known}"


def _check(runs: Sequence[str], form: str, place: str | None, remote: Mapping[str, Any]) -> None:
    if remote["server"] is None:
        odd = [f"--{key.replace('_', '-')}" for key in _OF_PROMETHEUS if remote[key] is not None]
        if odd:
            raise ConfigError(f"{odd[0]} is for --prometheus URL; name a RUN, or give the URL as well")
        if not runs:
            raise ConfigError("name a RUN: its folder, its summary.json, or its id under --output")
    elif not remote["run_id"]:
        word = runs[0] if runs else "ID"
        raise ConfigError(f"--prometheus: say which run with --run-id {word:.64}")
    elif runs:
        raise ConfigError("--prometheus: there is no RUN beside --run-id: leave one of them out")
    if place is not None and form not in _OF_PLACES:
        raise ConfigError(f"--elsewhere is for --format {' and '.join(_OF_PLACES)}, not for {form}")


def _summaries(runs: Sequence[str], output: Path, merge: bool, embodied: bool) -> list[Summary]:
    look = find_nodes if merge else _only
    summaries = [summary for run in runs for summary in look(run, output)]
    if embodied:
        summaries = [_with_embodied(summary) for summary in summaries]
    if not merge:
        return summaries
    from carbonmon.runs.report.merging import merged

    return [merged(summaries)]


def _series(
    runs: Sequence[str], output: Path, form: str, merge: bool, embodied: bool, server: str | None
) -> str:
    """The rows of the runs' series; what is damaged in them is told beside it."""
    from carbonmon.runs import lookup
    from carbonmon.runs.report.series_csv import series_csv_text

    if form != "csv" or embodied or server is not None:
        odd = "--prometheus" if server is not None else "--embodied" if embodied else f"--format {form}"
        raise ConfigError(f"--series is for --format csv of runs' folders, not for {odd}")
    found = []
    for run in runs:
        run_id, nodes = node_folders(run, output) if merge else (run, [])
        nodes = [path for path in nodes if read_run(path)[0].id == run_id]
        found += nodes or [lookup.named(run, output, "report")]
    text, notes = series_csv_text(found)
    for note in notes:
        printing.echo(f"carbonmon: {note}", err=True)
    return text


def _scraped(
    form: str,
    place: str | None,
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

    found = prometheus.find(
        server,
        run_id,
        None if since is None else parse_moment(since, "--since"),
        None if until is None else parse_moment(until, "--until"),
        time_limit_s=TIME_LIMIT_S if timeout is None else timeout,
        login=Login(**login),
    )
    parts = [dict(part.summary) for part in found.parts]
    summary = merged([_with_embodied(part) for part in parts] if embodied else parts)
    summary["monitor"]["sources"] = [found.source()]
    summary["prometheus"] = found.document()
    if form in _WITHOUT_NOTES:
        for note in found.notes():
            printing.echo(f"carbonmon: {note}", err=True)
    return _text([summary], form, place, [found.section()])


def _only(run: str, output: Path) -> list[Summary]:
    return [find(run, output)]


def _with_embodied(summary: Summary) -> Summary:
    from carbonmon.analysis.embodied import document, of_summary

    return {**summary, "embodied": document(of_summary(summary))}


def _text(summaries: Sequence[Summary], form: str, place: str | None, sections: Sections = ()) -> str:
    """What to print; each form imports only what it needs."""
    if form == "json":
        return printing.json_text(summaries[0] if len(summaries) == 1 else summaries)
    from carbonmon.runs.report.earlier import as_now

    summaries = [as_now(summary) for summary in summaries]
    if form == "csv":
        from carbonmon.runs.report.csv_table import csv_text
        from carbonmon.runs.report.merging import check_no_duplicates

        check_no_duplicates(summaries)
        return csv_text(summaries)
    if form == "model-card":
        if len(summaries) > 1:
            raise ConfigError("a model card is of one run: name one, or add up its nodes with --merge")
        from carbonmon.analysis.compare_regions import place_name
        from carbonmon.runs.report.modelcard import model_card_text

        return model_card_text(summaries[0], place_name(summaries[0]))
    if form == "markdown":
        from carbonmon.runs.report.markdown import markdown_text

        return "\n".join(
            markdown_text(summary, [*sections, *_elsewhere(summary, place)]) for summary in summaries
        )
    return "".join(_table(summary, [*sections, *_elsewhere(summary, place)]) for summary in summaries)


def _table(summary: Summary, sections: Sections) -> str:
    from carbonmon.runs.report.condensing import condensed
    from carbonmon.runs.report.details import details_text, section_text

    width = terminal.width()
    below = "".join(section_text(section, width) for section in sections)
    return table_text(condensed(summary), width) + details_text(summary, width) + below


def _elsewhere(summary: Summary, place: str | None) -> Sections:
    if place is None:
        return []
    from carbonmon.analysis.compare_regions import compare_regions, section

    return [section(summary, compare_regions(summary, place))]
