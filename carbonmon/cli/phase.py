"""`carbonmon phase`: name what a shell script does next."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from carbonmon.cli import options, printing, talk
from carbonmon.cli.log import set_up_log
from carbonmon.client.protocol import BOOT_CLOCK, RUN_VARIABLE, SOCKET_VARIABLE
from carbonmon.client.switch import is_off

ANSWER_S = 2.0
"""A script does not wait longer for a monitor that hangs."""


class _Switched(click.Command):
    """The command, but that with CARBONMON_OFF=1 it does nothing, whatever the options are."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if is_off(os.environ):
            raise click.exceptions.Exit(0)
        return super().make_context(info_name, args, parent, **extra)


@click.command("phase", cls=_Switched)
@options.with_options("log-level", "log-format")
@click.argument("name", required=False, metavar="[NAME]")
def command(name: str | None, log_level: str, log_format: str) -> None:
    """Name the phase that a run is in from now on; without NAME it is in none.

    For shell scripts under `carbonmon run`. Without a monitor it prints a line and exits with 0, so that
    no script fails. A phase set by the training code takes precedence.
    """
    set_up_log(log_level, log_format)
    path = os.environ.get(SOCKET_VARIABLE)
    if not path:
        printing.echo("carbonmon: no run is metered here: put carbonmon run -- before the script", err=True)
        return
    at_s = time.clock_gettime(BOOT_CLOCK)
    message = {"name": name, "run_id": os.environ.get(RUN_VARIABLE), "at_s": at_s}
    try:
        talk.ask("run_phase", message, Path(path), ANSWER_S)
    except click.ClickException as error:
        printing.echo(f"carbonmon: {error.format_message()}", err=True)
