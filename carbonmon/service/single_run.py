"""`carbonmon run` with a monitor of its own: one job from start to end."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carbonmon.client import rendezvous
from carbonmon.client.launcher import read_launch, safe_id
from carbonmon.client.protocol import RUN_VARIABLE, SEEN_VARIABLE, SOCKET_VARIABLE
from carbonmon.client.variables import mark
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import RunInfo, Snapshot
from carbonmon.core.ports import Clock, Roots
from carbonmon.monitor.clock import SystemClock
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.runs import folders
from carbonmon.runs.holder import MONITOR_FILE
from carbonmon.runs.layout import FILES, SUMMARY_FILE
from carbonmon.service import job, naming, run_folder
from carbonmon.service.registry import Registry
from carbonmon.service.socket.operations import Operations
from carbonmon.service.socket.server import ControlServer
from carbonmon.service.wiring import build

if TYPE_CHECKING:
    from carbonmon.runs.reader import Checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """A run that has ended: how the job ended, and the last snapshot (None if the job never started)."""

    exit_code: int
    final: Snapshot | None


def run(
    config: Config,
    workload: job.Command | job.Attached,
    announce: Callable[[Snapshot, str, Sequence[str]], None],
    clock: Clock | None = None,
) -> Result:
    """Meter one job from start to end.

    `announce(snapshot, run_id, places)` is called once before the job starts. Raises `ConfigError` for
    mistakes in the options, always before the job starts; whatever fails later is logged, and the job
    goes on.
    """
    clock = clock or SystemClock()
    with ExitStack() as closing:
        mask = job.block_signals()
        before = None
        if config.resume is not None:
            from carbonmon.runs.reader import read_checkpoint

            before = read_checkpoint(folders.find(config.output, config.resume))
            config = replace(config, idle=before.snapshot.runs[0].info.idle_policy)  # the run keeps its own
        watching = config.idle != "exclusive"
        monitor = build(
            config,
            workload.environ,
            clock,
            closing,
            watching=watching,
            before=before,
            served_s=config.retain_s,
        )
        plan = _plan(config, workload, monitor, before)
        monitor.plan(plan)
        more = _open_control(config, monitor, plan, closing)
        monitor.show(closing.callback)
        announce(monitor.sampler.latest, plan.info.id, monitor.places)
        monitor.begin(plan)
        if not monitor.sampling.start() and not monitor.runs:
            log.warning("the sensors do not answer: the job starts unobserved")
            monitor.begin_now(plan)
        monitor.recorder.start()
        try:
            workload.start(mask, more)
        except OSError as error:
            log.error("%s: %s", workload.command[0], error.strerror)
            monitor.sampling.stop()
            monitor.recorder.abandon()
            if before is None:
                folders.discard(plan.folder, (*FILES, SUMMARY_FILE, MONITOR_FILE))
            return Result(job.start_error_code(error), None)
        outcome = workload.wait()
        return Result(outcome.shell_code, monitor.finish(outcome.exit_code, outcome.signal))


def _plan(
    config: Config, workload: job.Command | job.Attached, monitor: Monitor, before: Checkpoint | None
) -> RunPlan:
    """The run of a job of our own: its folder, and where its processes are."""
    roots = _roots(config, workload, monitor)
    if config.resume is not None and before is not None:
        folder = folders.find(config.output, config.resume)
        # Whatever it lived by before, it ends with this job.
        return RunPlan(replace(before.snapshot.runs[0].info, ends_with="job"), folder, roots, before)
    launch = read_launch(workload.environ)
    name = config.name or naming.command_name(workload.command)
    wall_s = monitor.clock.wall_s()
    default_id = launch.run_id or naming.default_run_id(workload.environ, name, wall_s)
    host = config.host or platform.node()
    suffix = f".{safe_id(host)}" if (launch.nodes or 1) > 1 else ""
    folder = run_folder.create(config.output, config.run_id, default_id, suffix, workload.environ)
    info = RunInfo(
        id=folder.name.removesuffix(suffix),
        name=name,
        command=tuple(naming.kept_command(workload.command, config.redact_command)),
        labels=config.labels,
        host=host,
        started_at_s=wall_s,
        scheduler=launch.scheduler or "",
        scheduler_job_id=launch.scheduler_job_id or "",
        idle_policy=config.idle,
    )
    return RunPlan(info, folder, roots)


def _roots(config: Config, workload: job.Command | job.Attached, monitor: Monitor) -> Roots:
    """A job's processes and GPUs. What is metered here are the job's own GPUs if it was given some.

    Where a list of CUDA's is there, it always decides, also for devices that are not NVML's (a recording).
    """
    is_given = config.gpus is not None or "CUDA_VISIBLE_DEVICES" in workload.environ or monitor.gpus_are_given
    gpus = {gpu: device.share_ratio for device in monitor.devices.values() for gpu in device.gpu_ids}
    allocated = gpus if is_given or config.idle == "exclusive" else None
    if isinstance(workload, job.Attached):
        return Roots(pids=(workload.pid,), gpus=allocated)
    return Roots(wrappers=(os.getpid(),), gpus=allocated)


def _open_control(config: Config, monitor: Monitor, plan: RunPlan, closing: ExitStack) -> dict[str, str]:
    """Listen for the job's training code; returns what tells it where. Without a socket the job goes on."""
    registry = Registry(monitor, config, os.geteuid(), creates=False)
    registry.adopt(plan)
    try:
        path = config.socket or rendezvous.job_socket()
        server = ControlServer(path, Operations(registry))
        server.start()
    except (ConfigError, OSError, RuntimeError) as error:  # RuntimeError: no more threads for this user
        log.warning("control socket unavailable (%s): phases are not recorded", error)
        return {}
    closing.callback(server.close)
    return {SOCKET_VARIABLE: str(path), RUN_VARIABLE: plan.info.id, SEEN_VARIABLE: mark(os.environ)}
