"""`carbonmon run` with a monitor of its own: one job from start to end."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from carbonmon.client import rendezvous
from carbonmon.client.launcher import read_launch, safe_id
from carbonmon.client.protocol import RUN_VARIABLE, SEEN_VARIABLE, SOCKET_VARIABLE
from carbonmon.client.variables import mark
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import RunInfo, Snapshot
from carbonmon.core.ports import Clock, Roots
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.own_thread import OwnThread
from carbonmon.monitor.clock import SystemClock
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.runs import folders
from carbonmon.runs.holder import MONITOR_FILE
from carbonmon.runs.layout import FILES, SUMMARY_FILE
from carbonmon.runs.users import known_name
from carbonmon.service import job, naming, process_slots, run_folder
from carbonmon.service.socket.request import Handler, LateHandler
from carbonmon.service.socket.server import ControlServer
from carbonmon.service.wiring import build

if TYPE_CHECKING:
    from carbonmon.runs.reader import Checkpoint

log = logging.getLogger(__name__)


class Result(NamedTuple):
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
    goes on. A job that cannot be metered, or finds no place beside us, runs in our place.
    """
    mask = job.block_signals()
    results: list[Result] = []
    try:
        _run(config, workload, announce, clock or SystemClock(), mask, results.append)
        return results[-1]
    except ConfigError:
        raise
    # No memory, no files, our own bug: nothing of ours keeps the job from starting, or takes its exit code.
    except Exception as error:
        if results:
            log.warning("the monitor could not be closed", exc_info=True)
            return results[-1]
        if workload.pid or isinstance(workload, job.Attached):
            raise
        log.debug("the job cannot be metered", exc_info=True)
        reason = (error.strerror if isinstance(error, OSError) else "") or f"{type(error).__name__}: {error}"
    log.error("%s: it runs without carbonmon, unmetered (%s)", workload.command[0], reason)
    return Result(workload.take_our_place(mask), None)


def _run(
    config: Config,
    workload: job.Command | job.Attached,
    announce: Callable[[Snapshot, str, Sequence[str]], None],
    clock: Clock,
    mask: set[int],
    give: Callable[[Result], object],
) -> None:
    if config.budgets:
        from carbonmon.service.budget_actions import check_command  # most runs have none

        check_command(config.on_budget)
    with ExitStack() as closing:
        attaches = isinstance(workload, job.Attached)
        has_threads = attaches or not process_slots.are_scarce(config.procfs, config.sysfs)
        OwnThread.are_allowed = has_threads
        if not has_threads:
            log.warning(
                "few processes or little memory are left: carbonmon has no threads (no metrics, phases, "
                "budgets and pauses; one sample at the start, one at the end)"
            )
            kept = tuple(each for each in config.exporters if each.partition(":")[0] != "prometheus")
            config = config._replace(exporters=kept, node_meters=())
        before = None
        if config.resume is not None:
            from carbonmon.runs import lookup
            from carbonmon.runs.reader import read_checkpoint

            before = read_checkpoint(lookup.find(config.output, config.resume))
            config = config._replace(idle=before.snapshot.runs[0].info.idle_policy)  # the run keeps its own
            _warn_of_no_region(config, before)
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
        serving = closing.enter_context(ExitStack())
        more = _open_control(config, monitor, plan, serving) if has_threads else {}
        monitor.show(closing.callback)
        announce(monitor.sampler.latest, plan.info.id, monitor.places)
        monitor.begin(plan)
        budgets = None
        if config.budgets and has_threads:
            from carbonmon.service.budget_actions import BudgetActions

            budgets = BudgetActions(config, monitor, plan, workload)
        pauses = None
        if config.pause_above_g_per_kwh is not None and has_threads and isinstance(workload, job.Command):
            from carbonmon.service.pauses import JobPauses

            pauses = JobPauses(config.pause_above_g_per_kwh, monitor, plan.info.id, workload)
            workload.pauses = pauses
            closing.callback(pauses.close)
        if not has_threads:
            monitor.sampling.start_without_thread()
        elif not monitor.sampling.start() and not monitor.runs:
            log.warning("the sensors do not answer: the job starts unobserved")
            monitor.begin_now(plan)
        if has_threads:
            monitor.recorder.start()
        if budgets is not None:
            budgets.start()
        if config.status_line and has_threads:
            from carbonmon.service import status_line

            line = status_line.StatusLine(
                lambda: status_line.of_snapshot(monitor.recorder.shown(), plan.info.id), os.environ
            )
            line.start()
            serving.callback(line.close)

        def make_place() -> None:
            serving.close()
            if budgets is not None:
                budgets.close()
            if pauses is not None:
                pauses.close()
            monitor.give_up_threads()

        try:
            _start(workload, mask, more, make_place if has_threads else None)
        except OSError as error:
            monitor.sampling.stop()
            monitor.recorder.abandon()
            if before is None:
                folders.discard(plan.folder, (*FILES, SUMMARY_FILE, MONITOR_FILE))
            if error.errno in job.NO_PLACE:
                raise
            from carbonmon.service.start_errors import start_error

            log.error("%s", start_error(workload.command, error))
            give(Result(job.start_error_code(error), None))
            return

        _collect_garbage()
        if pauses is not None:
            pauses.start()

        def is_ours(pid: int) -> None:
            if pauses is not None:
                pauses.is_beside(pid)
            monitor.join(plan.info.id, Roots(wrappers=(pid,)), None)

        outcome = workload.wait(is_ours if has_threads else None)
        give(Result(outcome.shell_code, None))  # whatever becomes of the monitor
        if pauses is not None:
            pauses.close()
        if budgets is not None:
            budgets.job_ended()
        give(Result(outcome.shell_code, monitor.finish(outcome.exit_code, outcome.signal)))
        if budgets is not None:
            budgets.close()


def _collect_garbage() -> None:
    """Let the collector work from now on, on what is made from now on: all before belongs to the monitor."""
    if not gc.isenabled():  # `carbonmon.__main__` has stopped it
        gc.freeze()
        gc.enable()


def _start(
    workload: job.Command | job.Attached,
    mask: set[int],
    more: dict[str, str],
    make_place: Callable[[], object] | None,
) -> None:
    """Start the job; where there is no place for it, once more without our threads. Raises OSError."""
    try:
        workload.start(mask, more)
    except OSError as error:
        if error.errno not in job.NO_PLACE or make_place is None:
            raise
        log.warning(
            "no process can be started beside carbonmon's threads (%s): they end (no metrics, phases, "
            "budgets and pauses; one sample at the start, one at the end)",
            error.strerror,
        )
        make_place()
        workload.start(mask)


def _warn_of_no_region(config: Config, before: Checkpoint) -> None:
    """Say that a run that had a place is resumed without one: its options are not kept."""
    if config.grid or (config.region, config.intensity_g_per_kwh, config.intensity_file) != (None,) * 3:
        return
    from carbonmon.grid.annual import WORLD

    (run,) = before.snapshot.runs
    most = max(run.charges, key=lambda charge: charge.energy_j, default=None)
    if most is None or most.zone == WORLD:
        return
    option = f"--region {most.zone}" if most.kind == "table" else "the option that it had"
    log.warning(
        "until now run %s was charged with the intensity of %s, from here on with the world average, as no "
        "region is given; if that is not meant: %s",
        run.info.id,
        most.zone or most.source or "another place",
        option,
    )


def _plan(
    config: Config, workload: job.Command | job.Attached, monitor: Monitor, before: Checkpoint | None
) -> RunPlan:
    """The run of a job of our own: its folder, and where its processes are."""
    roots = _roots(config, workload, monitor)
    if config.resume is not None and before is not None:
        from carbonmon.runs import lookup

        folder = lookup.find(config.output, config.resume)
        reason = folders.why_misleading(folder)
        if reason:
            raise ConfigError(f"--resume: {folder} is not gone on with, as it may lead elsewhere: {reason}")
        run_folder.check_name(folder, before.snapshot.runs[0].info)
        # Whatever it lived by before, it ends with this job.
        return RunPlan(before.snapshot.runs[0].info._replace(ends_with="job"), folder, roots, before)
    launch = read_launch(workload.environ)
    name = config.name or naming.command_name(workload.command)
    wall_s = monitor.clock.wall_s()
    default_id = launch.run_id or naming.default_run_id(workload.environ, name, wall_s)
    host = config.host or os.uname().nodename
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
        uid=os.geteuid(),
        user=known_name(os.geteuid()) if config.user_names else "",
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

    def handler() -> Handler:
        from carbonmon.service.registry import Registry
        from carbonmon.service.socket.operations import Operations

        registry = Registry(monitor, config, os.geteuid(), creates=False)
        registry.adopt(plan)
        return Operations(registry)

    try:
        path = config.socket or rendezvous.job_socket()
        server = ControlServer(path, LateHandler(handler))
        server.start()
    except (ConfigError, OSError, RuntimeError) as error:  # RuntimeError: no more threads for this user
        log.warning("control socket unavailable (%s): phases are not recorded", error)
        return {}
    closing.callback(server.close)
    return {SOCKET_VARIABLE: str(path), RUN_VARIABLE: plan.info.id, SEEN_VARIABLE: mark(os.environ)}
