"""The composition root: the only place that wires sensors, ledger, sampler and exporters together."""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from carbonmon import __version__, identity, job, plugins, runfolder
from carbonmon.clock import SystemClock
from carbonmon.config import Config
from carbonmon.errors import ConfigError, SensorUnavailable
from carbonmon.guard import GuardedExporter, GuardedSensor
from carbonmon.ledger import RunAccount
from carbonmon.model import Device, RunInfo, SensorState, Snapshot
from carbonmon.ports import (
    Clock,
    ExporterSettings,
    IntensityProvider,
    IntensitySettings,
    Sensor,
    SensorSettings,
)
from carbonmon.sampler import Sampler

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0
"""How long a sampling thread that hangs in a driver call is waited for when the job has ended."""


class Sensors(NamedTuple):
    """The opened sensors, the devices that they meter together, and every source, in the user's order.

    `sources` says of each source, and of parts of one, whether it is used, why not and what mends it.
    """

    sensors: tuple[GuardedSensor, ...]
    devices: dict[str, Device]
    sources: tuple[SensorState, ...]

    def unused(self) -> tuple[SensorState, ...]:
        """The sources that give nothing; what is used is read, and tells its own state."""
        return tuple(source for source in self.sources if source.use == "not used")


@dataclass(frozen=True, slots=True)
class Result:
    """A run that has ended: how the job ended, and the last snapshot (None if the job never started)."""

    exit_code: int
    final: Snapshot | None
    folder: Path


def open_sensors(config: Config, environ: Mapping[str, str], closing: ExitStack) -> Sensors:
    """Open the sensors of the config in their order; each knows what those before it serve."""
    settings = SensorSettings(
        sysfs=config.sysfs,
        procfs=config.procfs,
        environ=environ,
        gpus=config.gpus,
        gpu_model=config.gpu_model,
        gpu_tdp_w=config.gpu_tdp_w,
        cpu_model=config.cpu_model,
        cpu_tdp_w=config.cpu_tdp_w,
        dram_estimate=config.dram_estimate,
    )
    opened: list[GuardedSensor] = []
    devices: dict[str, Device] = {}
    sources: list[SensorState] = []
    for entry in config.sensors:
        name, _, argument = entry.partition(":")
        open_sensor: Callable[[SensorSettings], Sensor] = plugins.load("carbonmon.sensors", name)
        try:
            sensor = open_sensor(replace(settings, argument=argument, known=dict(devices)))
            guarded = GuardedSensor(sensor)
            closing.callback(guarded.close)
            for device in sensor.devices():
                devices[device.id] = merge_devices(devices.get(device.id), device)
        except SensorUnavailable as error:
            sources.append(SensorState(name, "not used", error.reason, error.remedy))
        except ConfigError:
            raise
        except Exception as error:  # a source's own bug at opening is a step down the ladder, never an end
            log.warning("sensor %s cannot be opened", name, exc_info=True)
            sources.append(SensorState(name, "not used", f"{type(error).__name__}: {error}"))
        else:
            opened.append(guarded)
            sources.extend(guarded.sources)
    return Sensors(tuple(opened), devices, tuple(sources))


def merge_devices(first: Device | None, second: Device) -> Device:
    """Two sensors' records of one device: the first wins, the second adds the rungs below it."""
    if first is None:
        return second
    return replace(
        first,
        name=second.name if first.name == first.id else first.name,
        methods=first.methods + tuple(method for method in second.methods if method not in first.methods),
        spec=first.spec or second.spec,
    )


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

    `announce(snapshot, run_id, places)` is called once before the job starts. Raises
    `ConfigError` for mistakes in the options, always before the job starts; whatever fails later is
    logged, and the job goes on.
    """
    clock = clock or SystemClock()
    name = config.name or identity.command_name(command)
    with ExitStack() as closing:
        provider = open_provider(config)
        closing.callback(provider.close)
        sensors = open_sensors(config, environ, closing)
        default_id = identity.default_run_id(environ, name, clock.wall_s())
        folder = runfolder.create(config.output, config.run_id, default_id)
        mask = job.block_signals()
        settings = ExporterSettings(listen=config.listen, run_folder=folder, procfs=config.procfs)
        exporters = [
            GuardedExporter(plugins.load("carbonmon.exporters", entry)(settings))
            for entry in config.exporters
        ]
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
        sampler.tick(edge=True)
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
        sampler.begin(RunAccount(info, sensors.devices.values()))
        try:
            pid = job.start(command, environ, mask)
        except OSError as error:
            log.error("%s: %s", command[0], error.strerror)
            with suppress(OSError):
                folder.rmdir()
            return Result(job.start_error_code(error), None, folder)
        stop = threading.Event()
        thread = threading.Thread(target=_loop, args=(sampler, stop), name="carbonmon-sampler", daemon=True)
        thread.start()
        outcome = job.wait(pid)
        stop.set()
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            log.warning("a driver call hangs: the summary ends at the last sample before it")
        final = sampler.finish(outcome.exit_code, outcome.signal)
        for exporter in exporters:
            exporter.finish(final)
        return Result(outcome.shell_code, final, folder)


def _loop(sampler: Sampler, stop: threading.Event) -> None:
    try:
        sampler.run_until(stop)
    except Exception:  # our own bug: the job goes on, the summary holds what was metered until now
        log.exception("sampling stopped by a fault of carbonmon's own")
