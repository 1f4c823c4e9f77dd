"""`carbonmon run`: monitor one training job from start to end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from carbonmon.cli import given, options, terminal
from carbonmon.cli.checked import hours
from carbonmon.cli.run_alone import echo, run_alone, say, say_what_goes_on, say_what_is_misplaced, with_page
from carbonmon.client.launcher import read_launch
from carbonmon.client.protocol import SOCKET_VARIABLE
from carbonmon.client.surrounding_run import monitor_sockets
from carbonmon.client.switch import is_off
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.service.job import Command, can_start, start_error_code

if TYPE_CHECKING:
    from carbonmon.service.joined_job import Part


class _Switched(click.Command):
    """The command, but that with CARBONMON_OFF=1 the job takes its place, whatever the options are."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if is_off(os.environ) and not extra.get("resilient_parsing"):  # a completion runs nothing
            lenient = super().make_context(info_name, list(args), parent, resilient_parsing=True, **extra)
            job = args[args.index("--") + 1 :] if "--" in args else lenient.params.get("job")
            if job and job[0]:
                _become(job)
            if lenient.params.get("attach") is not None:  # there is no job: only a process to watch
                raise click.exceptions.Exit(0)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    "run", cls=_Switched, context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False}
)
@options.with_options(*options.RUN_OPTIONS, retain=options.RUN_RETAIN)
@click.option(
    "--start",
    type=click.Choice(["greenest"]),
    help="Wait for the greenest start, by --grid or --intensity-file; needs --for and --within.",
)
@click.option("--for", "run_h", type=hours("--for", 0.01), metavar="HOURS", help="How long the job takes.")
@click.option(
    "--within",
    "within_h",
    type=hours("--within", 0.0),
    metavar="HOURS",
    help="How long it may wait: the latest start.",
)
@click.argument("job", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARG…]")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    job: tuple[str, ...],
    start: str | None,
    run_h: float | None,
    within_h: float | None,
    **values: Any,
) -> None:
    """Monitor one training job from start to end.

    The job keeps its streams, signals and exit code. One line at the start says where metrics and the
    summary are and which sources are used. A table of energy and emissions is printed at the end.

    It joins a run that is already active (nested, or other ranks of one launcher). Otherwise it uses the
    node's daemon, unless an option asks for what the daemon does not do; --own-monitor always starts a
    monitor. A line says which options another monitor does not follow.
    """
    if isinstance(ctx.obj, ConfigError):  # `plain_run.py` has read the words, and said all else
        raise click.UsageError(
            given.with_source(options.choices(ctx, options.config_of(values)), str(ctx.obj))
        )
    config = options.to_config(values)
    _check_job(job, config)
    say_what_is_misplaced(job, config, given.given(ctx))
    is_asked = ctx.get_parameter_source("pause_above") is click.core.ParameterSource.COMMANDLINE
    if is_asked:
        _check_pauses(config)
    _wait(ctx, values, config, start, run_h, within_h)
    try:
        # What will hardly start is ours: another monitor would keep a run of it.
        part = take_part(ctx, config, job) if job and can_start(job[0]) else None
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if part is not None:
        sys.exit(_accompany(part, config, job))
    given.check_needs(ctx, values)
    if not is_asked:
        config = _without_pauses(config)

    try:
        code = run_alone(config, job)
    except ConfigError as error:
        raise click.UsageError(given.with_source(options.choices(ctx, config), str(error))) from None
    sys.exit(code)


def _check_job(job: Sequence[str], config: Config) -> None:
    if job and config.attach is not None:
        raise click.UsageError(
            f"--attach meters a process that runs already: leave {job[0]!r:.40} out, or it"
        )
    if not job and config.attach is None:
        raise click.UsageError(
            "give a command after two hyphens (carbonmon run -- python train.py), or --attach PID"
        )
    if job and not job[0]:
        raise click.UsageError("the command behind -- is empty, as of a variable that is not set: name one")


def _wait(
    ctx: click.Context,
    values: Mapping[str, Any],
    config: Config,
    start: str | None,
    run_h: float | None,
    within_h: float | None,
) -> None:
    """Wait for the greenest start where that is asked for."""
    if start is None and run_h is None and within_h is None:
        return
    if start is None or run_h is None or within_h is None or config.attach is not None:
        raise click.UsageError(
            "give all three or none of them, and a command: --start greenest --for HOURS --within HOURS"
        )
    from carbonmon.cli.start import wait

    wait(ctx, values, run_h, within_h, (lambda text: None) if config.quiet else say)


def _check_pauses(config: Config) -> None:
    from carbonmon.service.pauses import check

    try:
        check(config, read_launch(os.environ))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _without_pauses(config: Config) -> Config:
    """The choices without pauses where these cannot be: a variable or a file may be meant for other jobs."""
    if config.pause_above_g_per_kwh is None:
        return config
    try:
        _check_pauses(config)
    except click.UsageError as error:
        say(f"not followed: {error.message}")
        return config._replace(pause_above_g_per_kwh=None)
    return config


def take_part(ctx: click.Context, config: Config, job: Sequence[str]) -> Part | None:
    """Our part in the run of another monitor; None if the job is to have one of its own."""
    if config.own_monitor or config.resume is not None or config.attach is not None:
        return None
    environ = os.environ
    local_size = read_launch(environ).local_size or 1
    if not environ.get(SOCKET_VARIABLE) and local_size < 2 and not any(monitor_sockets(environ)):
        return None
    from carbonmon.service import joined_job

    choices = options.choices(ctx, config)
    message = joined_job.join_message(environ, job, config, choices)
    part = joined_job.join_named(environ, message, choices) or joined_job.join_around(
        environ, message, choices
    )
    if part is None:
        try:
            part = joined_job.join_daemon(environ, message, choices)
        except joined_job.DaemonUnlike as unlike:
            if not config.quiet:
                say(f"the node's daemon is not asked, as it has other options: {unlike}")
    if part is None:
        arguments = options.as_arguments(ctx, options.DAEMON_OPTIONS)
        part = joined_job.join_ranks(environ, message, choices, arguments)
    return part


def _accompany(part: Part, config: Config, job: Sequence[str]) -> int:
    from carbonmon.service import joined_job

    if not config.quiet:
        say(f"part of run {part.run_id}: {' · '.join([*with_page(part.places), str(part.folder)])}")

    def show(summary: dict[str, Any], going_on: Sequence[str]) -> None:
        if not config.quiet:
            from carbonmon.runs.summary.text import table_text

            echo(table_text(summary, terminal.width(err=True)))
            say_what_goes_on(going_on)

    return joined_job.run(part, Command(job, dict(os.environ)), config.output, show, config.status_line)


def _become(job: Sequence[str]) -> NoReturn:
    """Become the job, with the signals that Python ignores as they were."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(job[0], list(job))
    except OSError as error:
        echo(f"{job[0]}: {error.strerror}\n")
        sys.exit(start_error_code(error))
