"""`carbonmon daemon`: a node's service, with every run on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from carbonmon.cli import given, options
from carbonmon.core.config import RUN_RETAIN_S, Config
from carbonmon.core.errors import ConfigError
from carbonmon.monitor.node import Monitor


@click.command("daemon")
@options.with_options(*options.DAEMON_OPTIONS)
@click.option("--once", is_flag=True, help="Serve one run, and end with it.")
@click.option("--detach", is_flag=True, help="Go to the background once runs can come.")
@click.pass_context
def command(ctx: click.Context, /, once: bool, detach: bool, **values: Any) -> None:
    """Meter this node and every run on it, until it is stopped.

    Runs come by `carbonmon run`, by `carbonmon.track()` in training code, or by `carbonmon register`. SIGHUP
    reads the config file again. Root's daemon serves every user of the node; a run is its owner's alone.
    """
    from carbonmon.service import daemon

    config = options.to_config(values)
    if once and ctx.get_parameter_source("retain") is ParameterSource.DEFAULT:
        config = replace(config, retain_s=RUN_RETAIN_S)
    arguments = list(ctx.obj or sys.argv[1:])

    def reload() -> Config:
        try:
            with command.make_context("daemon", arguments[1:]) as new:
                return options.to_config({key: new.params[key] for key in values})
        except click.ClickException as error:
            raise ConfigError(error.format_message()) from None

    def ready(monitor: Monitor, socket: Path) -> None:
        if not config.quiet:
            from carbonmon.cli.run import say, sources_text, with_page

            places = [*with_page(monitor.places), f"runs at {socket}", sources_text(monitor.sampler.latest)]
            say(f"daemon: {' · '.join(places)}")
        told()

    told: Callable[[], object] = lambda: None  # noqa: E731 (the alternative is another function of nothing)
    try:
        if detach:
            told = daemon.detach(config.socket or daemon.default_socket())
        daemon.serve(config, once=once, ready=ready, reload=reload)
    except ConfigError as error:
        raise click.UsageError(given.with_source(options.choices(ctx, config), str(error))) from None
