"""`carbonmon runs prune`: remove old runs, after having said which."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from carbonmon.cli import options, printing, progress, talk
from carbonmon.cli.log import set_up_log
from carbonmon.core import spans
from carbonmon.core.errors import ConfigError
from carbonmon.core.times import local_text
from carbonmon.runs import pruning
from carbonmon.runs.index import read_index


@click.command("prune")
@options.with_options(*options.REPORT_OPTIONS)
@click.option("--daemon", is_flag=True, help="The runs of the node's daemon, instead of those of --output.")
@click.option("--older-than", metavar="SPAN", help="Remove runs that ended so long ago: 30d, 12w.")
@click.option(
    "--keep-size", metavar="SIZE", help="Remove the oldest runs until the others take so much: 500MB, 2GiB."
)
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    output: Path,
    daemon: bool,
    older_than: str | None,
    keep_size: str | None,
    yes: bool,
    **values: Any,
) -> None:
    """Remove old runs; without --yes only say which.

    A run stays while it is running, and for a day if its monitor was lost. So do folders that are no runs,
    are another user's, are links, or hold a file that is not carbonmon's.
    """
    set_up_log(values["log_level"], values["log_format"])
    is_named = _is_named(ctx)
    if is_named and (daemon or (ctx.parent is not None and ctx.parent.params.get("daemon"))):
        raise click.UsageError("--daemon and --output exclude one another: give one folder to remove from")
    if daemon:
        output = talk.daemon_output()
    elif not is_named:
        output = ctx.obj  # what stands before the word `prune`
    try:
        if older_than is None and keep_size is None:
            raise ConfigError("prune: what may go? give --older-than SPAN, --keep-size SIZE, or both")
        oldest_s = None if older_than is None else spans.parse_span(older_than, "--older-than")
        keep_bytes = None if keep_size is None else spans.parse_bytes(keep_size, "--keep-size")
        entries, notes = read_index(output, partial(progress.over, label="reading runs"))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    plan = pruning.plan(entries, time.time(), oldest_s, keep_bytes)
    failed = []
    freed_bytes = 0
    for run in plan.old:
        if yes:
            try:
                pruning.remove(run.entry.folder)
            except ConfigError as error:
                failed.append(str(error))
                continue
        freed_bytes += run.size_bytes
        ended = local_text(run.ended_s)
        printing.echo(f"{run.entry.folder}  ended {ended}  {size_text(run.size_bytes)}  by {run.reason}")
    count = len(plan.old) - len(failed)
    runs = f"{count} run{'' if count == 1 else 's'} of {len(entries)}, {size_text(freed_bytes)}"
    rest = f"{size_text(plan.kept_bytes)} stay"
    hint = "" if yes or not plan.old else ". Remove them: --yes"
    printing.echo(f"{'removed' if yes else 'would go'}: {runs}; {rest}{hint}")
    printing.tell([*notes, *plan.notes])
    for text in failed:
        printing.echo(f"carbonmon: {text}", err=True)
    if failed:
        raise click.exceptions.Exit(1)


def _is_named(ctx: click.Context) -> bool:
    """Whether the folder stands behind the word `prune`, or in a file that does."""
    source = ctx.get_parameter_source("output")
    has_file = ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE
    return source is ParameterSource.COMMANDLINE or (has_file and source is ParameterSource.DEFAULT_MAP)


def size_text(size_bytes: float) -> str:
    """Bytes in a unit by their size."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= size:
            return f"{size_bytes / size:.3g} {unit}"
    return f"{size_bytes:.0f} B"
