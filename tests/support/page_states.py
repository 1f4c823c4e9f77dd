"""States of a monitor for the page: snapshots, and the series that a run of so long would have."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.core.model import Component, Device, SensorState, Snapshot
from carbonmon.core.ports import ExporterSettings
from carbonmon.runs.layout import SERIES_FILE
from carbonmon.runs.series_file import LONGEST_PERIOD_S, PERIODS
from carbonmon.runs.series_rows import SeriesRow
from tests.support.records import (
    START_S,
    budget_state,
    device_state,
    dram,
    forecast,
    gpu,
    node,
    package,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.series import series_text

PHASES = ("main", "train", "eval")


class Monitor:
    """What is shown, which a test replaces, and the address where it is."""

    def __init__(self, shown: Snapshot, url: str) -> None:
        self.shown = shown
        self.url = url


@contextlib.contextmanager
def served(shown: Snapshot, folders: Mapping[str, Path] | None = None) -> Iterator[Monitor]:
    """Serve a snapshot as `carbonmon run` does; `folders` are those of its runs."""
    monitor = Monitor(shown, "")
    settings = ExporterSettings(listen=("127.0.0.1", 0), run_folders=folders or {}, host="node-7")
    exporter = PrometheusExporter(settings)
    monitor.url = exporter.start(lambda: monitor.shown).removesuffix("/metrics")
    try:
        yield monitor
    finally:
        exporter.close()


def later(shown: Snapshot, seconds: float = 5.0) -> Snapshot:
    """The same node a little later, with as much more energy as its powers give."""
    devices = tuple(
        state._replace(
            counter_j=state.counter_j + (state.power_w or 0.0) * seconds if state.device.is_measured else 0.0,
            tdp_j=state.tdp_j + (0.0 if state.device.is_measured else (state.power_w or 0.0) * seconds),
        )
        for state in shown.devices
    )
    runs = tuple(
        run._replace(duration_s=run.duration_s + seconds) if run.ended_at_s is None else run
        for run in shown.runs
    )
    return shown._replace(at_s=shown.at_s + seconds, samples=shown.samples + 5, devices=devices, runs=runs)


def hours_in(gpus: int = 6, packages: int = 2, drams: int = 2) -> Snapshot:
    """A run in the middle of its training: everything works, memory is estimated."""
    shown = node(gpus, packages, drams, run_info(name="llama-7b fine-tune"))
    (run,) = shown.runs
    totals = tuple(
        part
        for total in run.totals
        for part in (
            run_total(total.device_id, total.component, total.method, total.energy_j * 0.8, phase="train"),
            run_total(total.device_id, total.component, total.method, total.energy_j * 0.2, phase="eval"),
        )
    )
    phases_s = (("train", 2880.0), ("eval", 720.0))
    run = run._replace(totals=totals, phases_s=phases_s, phase="train")
    run = run._replace(forecast=forecast(), budgets=(budget_state(),))
    devices = tuple(state._replace(unattributed_j=4_000.0) for state in shown.devices)
    return shown._replace(runs=(run,), devices=devices)


def sensor_lost() -> Snapshot:
    """The driver is gone: its GPUs are not known any more, the packages are."""
    shown = hours_in(2, 1, 0)
    devices = tuple(
        state._replace(power_w=None, utilization_ratio=None) if state.device.component == "gpu" else state
        for state in shown.devices
    )
    (run,) = shown.runs
    power_w = tuple((state.device.id, state.power_w) for state in devices)
    lost = SensorState(
        "nvml", "used", "the driver does not answer", "nvidia-smi", up=False, errors=(("gone", 9),)
    )
    rapl = SensorState("rapl", "used", "", up=True, read_s=0.001)
    return shown._replace(devices=devices, runs=(run._replace(power_w=power_w),), sensors=(lost, rapl))


def no_sensor() -> Snapshot:
    """A run on a machine of which nothing can be known."""
    sensors = (
        SensorState("nvml", "not used", "libnvidia-ml.so.1 cannot be loaded", "install the NVIDIA driver"),
        SensorState(
            "rapl", "not used", "/sys/class/powercap has no zone", "not to be had in this virtual machine"
        ),
    )
    return snapshot((run_state(run_info()),), (), sensors=sensors)


def just_begun() -> Snapshot:
    """Before the first sample."""
    devices = tuple(device_state(device, power_w=None) for device in (gpu(), package(), dram()))
    power_w = tuple((state.device.id, None) for state in devices)
    run = run_state(run_info(), power_w=power_w, phases_s=(("main", 0.0),), duration_s=0.0)
    return snapshot((run,), devices, samples=0)._replace(at_s=START_S)


def day_of(
    folder: Path, devices: list[tuple[str, Component, str]], end_s: float, hours: float = 24.0
) -> Path:
    """A series as a monitor leaves it after so many hours: rows of a second, then longer ones by its size."""
    folder.mkdir(parents=True, exist_ok=True)
    size, noise = 0, random.Random(4)
    at_s = end_s - hours * 3600.0
    begin_s = at_s
    with (folder / SERIES_FILE).open("w") as file:
        while at_s < end_s:
            since_s = at_s - begin_s
            length_s = next((each for most, each in PERIODS if size < most), LONGEST_PERIOD_S)
            at_s = min(end_s, at_s + length_s)
            phase = "main" if since_s < 300.0 else "eval" if since_s % 7200.0 > 6300.0 else "train"
            for number, (device, component, method) in enumerate(devices):
                most = {"gpu": 300.0, "cpu": 120.0}.get(component, 12.0)
                load = 0.35 if phase == "eval" else 0.15 if phase == "main" else 0.9
                wave = 0.06 * math.sin(since_s / 500.0 + number) + 0.05 * noise.random()
                power_w = most * load * (1.0 + wave)
                grams = power_w * length_s / 3.6e6 * 360.0
                row = SeriesRow(
                    *(round(at_s, 3), length_s, device, component, phase, method),
                    *(round(power_w * length_s, 3), round(power_w, 2), round(power_w * 0.8, 2)),
                    *(round(power_w * 1.15, 2), round(grams, 9), 360.0, "table"),
                )
                size += file.write(series_text(row))
    return folder


def series_devices(shown: Snapshot) -> list[tuple[str, Component, str]]:
    """The devices of a snapshot, each with how it is known."""
    return [(state.device.id, state.device.component, _method(state.device)) for state in shown.devices]


def _method(device: Device) -> str:
    return "counter" if device.is_measured else "tdp"


@contextlib.contextmanager
def served_hours_in(folder: Path) -> Iterator[Monitor]:
    """A run some hours in, with its series in a folder of its own."""
    shown = hours_in(2, 1, 1)
    run = day_of(folder / "slurm-4242", series_devices(shown), shown.at_s, hours=3.0)
    with served(shown, {"slurm-4242": run}) as running:
        yield running
