"""The composition root: the only place that wires sensors, ledger, sampler and exporters together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from carbonmon import __version__
from carbonmon.core.config import DEFAULT_SENSORS, Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import Clock, Exporter, ExporterSettings
from carbonmon.hardware.gpu_lists import has_entries
from carbonmon.hardware.gpu_selection import CUDA
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.monitor.grid_rates import GridRates
from carbonmon.monitor.guard import Guard, GuardedExporter
from carbonmon.monitor.node import Monitor
from carbonmon.monitor.recorder import Recorder
from carbonmon.monitor.run_attribution import RunAttribution
from carbonmon.monitor.run_lifetimes import RunLifetimes
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs.holder import boot_id
from carbonmon.service import plugins
from carbonmon.service.open_grid import open_overheads, open_provider
from carbonmon.service.open_node_meters import open_node_meters
from carbonmon.service.open_sensors import Sensors, open_sensors

if TYPE_CHECKING:
    from carbonmon.runs.node_checkpoint import NodeCheckpoint
    from carbonmon.runs.reader import Checkpoint

log = logging.getLogger(__name__)


def notes(config: Config, sensors: Sensors, environ: Mapping[str, str]) -> list[str]:
    """What the user should know before the job starts: choices that could not be followed to the letter.

    `environ` is that of the job.
    """
    found = [source.reason for source in sensors.sources if source.name.endswith(" note")]
    found += [
        f"{source.reason}: {source.remedy}"
        for source in sensors.sources
        if source.name.startswith("unmetered ")
    ]
    has_gpus = any(device.gpu_ids for device in sensors.devices.values())
    visible = environ.get(CUDA, "")
    named = f"--gpus {','.join(config.gpus)}" if config.gpus else f"{CUDA}={visible:.200}"
    is_said = any(source.name == "nvml note" for source in sensors.sources)
    if not has_gpus and (config.gpus or (has_entries(visible) and not is_said)):
        found.append(f"{named}: no GPU can be metered here; carbonmon doctor says why")
    if config.gpu_tdp_w is not None and not has_gpus:
        found.append("--gpu-tdp: there is no GPU that it could be for; --gpu-model NAME[:COUNT] states one")
    for name in sensors.unavailable if config.sensors != DEFAULT_SENSORS else ():
        reason = next(source.reason for source in sensors.sources if source.name == name)
        found.append(f"--sensor {name}: it cannot be used: {reason}; carbonmon doctor says how to mend it")
    budgets = [budget.text for budget in config.budgets if budget.kind != "time" and not budget.per_day]
    if budgets and not sensors.devices:
        found.append(f"--budget {', '.join(budgets)}: nothing is metered here, so it is never reached")
    if not config.budgets and (config.on_budget.kind != "warn" or config.by != "total"):
        found.append("--on-budget and --by are for a budget, and there is none: give --budget as well")
    return found


def build(
    config: Config,
    environ: Mapping[str, str],
    clock: Clock,
    closing: ExitStack,
    *,
    watching: bool,
    before: Checkpoint | None = None,
    served_s: float = 0.0,
    keeps_address: bool = False,
    together: NodeCheckpoint | None = None,
) -> Monitor:
    """A monitor, wired and not started; what it holds open is closed by `closing`, in reverse.

    `environ` is that of the job whose GPUs are metered. `watching`: it looks whose processes use the node;
    else there is one run, which owns the node. `served_s`: how long at most the monitor's end may be served
    after it. `keeps_address`: /metrics is served where it was asked for, or not at all. `together`: where
    the checkpoints of all runs are kept as of one moment. Raises `ConfigError` for mistakes in the options.
    """
    overheads = open_overheads(config)
    rates = GridRates(open_provider(config), overheads, clock.wall_s())
    closing.callback(rates.close)
    closing_sensors = closing.enter_context(ExitStack())
    sensors = open_sensors(config, environ, closing_sensors)
    node_meters = open_node_meters(config, closing_sensors)
    run_folders: dict[str, Path] = {}
    settings = ExporterSettings(
        config.listen,
        run_folders,
        config.procfs,
        config.web_config,
        host=config.host,
        targets=config.targets,
        served_s=served_s,
        keeps_address=keeps_address,
    )
    exporters = _open_exporters([_exporter(entry, settings) for entry in _files_first(config.exporters)])
    workload = NodeWorkload(config.procfs, config.sysfs, sensors.devices) if watching else None
    if workload is not None:
        closing_sensors.callback(workload.close)
    journal = Guard("journal")
    sampler = Sampler(
        sensors.sensors,
        sensors.devices,
        (*sensors.unused(), *node_meters.missed),
        rates,
        RunLifetimes(RunAttribution(workload, clock.now_s()), run_folders, config.retain_s),
        clock,
        config.interval_s,
        __version__,
        guards=(*exporters, journal),
        node_meters=node_meters.readers,
        charges_node=config.charge == "node",
    )
    if config.charge == "node" and not node_meters.readers:
        log.warning(
            "--charge node: no meter of the whole machine is here: runs are charged with what their devices "
            "draw; carbonmon doctor lists node meters"
        )
    recorder = Recorder(
        clock,
        exporters,
        sampler.snapshots,
        journal,
        period_s=config.checkpoint_s,
        before=None if before is None else before.snapshot,
        together=together,
    )
    closing.callback(recorder.close)
    missed = [f"{state.name} is not used: {state.reason}" for state in node_meters.missed]
    for note in (*notes(config, sensors, environ), *missed, sampler.interval_note):
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
        leave_sensors=closing_sensors.pop_all,
        gpus_are_given=sensors.gpus_are_given,
    )


def _exporter(entry: str, settings: ExporterSettings) -> Callable[[], Exporter]:
    """What opens an exporter that the user named, `NAME` or `NAME:ARGUMENT`."""
    name, _, argument = entry.partition(":")
    return partial(plugins.load("carbonmon.exporters", name), settings._replace(argument=argument))


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
