"""The composition root: the only place that wires sensors, ledger, sampler and exporters together."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from carbonmon import __version__, identity, job, plugins, runfolder
from carbonmon.clock import SystemClock
from carbonmon.config import Config
from carbonmon.guard import GuardedExporter
from carbonmon.ledger import RunAccount
from carbonmon.model import RunInfo, Snapshot
from carbonmon.opening import ANSWER_TIMEOUT_S, open_sensors
from carbonmon.ports import Clock, ExporterSettings, IntensityProvider, IntensitySettings
from carbonmon.sampler import Sampler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """A run that has ended: how the job ended, and the last snapshot (None if the job never started)."""

    exit_code: int
    final: Snapshot | None
    folder: Path


def open_provider(config: Config) -> IntensityProvider:
    """The intensity that the user chose: a figure, a place, or neither (the world average)."""
    name = "table" if config.intensity_g_per_kwh is None else "fixed"
    factory: Callable[[IntensitySettings], IntensityProvider] = plugins.load("carbonmon.intensity", name)
    return factory(IntensitySettings(config.region, config.intensity_g_per_kwh))


def run(
    config: Config,
    command: Sequence[str],
    environ: Mapping[str, str],
    announce: Callable[[Snapshot, str, Sequence[str]], None],
    clock: Clock | None = None,
) -> Result:
    """Meter one command from start to end.

    `announce(snapshot, run_id, places)` is called once before the job starts. Raises `ConfigError` for
    mistakes in the options, always before the job starts; whatever fails later is logged, and the job
    goes on.
    """
    clock = clock or SystemClock()
    name = config.name or identity.command_name(command)
    with ExitStack() as closing, ExitStack() as closing_sensors:
        provider = open_provider(config)
        closing.callback(provider.close)
        mask = job.block_signals()
        sensors = open_sensors(config, environ, closing_sensors)
        exporter_factories = [plugins.load("carbonmon.exporters", entry) for entry in config.exporters]
        default_id = identity.default_run_id(environ, name, clock.wall_s())
        folder = runfolder.create(config.output, config.run_id, default_id)
        settings = ExporterSettings(listen=config.listen, run_folder=folder, procfs=config.procfs)
        exporters = [GuardedExporter(factory(settings)) for factory in exporter_factories]
        sampler = Sampler(
            sensors.sensors,
            sensors.devices,
            sensors.unused(),
            provider,
            clock,
            config.interval_s,
            config.pue_ratio,
            __version__,
            lambda: tuple([(exporter.name, exporter.errors) for exporter in exporters]),
        )
        if sampler.interval_note:
            log.warning("%s", sampler.interval_note)
        places = []
        for exporter in exporters:
            closing.callback(exporter.close)
            places.append(exporter.start(lambda: sampler.latest))
        announce(sampler.latest, folder.name, [place for place in places if place])
        scheduler, scheduler_job_id = identity.scheduler_job(environ)
        info = RunInfo(
            id=folder.name,
            name=name,
            command=tuple(command),
            labels=config.labels,
            host=platform.node(),
            started_at_s=clock.wall_s(),
            scheduler=scheduler,
            scheduler_job_id=scheduler_job_id,
        )
        sampling = Sampling(sampler, info, clock)
        sampling.start()
        try:
            pid = job.start(command, environ, mask)
        except OSError as error:
            log.error("%s: %s", command[0], error.strerror)
            sampling.stop()
            with suppress(OSError):
                folder.rmdir()
            return Result(job.start_error_code(error), None, folder)
        outcome = job.wait(pid)
        final = None
        try:
            if not sampling.stop():
                log.warning("a driver call hangs: what came after the last sample is unobserved")
                closing_sensors.pop_all()  # closing a driver that hangs would hang as well
            final = sampler.finish(outcome.exit_code, outcome.signal)
            for exporter in exporters:
                exporter.finish(final)
        except Exception:  # our own bug: the job's exit code is passed on all the same
            log.exception("the run could not be summed up")
        return Result(outcome.shell_code, final, folder)


class Sampling:
    """The sampling thread of one run: baseline, then the loop, then one more sample at the end."""

    def __init__(self, sampler: Sampler, info: RunInfo, clock: Clock) -> None:
        self._sampler = sampler
        self._info = info
        self._clock = clock
        self._ready = threading.Event()
        self._stop = threading.Event()
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
        info = replace(self._info, started_at_s=self._clock.wall_s())
        self._sampler.begin(RunAccount(info, [state.device for state in self._sampler.latest.devices]))

    def _loop(self) -> None:
        try:
            self._sampler.tick(edge=True)
            if not self._sampler.latest.runs:
                self._begin()
            self._ready.set()
            self._sampler.run_until(self._stop)
        except Exception:  # our own bug: the job goes on, the summary holds what was metered until now
            log.exception("sampling stopped by a fault of carbonmon's own")
