"""`carbonmon unregister`: end a run that the daemon follows, for instance from a scheduler's epilog."""

from __future__ import annotations

import os
from pathlib import Path

import click

from carbonmon.cli import options, printing, talk
from carbonmon.client.launcher import job_run_id


@click.command("unregister")
@options.with_options("socket", "log-level", "log-format")
@click.option("--exit-code", type=click.IntRange(min=0), metavar="N", help="How the job ended, if you know.")
@click.argument("run_id", required=False, metavar="[RUN_ID]")
def command(
    run_id: str | None, exit_code: int | None, socket: Path | None, log_level: str, log_format: str
) -> None:
    """End a run that the node's daemon follows, and print where its summary is.

    Without RUN_ID it is the one of the scheduler's job that this is called in.
    """
    options.set_up_log(log_level, log_format)
    run_id = run_id or job_run_id(os.environ)
    if run_id is None:
        raise click.UsageError("give the id of the run: carbonmon unregister RUN_ID")
    answer = talk.ask("unregister", {"run_id": run_id, "exit_code": exit_code}, socket)
    printing.echo(f"{answer['run_id']}: {answer['folder']}")
