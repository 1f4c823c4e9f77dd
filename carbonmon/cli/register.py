"""`carbonmon register`: have the node's daemon follow a run, for instance from a scheduler's prolog."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from carbonmon.cli import options, printing, talk
from carbonmon.cli.log import set_up_log
from carbonmon.client import choices
from carbonmon.client.connection import MonitorConnection
from carbonmon.client.launcher import job_run_id, read_launch
from carbonmon.client.protocol import GPU_VARIABLES
from carbonmon.core.ways import OPTIONS, Choice


@click.command("register")
@options.with_options("run-id", "name", "label", "gpus", "socket", "log-level", "log-format")
@click.option(
    "--pid", type=click.IntRange(min=1), metavar="PID", help="Follow this process and its descendants."
)
@click.option("--cgroup", metavar="PATH", help="Follow everything in this cgroup.")
@click.option("--join", is_flag=True, help="Add the process of --pid to the run if that is there already.")
@click.option("--uid", type=click.IntRange(min=0), metavar="UID", help="The run's owner; for root only.")
@click.option(
    "--idle",
    type=options.IDLE,
    envvar=OPTIONS["idle"].variable,
    metavar="POLICY",
    help="How idle CPU and memory energy is attributed; default: as the daemon does.",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run_id: str | None,
    name: str | None,
    label: tuple[tuple[str, str], ...],
    gpus: tuple[str, ...] | None,
    socket: Path | None,
    log_level: str,
    log_format: str,
    pid: int | None,
    cgroup: str | None,
    join: bool,
    uid: int | None,
    idle: str | None,
) -> None:
    """Have the node's daemon follow a run, and print its id.

    In a Slurm prolog the id is that of the job and the owner its user. The run ends with its process or
    cgroup, or by `carbonmon unregister`. With --join, as in a task's prolog, one more process becomes part of
    such a run, or begins it.
    """
    set_up_log(log_level, log_format)
    launch = read_launch(os.environ)
    owner = os.environ.get("SLURM_JOB_UID", "")
    if uid is None and os.geteuid() == 0 and owner.isdigit():
        uid = int(owner)
    message = {
        "run_id": run_id or job_run_id(os.environ),
        "name": name,
        "labels": dict(label),
        "gpus": None if gpus is None else list(gpus),
        "pid": pid,
        "cgroup": cgroup,
        "uid": uid,
        "idle": idle,
        "scheduler": launch.scheduler,
        "scheduler_job_id": launch.scheduler_job_id,
        "nodes": launch.nodes,
        "environ": {key: os.environ[key] for key in GPU_VARIABLES if key in os.environ},
    }
    if join and (pid is None or cgroup is not None or message["run_id"] is None):
        raise click.UsageError("--join adds one process to a run: give --pid, and --run-id outside of a job")
    messages: list[dict[str, Any]] = [{"op": "register", **message}]
    if join:
        # Take part, name the process, and be gone: a participant without a goodbye ends no run. A run that
        # began with us goes on while any of its processes lives. We are not one of them, as a wrapper.
        messages = [{**message, "op": "join", "wrapper": True}, {"op": "job", "pid": pid}]
    chosen = _choices(ctx, {"run-id": run_id, "name": name, "label": label, "gpus": gpus, "idle": idle})

    def tell(connection: MonitorConnection, answers: list[dict[str, Any]]) -> None:
        choices.tell(connection, answers[0], chosen, is_inside=False)

    printing.echo(talk.ask_all(messages, socket, then=tell)[0]["run_id"])


def _choices(ctx: click.Context, own: Mapping[str, Any]) -> list[Choice]:
    """What was chosen for the run: our own options, and in the environment and the file also others."""
    others = choices.from_environment(options.environment(ctx))
    given = [
        choices.choose(
            OPTIONS[name],
            [f"{key}={text}" for key, text in value] if name == "label" else value,
            f"--{name} ",
        )
        for name, value in own.items()
        if value
    ]
    return given + [choice for choice in others if choice.option.name not in own]
