"""`carbonmon top`: a run, or a node with its runs, in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from carbonmon.cli import options, printing, progress
from carbonmon.cli.log import set_up_log
from carbonmon.core.errors import ConfigError, FetchError


@click.command("top")
@options.with_options("log-level", "log-format")
@click.option("--url", metavar="URL", help="The monitor of another machine: https://node1:9877.")
@click.option("--username", metavar="NAME", help="Who asks, with --password-file.")
@click.option("--password-file", type=options.PATH, metavar="FILE", help="Holds the password.")
@click.option(
    "--ca-file",
    type=options.PATH,
    metavar="FILE",
    help="The authority of its certificate, if not the system's.",
)
@click.option(
    "--cert-file", type=options.PATH, metavar="FILE", help="Our own certificate, where it asks for one."
)
@click.option("--key-file", type=options.PATH, metavar="FILE", help="The key of --cert-file, if not in it.")
@click.argument("run", required=False, metavar="[RUN]")
def command(run: str | None, url: str | None, **values: Any) -> None:
    """Watch a run, or a node with its runs, in the terminal.

    RUN is one that a monitor of this machine, or that at --url, shows: its id, how the id begins, its name,
    or `last`. Without RUN: the only run at the default address, or the node with all of them. Keys: s sorts,
    p shows one phase, h lists all keys, q quits.

    Where stdout is no terminal, or one that cannot be redrawn (TERM=dumb), one frame is printed. The login
    may also be in CARBONMON_TOP_USERNAME and _PASSWORD or _PASSWORD_FILE.
    """
    set_up_log(values.pop("log_level"), values.pop("log_format"))
    from carbonmon.top import places
    from carbonmon.top.api import Identity, MonitorApi
    from carbonmon.top.screen import can_redraw, signs_for
    from carbonmon.top.watch import first_view, watch

    def opened(url: str) -> MonitorApi:
        return MonitorApi(url, os.environ, Identity(**values))

    try:
        with progress.working("asking the monitor"):
            if run is None:
                api, run_id = places.monitor(url, opened, os.environ), ""
            else:
                found = places.run(run, url, opened, os.environ)
                api, run_id = found.api, found.run_id
            view = first_view(api, run_id)
        if can_redraw(os.environ):
            sys.exit(watch(api, view, os.environ))
        if not view.is_node:
            view.history.load(api.series(view.run_id))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except FetchError as error:  # not a mistake of the command line: worth another try
        raise click.ClickException(str(error)) from None
    from carbonmon.top.frame import frame

    lines = frame(view, shutil.get_terminal_size().columns, None, signs_for(sys.stdout.encoding))
    printing.show("".join("".join(span.text for span in line).rstrip() + "\n" for line in lines))
