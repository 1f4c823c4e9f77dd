"""`carbonmon register`: have the node's daemon follow a run, for instance from a scheduler's prolog."""

from __future__ import annotations

import os
from pathlib import Path

import click

from carbonmon.cli import options, talk
from carbonmon.launcher import read_launch
from carbonmon.protocol import GPU_VARIABLES


@click.command("register")
@options.with_options("run-id", "name", "label", "gpus", "socket", "log-level", "log-format")
@click.option(
    "--pid", type=click.IntRange(min=1), metavar="PID", help="Follow this process and its descendants."
)
@click.option("--cgroup", metavar="PATH", help="Follow everything in this cgroup.")
@click.option("--uid", type=click.IntRange(min=0), metavar="UID", help="The run's owner; for root only.")
@click.option("--idle", type=options.IDLE, metavar="POLICY", help="Who pays for idle CPUs: the daemon's own.")
def command(
    run_id: str | None,
    name: str | None,
    label: tuple[tuple[str, str], ...],
    gpus: tuple[str, ...] | None,
    socket: Path | None,
    log_level: str,
    log_format: str,
    pid: int | None,
    cgroup: str | None,
    uid: int | None,
    idle: str | None,
) -> None:
    """Have the node's daemon follow a run, and print its id.

    In a Slurm prolog the id is that of the job and the owner its user. The run ends with its process or
    cgroup, or by `carbonmon unregister`.
    """
    options.set_up_log(log_level, log_format)
    launch = read_launch(os.environ)
    owner = os.environ.get("SLURM_JOB_UID", "")
    if uid is None and os.geteuid() == 0 and owner.isdigit():
        uid = int(owner)
    message = {
        "run_id": run_id or launch.run_id,
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
    click.echo(talk.ask("register", message, socket)["run_id"])
