"""Long runs in little time: a day of samples on a fake clock, a month of a run's files."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, Failure, Reading, SensorState, Snapshot
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs import layout
from carbonmon.runs.writer import SERIES_PERIOD_S
from tests.chaos.table import Check, Row
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

GPUS, PACKAGES = 8, 2
RANGE_UJ = 262_143_328_850
DAY_S, MONTH_DAYS = 86_400, 30
MONTH_BYTES = 80_000_000


class Node:
    """A sensor of 8 GPUs, 2 packages whose counters wrap, and their memory by its power; levels are fixed."""

    name = "node"

    def __init__(self, begin_s: float) -> None:
        self._begin_s = begin_s
        gpus = [
            Device(f"GPU-{index}", "gpu", "GPU", index, ("counter", "power", "tdp"), max_power_w=700.0)
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
    """The folder of a run of so many days that was killed at its end, by the journal's own functions.

    Between two lines nothing is sampled: only the figures' lengths matter.
    """
    run = LongRun()
    run.watch(5)
    snapshot = run.sampler.latest
    devices = [state.device for state in snapshot.devices]
    numbers = {device.id: number for number, device in enumerate(devices)}
    (state,) = snapshot.runs
    lines = [layout.series_header(devices)]
    for line in range(lines_of(days)):
        elapsed_s = (line + 1) * SERIES_PERIOD_S + 0.123
        totals = tuple(
            row._replace(energy_j=run.node.power_w[row.device_id] * elapsed_s, emissions_g=elapsed_s / 7.0)
            for row in state.totals
        )
        power_w = tuple((device.id, run.node.power_w[device.id] + 0.5) for device in devices)
        now = state._replace(power_w=power_w, totals=totals, duration_s=elapsed_s)
        snapshot = snapshot._replace(runs=(now,), at_s=state.info.started_at_s + elapsed_s)
        lines.append(layout.series_line(snapshot, now, numbers))
    folder.mkdir(parents=True)
    (folder / layout.RUN_FILE).write_text(layout.run_text(state.info, devices))
    (now,) = snapshot.runs
    (folder / layout.CHECKPOINT_FILE).write_text(layout.checkpoint_text(snapshot, now, "boot"))
    (folder / layout.SERIES_FILE).write_text("".join(lines))
    return snapshot


def lines_of(days: int) -> int:
    """How many lines the series of so many days has."""
    return round(days * DAY_S / SERIES_PERIOD_S)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    days = 3 if short else MONTH_DAYS
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "carbonmon-runs" / "long"
        snapshot = write_days(folder, days)
        size, lines = folder_bytes(folder), lines_of(days)
        program = str(Path(sys.executable).with_name("carbonmon"))
        help_s = min(_seconds([program, "report", "--help"], base) for _ in range(3))
        report_s = min(_seconds([program, "report", "long"], base) for _ in range(3))
        account_j = sum(row.energy_j for row in snapshot.runs[0].totals)
        month = size * MONTH_DAYS // days
        yield Row(
            f"{days} days of a node with 8 GPUs and 4 other devices",
            f"{lines} lines of the series",
            None,
            account_j,
            None,
            (
                Check(
                    f"30 days ≤ 80 MB: {month / 1e6:.1f} MB, {size / lines:.0f} bytes a line",
                    month <= MONTH_BYTES,
                ),
                # A time on another machine proves nothing: it is shown, and fails nothing.
                Check(f"report: {report_s:.2f} s (aim 2 s), {report_s / help_s:.1f} × its --help", True),
            ),
        )


def _seconds(command: Sequence[str], folder: str) -> float:
    begin_s = time.monotonic()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.monotonic() - begin_s
