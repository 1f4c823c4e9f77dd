"""The composition root: the only place that wires sensors, ledger, sampler and exporters together."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from carbonmon import __version__, identity, job, plugins, runfolder
from carbonmon.clock import Alarm, SystemClock
from carbonmon.config import Config
from carbonmon.errors import ConfigError
from carbonmon.guard import GuardedExporter
from carbonmon.journal import FILES
from carbonmon.ledger import RunAccount
from carbonmon.model import Device, RunInfo, Snapshot
from carbonmon.opening import ANSWER_TIMEOUT_S, Sensors, open_sensors
from carbonmon.ports import Clock, Exporter, ExporterSettings, IntensityProvider, IntensitySettings
from carbonmon.recorder import Recorder
from carbonmon.recovery import Checkpoint, read_checkpoint
from carbonmon.sampler import Sampler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """A run that has ended: how the job ended, and the last snapshot (None if the job never started)."""

    exit_code: int
    final: Snapshot | None


def open_provider(config: Config) -> IntensityProvider:
    """The intensity that the user chose: a figure, a place, or neither (the world average)."""
    name = "table" if config.intensity_g_per_kwh is None else "fixed"
    factory: Callable[[IntensitySettings], IntensityProvider] = plugins.load("carbonmon.intensity", name)
    return factory(IntensitySettings(config.region, config.intensity_g_per_kwh))


def notes(config: Config, sensors: Sensors) -> list[str]:
    """What the user should know before the job starts: choices that could not be followed to the letter."""
    found = [source.reason for source in sensors.sources if source.name.endswith(" note")]
    if config.gpus and not any(device.component == "gpu" for device in sensors.devices.values()):
        found.append(f"--gpus {','.join(config.gpus)}: no GPU can be metered here; carbonmon doctor says why")
    return found


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
    with ExitStack() as closing, ExitStack() as closing_sensors:
        provider = open_provider(config)
        closing.callback(provider.close)
        mask = job.block_signals()
        sensors = open_sensors(config, workload.environ, closing_sensors)
        exporter_factories = [plugins.load("carbonmon.exporters", entry) for entry in config.exporters]
        begun = _begin_folder(config, workload, clock)
        settings = ExporterSettings(config.listen, begun.folder, config.procfs)
        exporters = _open_exporters(exporter_factories, settings)
        recorder = Recorder(
            begun.folder,
            clock,
            config.procfs,
            exporters,
            latest=lambda: sampler.latest,
            fresh=lambda timeout_s: sampler.fresh(timeout_s),
            period_s=config.checkpoint_s,
            before=begun.before.snapshot if begun.before is not None else None,
        )
        closing.callback(recorder.close)
        sampler = Sampler(
            sensors.sensors,
            sensors.devices,
            sensors.unused(),
            provider,
            clock,
            config.interval_s,
            config.pue_ratio,
            __version__,
            lambda: tuple([(guard.name, guard.errors) for guard in (*exporters, recorder.guard)]),
        )
        for note in (*notes(config, sensors), sampler.interval_note):
            if note:
                log.warning("%s", note)
        places = []
        for exporter in exporters:
            closing.callback(exporter.close)
            places.append(exporter.start(recorder.shown))
        announce(sampler.latest, begun.folder.name, [place for place in places if place])
        sampling = Sampling(sampler, begun, clock, recorder.boot_id)
        sampling.start()
        recorder.start(begun.gone(sensors.devices))
        try:
            workload.start(mask)
        except OSError as error:
            log.error("%s: %s", workload.command[0], error.strerror)
            sampling.stop()
            recorder.abandon()
            if begun.before is None:
                runfolder.discard(begun.folder, (*FILES, "summary.json"))
            return Result(job.start_error_code(error), None)
        outcome = workload.wait()
        final = None
        try:
            if not sampling.stop():
                log.warning("a driver call hangs: what came after the last sample is unobserved")
                closing_sensors.pop_all()  # closing a driver that hangs would hang as well
            final = sampler.finish(outcome.exit_code, outcome.signal)
            if not recorder.finish(final):
                log.warning("the disk hangs: the last checkpoint of %s may be missing", begun.folder)
        except Exception:  # our own bug: the job's exit code is passed on all the same
            log.exception("the run could not be summed up")
        return Result(outcome.shell_code, final)


def _open_exporters(
    factories: Sequence[Callable[[ExporterSettings], Exporter]], settings: ExporterSettings
) -> list[GuardedExporter]:
    """The exporters that can be made; one that cannot is logged, and the job starts without it."""
    opened = []
    for factory in factories:
        try:
            opened.append(GuardedExporter(factory(settings)))
        except ConfigError:  # noqa: PERF203 (a handful of exporters, once)
            raise
        # An exporter's own fault, whatever it is, must not keep the job from starting.
        except Exception as error:  # noqa: BLE001
            log.warning("an exporter cannot be opened: %s: %s", type(error).__name__, error)
    return opened


@dataclass(frozen=True, slots=True)
class Begun:
    """A run's folder and what it is; `before` is the checkpoint that a resumed run goes on from."""

    folder: Path
    info: RunInfo
    before: Checkpoint | None = None

    def gone(self, devices: Mapping[str, Device]) -> list[Device]:
        """Devices of the run's earlier part that are not here any more."""
        if self.before is None:
            return []
        return [state.device for state in self.before.snapshot.devices if state.device.id not in devices]


def _begin_folder(config: Config, workload: job.Command | job.Attached, clock: Clock) -> Begun:
    if config.resume is not None:
        folder = runfolder.find(config.output, config.resume)
        before = read_checkpoint(folder)
        return Begun(folder, before.snapshot.runs[0].info, before)
    name = config.name or identity.command_name(workload.command)
    scheduler, scheduler_job_id = identity.scheduler_job(workload.environ)
    default_id = identity.default_run_id(workload.environ, name, clock.wall_s())
    folder = runfolder.create(config.output, config.run_id, default_id)
    redacted = (*workload.command[:1], "…")
    info = RunInfo(
        id=folder.name,
        name=name,
        command=redacted if config.redact_command else workload.command,
        labels=config.labels,
        host=platform.node(),
        started_at_s=clock.wall_s(),
        scheduler=scheduler,
        scheduler_job_id=scheduler_job_id,
    )
    return Begun(folder, info)


class Sampling:
    """The sampling thread of one run: baseline, then the loop, then one more sample at the end."""

    def __init__(self, sampler: Sampler, begun: Begun, clock: Clock, boot_id: str) -> None:
        self._sampler = sampler
        self._begun = begun
        self._clock = clock
        self._boot_id = boot_id
        self._ready = threading.Event()
        self._stop = Alarm()
        self._thread = threading.Thread(target=self._loop, name="carbonmon-sampler", daemon=True)

    def start(self) -> None:
        """Return when the baseline is taken, so that the job starts right after it, or after a while."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("no sampling: %s", error)
        else:
            self._ready.wait(ANSWER_TIMEOUT_S)
        if not self._sampler.latest.runs:
            log.warning("the sensors do not answer: the job starts unobserved")
            self._begin()

    def stop(self) -> bool:
        """Whether the thread took its last sample; False if it hangs in a driver's call."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(ANSWER_TIMEOUT_S)
        return not self._thread.is_alive()

    def _begin(self) -> None:
        """Begin the run now, or go on with it from its last checkpoint."""
        devices = [state.device for state in self._sampler.latest.devices]
        before = self._begun.before
        if before is None:
            info = replace(self._begun.info, started_at_s=self._clock.wall_s())
            self._sampler.begin(RunAccount(info, devices))
            return
        last = before.snapshot
        same_boot = bool(self._boot_id) and self._boot_id == before.boot_id
        if last.runs[0].ended_at_s is not None:
            outage_s = 0.0  # the run had ended: what was drawn since then is not its own
            same_boot = False
        elif same_boot:
            outage_s = max(0.0, self._clock.now_s() - last.clock_s)
        else:
            outage_s = max(0.0, self._clock.wall_s() - last.at_s)
        self._sampler.resume(RunAccount(self._begun.info, devices), last, outage_s, same_boot)

    def _loop(self) -> None:
        try:
            if self._begun.before is not None:
                self._begin()
            self._sampler.tick(edge=True)
            if not self._sampler.latest.runs:
                self._begin()
            self._ready.set()
            self._sampler.run_until(self._stop)
        except Exception:  # our own bug: the job goes on, the summary holds what was metered until now
            log.exception("sampling stopped by a fault of carbonmon's own")
