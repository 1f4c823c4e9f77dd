"""The composition root: the only place that wires sensors, ledger, sampler and exporters together."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from carbonmon import __version__, identity, job, plugins, rendezvous, runfolder, targets
from carbonmon.charging import open_overheads, open_provider
from carbonmon.clock import SystemClock
from carbonmon.config import Config
from carbonmon.control import ControlServer
from carbonmon.errors import ConfigError
from carbonmon.guard import GuardedExporter
from carbonmon.journal import FILES
from carbonmon.launcher import read_launch, safe_id
from carbonmon.model import RunInfo, Snapshot
from carbonmon.monitor import Monitor, Tenancy
from carbonmon.opening import Sensors, open_sensors
from carbonmon.ports import Clock, Exporter, ExporterSettings, Roots
from carbonmon.protocol import RUN_VARIABLE, SOCKET_VARIABLE
from carbonmon.recorder import Recorder
from carbonmon.recovery import Checkpoint, read_checkpoint
from carbonmon.registry import Registry
from carbonmon.runfiles import boot_id
from carbonmon.sampler import Sampler
from carbonmon.service import Service
from carbonmon.workload import NodeWorkload

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """A run that has ended: how the job ended, and the last snapshot (None if the job never started)."""

    exit_code: int
    final: Snapshot | None


def notes(config: Config, sensors: Sensors) -> list[str]:
    """What the user should know before the job starts: choices that could not be followed to the letter."""
    found = [source.reason for source in sensors.sources if source.name.endswith(" note")]
    if config.gpus and not any(device.component == "gpu" for device in sensors.devices.values()):
        found.append(f"--gpus {','.join(config.gpus)}: no GPU can be metered here; carbonmon doctor says why")
    return found


def build(
    config: Config,
    environ: Mapping[str, str],
    clock: Clock,
    closing: ExitStack,
    *,
    watching: bool,
    before: Checkpoint | None = None,
) -> Monitor:
    """A monitor, wired and not started; what it holds open is closed by `closing`, in reverse.

    `environ` is that of the job whose GPUs are metered. `watching`: it looks whose processes use the node;
    else there is one run, which owns the node. Raises `ConfigError` for mistakes in the options.
    """
    provider = open_provider(config)
    closing.callback(provider.close)
    overheads = open_overheads(config)
    closing_sensors = closing.enter_context(ExitStack())
    sensors = open_sensors(config, environ, closing_sensors)
    folders: dict[str, Path] = {}
    settings = ExporterSettings(config.listen, folders, config.procfs, config.web_config, host=config.host)
    exporters = _open_exporters([_exporter(entry, settings) for entry in _files_first(config.exporters)])
    workload = NodeWorkload(config.procfs, config.sysfs, sensors.devices) if watching else None
    if workload is not None:
        closing_sensors.callback(workload.close)
    recorder = Recorder(
        clock,
        exporters,
        latest=lambda: sampler.latest,
        fresh=lambda timeout_s: sampler.fresh(timeout_s),
        period_s=config.checkpoint_s,
        before=None if before is None else before.snapshot,
    )
    closing.callback(recorder.close)
    sampler = Sampler(
        sensors.sensors,
        sensors.devices,
        sensors.unused(),
        provider,
        clock,
        config.interval_s,
        overheads,
        __version__,
        lambda: tuple([(guard.name, guard.errors) for guard in (*exporters, recorder.guard)]),
        workload,
        config.retain_s,
    )
    closing.callback(sampler.close_provider)
    for note in (*notes(config, sensors), sampler.interval_note):
        if note:
            log.warning("%s", note)
    return Monitor(
        sampler,
        recorder,
        exporters,
        sensors.devices,
        workload,
        clock,
        boot_id(config.procfs),
        folders,
        # Closing a driver that hangs would hang as well.
        leave_sensors=lambda: closing_sensors.pop_all(),
    )


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
            before = read_checkpoint(runfolder.find(config.output, config.resume))
            config = replace(config, idle=before.snapshot.runs[0].info.idle_policy)  # the run keeps its own
        watching = config.idle != "exclusive"
        monitor = build(config, workload.environ, clock, closing, watching=watching, before=before)
        tenancy = _tenancy(config, workload, monitor, before)
        monitor.open_files(tenancy)
        more = _open_control(config, monitor, tenancy, closing)
        monitor.show(closing.callback)
        if config.targets is not None:
            closing.callback(targets.announce(config.targets, monitor.places))
        announce(monitor.sampler.latest, tenancy.info.id, monitor.places)
        sampling = monitor.sampling(tenancy)
        if not sampling.start() and not monitor.runs:
            log.warning("the sensors do not answer: the job starts unobserved")
            monitor.begin(tenancy)
        monitor.recorder.start()
        try:
            workload.start(mask, more)
        except OSError as error:
            log.error("%s: %s", workload.command[0], error.strerror)
            sampling.stop()
            monitor.recorder.abandon()
            if before is None:
                runfolder.discard(tenancy.folder, (*FILES, "summary.json"))
            return Result(job.start_error_code(error), None)
        outcome = workload.wait()
        return Result(outcome.shell_code, monitor.finish(sampling, outcome.exit_code, outcome.signal))


def _exporter(entry: str, settings: ExporterSettings) -> Callable[[], Exporter]:
    """What opens an exporter that the user named, `NAME` or `NAME:ARGUMENT`."""
    name, _, argument = entry.partition(":")
    return partial(plugins.load("carbonmon.exporters", name), replace(settings, argument=argument))


def _files_first(entries: Sequence[str]) -> list[str]:
    """The user's exporters; those that may have to wait for a server end behind the others."""
    return sorted(entries, key=lambda entry: entry.partition(":")[0] in ("pushgateway", "otlp"))


def _open_exporters(factories: Sequence[Callable[[], Exporter]]) -> list[GuardedExporter]:
    """The exporters that can be made; one that cannot is logged, and the job starts without it."""
    opened = []
    for factory in factories:
        try:
            opened.append(GuardedExporter(factory()))
        except ConfigError:  # noqa: PERF203 (a handful of exporters, once)
            raise
        # An exporter's own fault, whatever it is, must not keep the job from starting.
        except Exception as error:  # noqa: BLE001
            log.warning("an exporter cannot be opened: %s: %s", type(error).__name__, error)
    return opened


def _tenancy(
    config: Config, workload: job.Command | job.Attached, monitor: Monitor, before: Checkpoint | None
) -> Tenancy:
    """The run of a job of our own: its folder, and where its processes are."""
    roots = _roots(config, workload, monitor)
    if config.resume is not None and before is not None:
        folder = runfolder.find(config.output, config.resume)
        # Whatever it lived by before, it ends with this job.
        return Tenancy(replace(before.snapshot.runs[0].info, lives_by="job"), folder, roots, before)
    launch = read_launch(workload.environ)
    name = config.name or identity.command_name(workload.command)
    wall_s = monitor.clock.wall_s()
    default_id = launch.run_id or identity.default_run_id(workload.environ, name, wall_s)
    host = config.host or platform.node()
    suffix = f".{safe_id(host)}" if (launch.nodes or 1) > 1 else ""
    folder = runfolder.create(config.output, config.run_id, default_id, suffix)
    redacted = (*workload.command[:1], "…")
    info = RunInfo(
        id=folder.name.removesuffix(suffix),
        name=name,
        command=redacted if config.redact_command else workload.command,
        labels=config.labels,
        host=host,
        started_at_s=wall_s,
        scheduler=launch.scheduler or "",
        scheduler_job_id=launch.scheduler_job_id or "",
        idle_policy=config.idle,
    )
    return Tenancy(info, folder, roots)


def _roots(config: Config, workload: job.Command | job.Attached, monitor: Monitor) -> Roots:
    """A job's processes and GPUs. What is metered here are the job's own GPUs if it was given some."""
    given = config.gpus is not None or workload.environ.get("CUDA_VISIBLE_DEVICES") is not None
    gpus = {device.id: device.share_ratio for device in monitor.devices.values() if device.component == "gpu"}
    allocated = gpus if given or config.idle == "exclusive" else None
    if isinstance(workload, job.Attached):
        return Roots(pids=(workload.pid,), gpus=allocated)
    return Roots(wrappers=(os.getpid(),), gpus=allocated)


def _open_control(config: Config, monitor: Monitor, tenancy: Tenancy, closing: ExitStack) -> dict[str, str]:
    """Listen for the job's training code; returns what tells it where. Without a socket the job goes on."""
    registry = Registry(monitor, config.output, os.geteuid(), creates=False, host=config.host)
    registry.adopt(tenancy)
    try:
        path = config.socket or rendezvous.job_socket()
        server = ControlServer(path, Service(registry))
        server.start()
    except (ConfigError, OSError) as error:
        log.warning("training code cannot name its phases: %s", error)
        return {}
    closing.callback(server.close)
    return {SOCKET_VARIABLE: str(path), RUN_VARIABLE: tenancy.info.id}
