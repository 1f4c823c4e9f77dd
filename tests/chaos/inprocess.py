"""The monitor's own parts in this process, on devices whose energy is a product of power and time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, DeviceState, Failure, Reading, SensorState, Snapshot
from carbonmon.core.ports import Clock, Workload
from carbonmon.monitor.guard import Guard, GuardedSensor
from carbonmon.monitor.recorder import Recorder
from carbonmon.monitor.resume import Outage, resume_run
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs.checkpoint_slots import has_checkpoint
from carbonmon.runs.holder import boot_id
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.series import read_series
from carbonmon.runs.series_rows import SeriesRow
from carbonmon.runs.writer import RunFiles
from tests.support.harness import INFO, FakeClock, FixedIntensity, make_sampler

GPU = Device("gpu-counter", "gpu", "GPU", methods=("counter",), max_power_w=400.0)
POWER_ONLY = Device("gpu-power", "gpu", "GPU", methods=("power",), max_power_w=400.0)
PACKAGE = Device(
    "package-0", "cpu", "CPU", methods=("counter",), counter_range_uj=262_143_328_850, max_power_w=1000.0
)
POWER_W = {GPU.id: 300.0, POWER_ONLY.id: 200.0, PACKAGE.id: 100.0}


class Source:
    """A GPU with a counter, one with a power sensor only, and a package whose counter wraps.

    Each draws constant power; while `asleep_s` grows the machine is suspended and draws nothing.
    """

    name = "source"

    def __init__(self, devices: Sequence[Device] = (GPU, POWER_ONLY, PACKAGE)) -> None:
        self._devices = devices
        self.asleep_s = 0.0
        self.asked_s: list[float] = []

    def devices(self) -> Sequence[Device]:
        return self._devices

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(self.name, "used", "in process")]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self.asked_s.append(now_s)
        for device in self._devices:
            if device.methods[0] == "power":
                yield Reading(device.id, power_w=POWER_W[device.id])
                continue
            drawn_uj = round(POWER_W[device.id] * (now_s - self.asleep_s) * 1e6)
            range_uj = device.counter_range_uj
            yield Reading(device.id, energy_uj=drawn_uj if range_uj is None else drawn_uj % (range_uj + 1))

    def close(self) -> None:
        pass


def sampler_of(source: Source, clock: Clock, interval_s: float, workload: Workload | None = None) -> Sampler:
    devices = {device.id: device for device in source.devices()}
    return make_sampler(
        [GuardedSensor(source)],
        devices,
        [],
        FixedIntensity(),
        clock,
        interval_s,
        Overheads(),
        "chaos",
        workload=workload,
    )


def recorder_of(
    folder: Path, clock: Clock, sampler: Sampler, period_s: float = 5.0, before: Snapshot | None = None
) -> Recorder:
    recorder = Recorder(clock, [], sampler.snapshots, Guard("journal"), period_s=period_s, before=before)
    recorder.add(INFO.id, RunFiles(folder, boot_id(Path("/proc"))))
    return recorder


class Stepped:
    """A run on a clock that only the scenario moves; every 5 s of it a checkpoint is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.source = Source()
        self._begin()
        self.sampler.tick(edge=True)
        self.start_s = self.clock.time_s
        self.sampler.begin(self._account())

    def _begin(self, before: Snapshot | None = None) -> None:
        self.sampler = sampler_of(self.source, self.clock, 1.0)
        self.recorder = recorder_of(self.folder, self.clock, self.sampler, before=before)
        self._due_s = self.clock.time_s

    def _account(self) -> RunAccount:
        return RunAccount(INFO, self.source.devices(), parts=self.recorder.parts(INFO.id))

    def resume(self) -> None:
        """Another monitor goes on from the last checkpoint, as after a kill."""
        self.recorder.close()
        before = read_checkpoint(self.folder).snapshot
        self._begin(before)
        account = self._account()
        outage = Outage(self.clock.time_s - before.clock_s, same_boot=True)
        resume_run(self.sampler, account, before, outage)
        self.tick(0.0)

    def tick(self, seconds: float = 1.0) -> None:
        """One sample after so many seconds."""
        self.clock.time_s += seconds
        self.sampler.tick()
        if self.clock.time_s >= self._due_s:
            self._due_s = self.clock.time_s + 5.0
            self.recorder.write(self.sampler.latest)

    def watch(self, seconds: int) -> None:
        for _ in range(seconds):
            self.tick()

    def finish(self) -> Snapshot:
        self.tick(0.0)
        final = self.sampler.finish(0, None)
        self.recorder.write(final)
        self.recorder.close()
        return final

    @property
    def elapsed_s(self) -> float:
        return self.clock.time_s - self.start_s

    def series(self) -> list[SeriesRow]:
        """The rows of the series, none of them damaged."""
        rows, damaged = read_series(self.folder)
        assert not damaged
        return rows


def state_of(snapshot: Snapshot, device: Device) -> DeviceState:
    return next(state for state in snapshot.devices if state.device.id == device.id)


def run_j(snapshot: Snapshot) -> float:
    return sum(row.energy_j for row in snapshot.runs[0].totals)


def lost_s(snapshot: Snapshot, device: Device) -> float:
    return dict(snapshot.runs[0].unobserved_s)[device.id]


def checkpointed_samples(folder: Path) -> int:
    return read_checkpoint(folder).snapshot.samples if has_checkpoint(folder) else 0


class Lines(logging.Handler):
    """The log lines of a logger while it is open, instead of its own handlers'."""

    def __init__(self, logger: str = "carbonmon") -> None:
        super().__init__()
        self._logger = logging.getLogger(logger)
        self.lines: list[str] = []

    def __enter__(self) -> Lines:
        self._propagate = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def count(self, matches: Callable[[str], bool]) -> int:
        return sum(map(matches, self.lines))
