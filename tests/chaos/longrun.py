"""Long runs in little time: a day of samples on a fake clock, a month of a run's files."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from carbonmon.core import footprint
from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, Failure, Reading, SensorState, Snapshot
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs import layout
from carbonmon.runs.series_file import SeriesFile
from carbonmon.runs.series_rows import Moment
from tests.chaos.table import Check, Row
from tests.support import checkpoints
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

GPUS, PACKAGES = 8, 2
RANGE_UJ = 262_143_328_850
DAY_S, MONTH_DAYS = 86_400, 30
MONTH_BYTES = 50_000_000


class Node:
    """A sensor of 8 GPUs, 2 packages whose counters wrap, and their memory by its power; levels are fixed."""

    name = "node"

    def __init__(self, begin_s: float) -> None:
        self._begin_s = begin_s
        gpus = [
            Device(
                f"GPU-3cc8c312-5e37-5f75-bd6d-{index:012}",
                "gpu",
                "GPU",
                index,
                ("counter", "power", "tdp"),
                max_power_w=700.0,
            )
            for index in range(GPUS)
        ]
        packages = [
            Device(f"package-{index}", "cpu", "CPU", index, ("counter",), RANGE_UJ, 1000.0)
            for index in range(PACKAGES)
        ]
        drams = [Device(f"dram-{index}", "dram", "memory", index, ("power",)) for index in range(PACKAGES)]
        self._devices = [*gpus, *packages, *drams]
        self.power_w = {device.id: 20 + 30 * place for place, device in enumerate(self._devices)}

    def devices(self) -> Sequence[Device]:
        return self._devices

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(self.name, "used", "simulated")]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        elapsed_s = round(now_s - self._begin_s)
        for device in self._devices:
            power_w = self.power_w[device.id]
            if device.component == "dram":
                yield Reading(device.id, power_w=float(power_w))
            else:
                drawn_uj = power_w * elapsed_s * 1_000_000
                if device.counter_range_uj is not None:
                    drawn_uj %= device.counter_range_uj + 1
                yield Reading(device.id, drawn_uj, float(power_w), None, 0.5)

    def close(self) -> None:
        pass


class LongRun:
    """A node's run on a fake clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.node = Node(self.clock.time_s)
        devices = {device.id: device for device in self.node.devices()}
        sensors = [GuardedSensor(self.node)]
        self.sampler = make_sampler(
            sensors, devices, [], FixedIntensity(), self.clock, 1.0, Overheads(), "test"
        )
        self.sampler.tick(edge=True)
        self.sampler.begin(RunAccount(INFO, self.node.devices()))

    def watch(self, seconds: int) -> None:
        """A sample each second, a snapshot every 5 s, as with a monitor that writes its checkpoints."""
        clock, tick = self.clock, self.sampler.tick
        for second in range(1, seconds + 1):
            clock.time_s += 1.0
            tick(publish=second % 5 == 0)

    def finish(self) -> Snapshot:
        return self.sampler.finish(0, None)


def write_days(folder: Path, days: int) -> Snapshot:
    """The folder of a run of so many days that was killed at its end, by the writer's own functions.

    Between two rows there is one sample, with figures as long as a real machine's.
    """
    run = LongRun()
    run.watch(5)
    first = snapshot = run.sampler.latest
    (state,) = first.runs
    state = state._replace(totals=tuple(row for row in state.totals if row.energy_j))
    devices = [device.device for device in snapshot.devices]
    rates = footprint.rates(snapshot.intensity, Overheads())
    folder.mkdir(parents=True)
    series = SeriesFile(folder, lambda descriptor: None)
    series.open()
    elapsed_s, end_s = state.duration_s, days * float(DAY_S)
    while elapsed_s < end_s:
        seconds = min(series.period_s, end_s - elapsed_s)
        elapsed_s += seconds
        moment = Moment(snapshot.samples, first.at_s + elapsed_s)
        totals = []
        for device, row in zip(devices, state.totals, strict=True):
            drawn_j = (run.node.power_w[device.id] + elapsed_s * 0.7919 % 10.0) * seconds
            methods = (drawn_j, 0.0) if row.method == "counter" else (0.0, drawn_j)
            series.parts.append((moment, device, seconds, *methods, 0.0, (("main", 1.0),), rates))
            grams = row.emissions_g + drawn_j * rates.grams
            totals.append(row._replace(energy_j=row.energy_j + drawn_j, emissions_g=grams))
        state = state._replace(totals=tuple(totals), duration_s=elapsed_s)
        snapshot = snapshot._replace(runs=(state,), at_s=moment.at_s, samples=moment.sample + 1)
        series.write(snapshot, state, elapsed_s, False)
    series.close()
    drawn_j = sum(row.energy_j for row in state.totals)
    charges = (state.charges[0]._replace(energy_j=drawn_j, emissions_g=drawn_j * rates.grams),)
    state = state._replace(charges=charges, facility_j=drawn_j)
    snapshot = snapshot._replace(runs=(state,))
    (folder / layout.RUN_FILE).write_text(layout.run_text(state.info, devices))
    checkpoints.write(folder, layout.checkpoint_text(snapshot, state, "boot"))
    return snapshot


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    days = 3 if short else MONTH_DAYS
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "carbonmon-runs" / "long"
        snapshot = write_days(folder, days)
        size = folder_bytes(folder)
        lines = (folder / layout.SERIES_FILE).read_bytes().count(b"\n")
        program = str(Path(sys.executable).with_name("carbonmon"))
        help_s = min(_seconds([program, "report", "--help"], base) for _ in range(3))
        report_s = min(_seconds([program, "report", "long"], base) for _ in range(3))
        series_s = _seconds([program, "report", "long", "--format", "csv", "--series"], base)
        account_j = sum(row.energy_j for row in snapshot.runs[0].totals)
        yield Row(
            f"{days} days of a node with 8 GPUs and 4 other devices",
            f"{lines} rows of the series",
            None,
            account_j,
            None,
            (
                Check(
                    f"30 days ≤ 50 MB: {size / 1e6:.1f} MB, {size / lines:.0f} bytes a row",
                    size <= MONTH_BYTES,
                ),
                # A time on another machine proves nothing: it is shown, and fails nothing.
                Check(f"report: {report_s:.2f} s (aim 2 s), {report_s / help_s:.1f} × its --help", True),
                Check(f"report --format csv --series: {series_s:.2f} s (aim 5 s)", True),
            ),
        )


def _seconds(command: Sequence[str], folder: str) -> float:
    begin_s = time.monotonic()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True, timeout=300)
    return time.monotonic() - begin_s
