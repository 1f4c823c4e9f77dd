"""`carbonmon unregister`: end a run that the daemon follows, for instance from a scheduler's epilog."""

from __future__ import annotations

import os
from pathlib import Path

import click

from carbonmon.cli import options, printing, talk
from carbonmon.cli.log import set_up_log
from carbonmon.client.launcher import job_run_id
from carbonmon.core.files import replace_file


@click.command("unregister")
@options.with_options("socket", "log-level", "log-format")
@click.option("--exit-code", type=click.IntRange(min=0), metavar="N", help="How the job ended, if you know.")
@click.option(
    "--summary",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the run's summary there; its folder may be readable for the daemon's user alone.",
)
@click.argument("run_id", required=False, metavar="[RUN_ID]")
def command(
    run_id: str | None,
    exit_code: int | None,
    summary: Path | None,
    socket: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """End a run that the node's daemon follows, and print where its summary is.

    Without RUN_ID it is the one of the scheduler's job that this is called in.
    """
    set_up_log(log_level, log_format)
    run_id = run_id or job_run_id(os.environ)
    if run_id is None:
        raise click.UsageError("give the id of the run: carbonmon unregister RUN_ID")
    answer = talk.ask("unregister", {"run_id": run_id, "exit_code": exit_code}, socket)
    if summary is not None:
        if answer.get("summary") is None:
            raise click.ClickException(f"run {answer['run_id']} has ended; the daemon gave no summary of it")
        try:
            replace_file(summary, printing.json_text(answer["summary"]).encode())
        except OSError as error:
            raise click.ClickException(
                f"--summary: {summary} cannot be written ({error.strerror or error}); run {answer['run_id']} "
                f"has ended, and its summary is in {answer['folder']}"
            ) from None
    printing.echo(f"{answer['run_id']}: {answer['folder']}")
