"""`carbonmon run`: monitor one training job from start to end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from carbonmon import __version__
from carbonmon.cli import options
from carbonmon.client.launcher import read_launch
from carbonmon.client.protocol import SOCKET_VARIABLE
from carbonmon.client.rendezvous import daemon_sockets
from carbonmon.client.surrounding_run import monitor_sockets
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Snapshot
from carbonmon.service import single_run
from carbonmon.service.job import Attached, Command, left_behind
from carbonmon.service.unseen import unseen_note

if TYPE_CHECKING:
    from carbonmon.service.joined_job import Part

MAX_NAMED = 4
"""So many processes that go on are named."""


@click.command("run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@options.with_options(*options.RUN_OPTIONS)
@click.argument("job", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARG…]")
@click.pass_context
def command(ctx: click.Context, /, job: tuple[str, ...], **values: Any) -> None:
    """Monitor one training job from start to end.

    The job keeps its streams, signals and exit code. One line at the start says where metrics and the
    summary are and which sources are used. A table of energy and emissions is printed at the end.

    It joins a run that is already active (nested, or other ranks of one launcher). Otherwise it uses the
    node's daemon, unless an option needs a separate monitor; --own-monitor always starts one.
    """
    config = options.to_config(values)
    if bool(job) == (config.attach is not None):
        raise click.UsageError(
            "give a command after two hyphens (carbonmon run -- python train.py), or --attach PID"
        )

    if not config.quiet:
        _say_what_is_unseen(job, config)
    if config.attach is None and config.resume is None and not config.own_monitor:
        part = _join(ctx, config, job)
        if part is not None:
            sys.exit(_take_part(part, config, job))

    def announce(snapshot: Snapshot, run_id: str, places: Sequence[str]) -> None:
        if config.quiet:
            return
        say(f"run {run_id}: {' · '.join([*places, sources_text(snapshot)])}")
        if snapshot.intensity.note:
            say(f"{snapshot.intensity.g_per_kwh:.4g} gCO2e/kWh: {snapshot.intensity.note}")

    try:
        workload = Attached(config.attach) if config.attach is not None else Command(job, dict(os.environ))
        result = single_run.run(config, workload, announce)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if result.final is not None and not config.quiet:
        from carbonmon.runs.summary.text import describe

        echo(describe(result.final))
        _say_what_goes_on(left_behind())
    sys.exit(result.exit_code)


def _join(ctx: click.Context, config: Config, job: Sequence[str]) -> Part | None:
    """Our part in the run of another monitor; None if the job is to have one of its own."""
    environ = os.environ
    local_size = read_launch(environ).local_size or 1
    if not environ.get(SOCKET_VARIABLE) and local_size < 2 and not any(monitor_sockets(environ)):
        return None
    from carbonmon.service import joined_job

    idle = config.idle if options.given(ctx, ("idle",)) else None
    message = joined_job.join_message(
        environ, job, config.name, config.run_id, config.labels, config.gpus, idle
    )
    measuring = options.given(ctx, options.MEASURING_OPTIONS)
    part = joined_job.join_outer(environ, message) or joined_job.join_around(environ, message)
    if part is None and not measuring:
        part = joined_job.join_daemon(environ, message)
    elif part is None and any(map(os.path.exists, daemon_sockets())) and not config.quiet:
        say(f"the daemon of this node is not asked: it cannot follow --{measuring[0]}")
    if part is None:
        arguments = options.as_arguments(ctx, options.DAEMON_OPTIONS)
        part = joined_job.join_ranks(environ, message, arguments)
    return part


def _take_part(part: Part, config: Config, job: Sequence[str]) -> int:
    from carbonmon.service import joined_job

    if not config.quiet:
        say(f"part of run {part.run_id}: {' · '.join([*part.places, str(part.folder)])}")

    def show(summary: dict[str, Any], going_on: Sequence[str]) -> None:
        if not config.quiet:
            from carbonmon.runs.summary.text import table_text

            echo(table_text(summary))
            _say_what_goes_on(going_on)

    return joined_job.run(part, Command(job, dict(os.environ)), config.output, show)


def _say_what_is_unseen(job: Sequence[str], config: Config) -> None:
    """Where carbonmon belongs if this command's work is not below it. A daemon may be told of it by hooks."""
    told = os.environ.get(SOCKET_VARIABLE)
    if told and not PurePath(told).name.startswith("run-"):
        return
    note = unseen_note(job, os.environ, owns_node=config.idle == "exclusive")
    if note:
        say(note)


def _say_what_goes_on(processes: Sequence[str]) -> None:
    if processes:
        count = "1 process goes on" if len(processes) == 1 else f"{len(processes)} processes go on"
        more = ", …" if len(processes) > MAX_NAMED else ""
        named = ", ".join(processes[:MAX_NAMED])
        say(f"{count} ({named}{more}): energy from now on is not counted")


def sources_text(snapshot: Snapshot) -> str:
    """How many devices of each kind are known by which method, for the first line."""
    counts: dict[tuple[str, str], int] = {}
    for state in snapshot.devices:
        method = state.device.methods[0] if state.device.methods else "nothing"
        key = (state.device.component, method)
        counts[key] = counts.get(key, 0) + 1
    if not counts:
        return "no source of power: see carbonmon doctor"
    words = {"counter": "counter", "power": "power sensor", "tdp": "tdp, estimated"}
    return ", ".join(
        f"{count} {component} by {words.get(method, method)}" for (component, method), count in counts.items()
    )


def say(text: str) -> None:
    """A line of our own on stderr."""
    echo(f"carbonmon {__version__}: {text}\n")


def echo(text: str) -> None:
    """Write to stderr; one that is closed or broken is no reason to fail the job."""
    with suppress(OSError, ValueError):
        click.echo(text, err=True, nl=False)
