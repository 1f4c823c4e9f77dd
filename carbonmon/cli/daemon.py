"""`carbonmon daemon`: a node's service, with every run on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from carbonmon.cli import given, options
from carbonmon.cli.log import set_up_log
from carbonmon.core.config import RUN_RETAIN_S, Config
from carbonmon.core.errors import ConfigError
from carbonmon.monitor.node import Monitor


@click.command("daemon")
@options.with_options(*options.DAEMON_OPTIONS)
@click.option("--once", is_flag=True, help="Serve one run, and end with it.")
@click.option(
    "--detach", is_flag=True, help="Go to the background once runs can come; the log is beside the socket."
)
@click.option("--status", is_flag=True, help="Print the daemon's address, socket, start, sensors and runs.")
@click.option("--stop", is_flag=True, help="End the daemon of this user, and wait until it is gone.")
@click.pass_context
def command(ctx: click.Context, /, once: bool, detach: bool, status: bool, stop: bool, **values: Any) -> None:
    """Meter this node and every run on it, until it is stopped.

    Runs come by `carbonmon run`, by `carbonmon.track()` in training code, or by `carbonmon register`. SIGHUP
    reads the config file again. Root's daemon serves every user of the node; a run is its owner's alone.

    --status looks for this user's daemon, then for the node's; --stop ends this user's. Their exit codes are
    those of the Linux Standard Base: 0, it serves, or none serves any more (--stop); 3, none serves
    (--status); 4, it is another user's; 1, it does not answer, or does not end.
    """
    if status or stop:
        _refuse_what_is_for_a_start(ctx)
        from carbonmon.cli import daemon_state

        set_up_log(values["log_level"], values["log_format"])
        (daemon_state.show_status if status else daemon_state.stop)(values["socket"])
    from carbonmon.service import daemon

    config = options.to_config(values)
    if once and ctx.get_parameter_source("retain") is ParameterSource.DEFAULT:
        config = config._replace(retain_s=RUN_RETAIN_S)
    arguments = list(ctx.obj or sys.argv[1:])

    def reload() -> Config:
        try:
            with command.make_context("daemon", arguments[1:]) as new:
                return options.to_config({key: new.params[key] for key in values})
        except click.ClickException as error:
            raise ConfigError(error.format_message()) from None

    def ready(monitor: Monitor, socket: Path) -> None:
        if not config.quiet:
            from carbonmon.cli.run_alone import say, sources_text, with_page

            places = [*with_page(monitor.places), f"runs at {socket}", sources_text(monitor.sampler.latest)]
            if detach:
                places += [f"process {os.getpid()}", f"log {daemon.log_path(socket)}"]
            say(f"daemon: {' · '.join(places)}")
        told()

    told: Callable[[], object] = lambda: None  # noqa: E731 (the alternative is another function of nothing)
    try:
        if detach:
            told = daemon.detach(config.socket or daemon.default_socket())
        daemon.serve(config, once=once, ready=ready, reload=reload)
    except ConfigError as error:
        raise click.UsageError(given.with_source(options.choices(ctx, config), str(error))) from None


def _refuse_what_is_for_a_start(ctx: click.Context) -> None:
    """With --status and --stop nothing begins: an option for that is not ignored in silence."""
    chosen = [
        param.opts[0]
        for param in ctx.command.params
        if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        and param.name not in ("socket", "log_level", "log_format")
    ]
    if len(chosen) > 1:
        asked = "--status" if ctx.params["status"] else "--stop"
        other = next(name for name in chosen if name != asked)
        raise click.UsageError(f"{asked} begins nothing: leave {other} out")
