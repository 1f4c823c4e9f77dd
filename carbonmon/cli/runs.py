"""`carbonmon runs`: list and sum up the runs of a folder; `prune.py` cleans up."""

from __future__ import annotations

import pwd
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from carbonmon.analysis.months import by_month
from carbonmon.cli import options, printing, progress, prune, talk, terminal
from carbonmon.cli.log import set_up_log
from carbonmon.core import config, spans
from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import meant
from carbonmon.runs.index import Entry, read_index
from carbonmon.runs.listing import KEYS, LABEL_KEY, SORTS, Group, Row, Wanted, grouped, ordered
from carbonmon.runs.report import run_records, run_tables
from carbonmon.runs.users import user_name

STATES = ("running", "final", "recovered", "estimated")


@click.group("runs", invoke_without_command=True)
@options.with_options(*options.REPORT_OPTIONS)
@click.option("--daemon", is_flag=True, help="The runs of the node's daemon, instead of those of --output.")
@click.option("--name", "names", multiple=True, metavar="PATTERN", help="Runs of this name: train, 'vit-*'.")
@click.option(
    "--label", "labels", multiple=True, type=options.LABEL, metavar="KEY=VALUE", help="Runs with this label."
)
@click.option("--user", "users", multiple=True, metavar="USER", help="Runs of this user, by name or number.")
@click.option("--host", "hosts", multiple=True, metavar="PATTERN", help="Runs of this machine.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Runs in this state.")
@click.option("--since", metavar="TIME", help="Runs that began since then: 2026-11-21, 2026-11-21T20:00, 7d.")
@click.option("--until", metavar="TIME", help="Runs that began before then.")
@click.option("--month", metavar="YYYY-MM", help="What was drawn in that month: runs are cut at its ends.")
@click.option(
    "--sort",
    "sort",
    type=click.Choice(tuple(SORTS)),
    default="start",
    show_default=True,
    metavar="KEY",
    help=f"The order of the runs: {', '.join(SORTS)}; the largest and the latest are at the end.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--sum", "with_sum", is_flag=True, help="A line with the total.")
@click.option(
    "--by",
    metavar="KEY,…",
    help="Sums, and mean ± standard deviation of the runs, by name, user, host, state, month or label:KEY.",
)
@printing.format_option("text", "csv", "json")
@click.pass_context
def command(ctx: click.Context, /, form: str, output: Path, daemon: bool, **values: Any) -> None:
    """List the runs of a folder, what they add up to, and what repeats of a run differ by.

    Times without a zone, days and months are those of this machine's zone. With --month and --by month a run
    is divided by the rows of its series.
    """
    set_up_log(values["log_level"], values["log_format"])
    ctx.obj = talk.daemon_output() if daemon else output
    if ctx.invoked_subcommand is not None:
        _refuse_what_is_for_the_list(ctx)
        return
    try:
        is_named = daemon or ctx.get_parameter_source("output") is ParameterSource.COMMANDLINE
        _list(ctx.obj, is_named, form, values)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _refuse_what_is_for_the_list(ctx: click.Context) -> None:
    """What would choose runs for a list does not choose what is removed: it is not ignored in silence."""
    everywhere = ("daemon", *(name.replace("-", "_") for name in options.REPORT_OPTIONS))
    for name in ctx.params:
        if name not in everywhere and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(param.opts[0] for param in ctx.command.params if param.name == name)
            raise click.UsageError(f"{option} is for the list of runs, not for {ctx.invoked_subcommand}")


def _list(output: Path, is_named: bool, form: str, values: dict[str, Any]) -> None:
    wanted = _wanted(values)
    month = None if values["month"] is None else spans.parse_month(values["month"])
    keys = [] if values["by"] is None else _keys(values["by"])
    if form == "csv" and values["with_sum"]:
        raise ConfigError("--sum is for --format text and json: a table for programs has one kind of rows")
    entries, notes = _index(output, is_named)
    chosen = [entry for entry in entries if wanted.has(entry)]
    rows = [Row(entry) for entry in chosen]
    if month is not None or "month" in keys:
        if month is not None:
            chosen = [entry for entry in chosen if _touches(entry, month)]
        rows, more = by_month(progress.over(chosen, "dividing runs by month"))
        rows = [row for row in rows if month is None or row.month == str(month)]
        notes += more
    rows = ordered(rows, values["sort"], values["reverse"])
    groups = grouped(rows, [_value_of(key) for key in keys]) if keys else []
    total = grouped(rows, [])[0] if rows and values["with_sum"] else None
    notes += _notes(rows)
    if form == "json":
        printing.show_document(printing.json_text(_document(output, rows, keys, groups, total, notes)))
        return
    if form == "csv":
        printing.show_document(
            run_records.groups_csv(keys, groups) if keys else run_records.runs_csv(rows, user_name)
        )
    elif not rows:
        printing.echo(
            f"no run of {len(entries)} in {output} is one of those" if entries else f"no run is in {output}"
        )
    elif keys:
        printing.show(run_tables.groups_text(keys, groups, total, terminal.width()))
    else:
        printing.show(run_tables.runs_text(rows, total, user_name, terminal.width()))
    printing.tell(notes)


def _index(output: Path, is_named: bool) -> tuple[list[Entry], list[str]]:
    """The runs of the folder. If no command line names it, it may not be there yet: nothing was run."""
    if is_named or output.exists():
        return read_index(output, partial(progress.over, label="reading runs"))
    return [], [f"{output} is not there yet; name another folder with --output DIR"]


def _wanted(values: dict[str, Any]) -> Wanted:
    now_s = time.time()
    wanted = Wanted(
        values["names"],
        values["labels"],
        [_uid(user) for user in values["users"]],
        values["hosts"],
        values["states"],
    )
    if values["since"] is not None:
        wanted = wanted._replace(since_s=spans.parse_local_moment(values["since"], "--since", now_s))
    if values["until"] is not None:
        wanted = wanted._replace(until_s=spans.parse_local_moment(values["until"], "--until", now_s))
    if wanted.since_s >= wanted.until_s:
        raise ConfigError("--since must be before --until")
    return wanted


def _touches(entry: Entry, month: spans.Month) -> bool:
    if entry.start_s is None:
        return False
    return entry.start_s < month.end_s and (entry.end_s or entry.start_s) >= month.start_s


def _keys(text: str) -> list[str]:
    keys = list(dict.fromkeys(config.parse_list(text, "--by")))
    for key in keys:
        if key not in KEYS and not (key.startswith(LABEL_KEY) and key != LABEL_KEY):
            near = meant(key, (*KEYS, "label:KEY"))
            label = "" if near.startswith("did") else f"; of a label of that name: --by label:{key:.40}"
            raise ConfigError(f"--by: {key!r:.40} is nothing that runs have; {near}{label}")
    if not keys:
        raise ConfigError(f"--by: give one or several of {', '.join(KEYS)}, label:KEY")
    return keys


def _value_of(key: str) -> Callable[[Row], str]:
    if key.startswith(LABEL_KEY):
        label = key.removeprefix(LABEL_KEY)
        return lambda row: row.entry.labels.get(label, "")
    if key == "user":
        return lambda row: row.entry.user or user_name(row.entry.uid)
    if key == "month":
        return lambda row: row.month
    return lambda row: str(getattr(row.entry, key))


def _uid(user: str) -> int:
    """The number of a user."""
    with suppress(KeyError):
        return pwd.getpwnam(user).pw_uid
    if user.isascii() and user.isdecimal():
        return int(user)
    raise ConfigError(f"--user: this machine knows no user {user!r:.40}; give the name or the number")


def _notes(rows: Sequence[Row]) -> list[str]:
    unknown = len({row.entry.folder for row in rows if row.entry.energy_j is None})
    settled = len({row.entry.folder for row in rows if row.entry.is_settled})
    are = "it is" if unknown == 1 else "they are"
    notes = [f"no energy was seen in {unknown} of the runs: {are} in no sum"] if unknown else []
    return [*notes, f"the emissions of {settled} of the runs are settled"] if settled else notes


def _document(
    output: Path,
    rows: Sequence[Row],
    keys: Sequence[str],
    groups: Sequence[Group],
    total: Group | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    document: dict[str, Any] = {"schema": run_records.SCHEMA, "output": str(output)}
    if keys:
        document["groups"] = [run_records.group_document(keys, group) for group in groups]
    else:
        document["runs"] = [run_records.row_document(row, user_name) for row in rows]
    if total is not None:
        document["total"] = run_records.group_document([], total)
    return {**document, "notes": list(notes)}


command.add_command(prune.command)
