"""The monitor in the test's own process, on a simulated machine whose time only the test moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from carbonmon.core.config import Config
from carbonmon.core.footprint import Overheads
from carbonmon.core.model import Device, DeviceState, Intensity, RunInfo, SensorState, Snapshot
from carbonmon.core.ports import Clock, IntensityProvider, Workload
from carbonmon.monitor.grid_rates import GridRates
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.node_meter_reader import NodeMeterReader
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.run_attribution import RunAttribution
from carbonmon.monitor.run_lifetimes import RunLifetimes
from carbonmon.monitor.sampler import Sampler
from carbonmon.service.open_sensors import open_sensors
from tests.simulator import Simulator

INTENSITY = Intensity(100.0, 100.0, 100.0, "", "test", "fixed")
INFO = RunInfo("run-1", "run", ("train",), (), "host", 1_700_000_000.0)


class FixedIntensity:
    def intensity_at(self, wall_s: float) -> Intensity:
        return INTENSITY

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        return INTENSITY

    def fetch_errors(self) -> tuple[tuple[str, str, int], ...]:
        return ()

    def close(self) -> None:
        pass


class MachineTime:
    """The simulated machine's time as the monitor's clock."""

    def __init__(self, machine: Simulator) -> None:
        self._machine = machine

    def now_s(self) -> float:
        return self._machine.now_s()

    def wall_s(self) -> float:
        return self._machine.wall_s()


class FakeClock:
    """Time that stands still until it is moved."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.time_s = now_s
        self.wall_offset_s = 1_700_000_000.0

    def now_s(self) -> float:
        return self.time_s

    def wall_s(self) -> float:
        return self.time_s + self.wall_offset_s


def make_sampler(
    sensors: Sequence[GuardedSensor],
    devices: Mapping[str, Device],
    unused: Sequence[SensorState],
    provider: IntensityProvider,
    clock: Clock,
    interval_s: float,
    overheads: Overheads,
    version: str = "test",
    *,
    workload: Workload | None = None,
    retain_s: float = 0.0,
    node_meters: Sequence[NodeMeterReader] = (),
    charges_node: bool = False,
) -> Sampler:
    """A sampler with the parts that every monitor has."""
    runs = RunLifetimes(RunAttribution(workload, clock.now_s()), retain_s=retain_s)
    rates = GridRates(provider, overheads, clock.wall_s())
    return Sampler(
        *(sensors, devices, unused, rates, runs, clock, interval_s, version),
        node_meters=node_meters,
        charges_node=charges_node,
    )


class Monitor:
    """Sensors, meters and one run over a simulated machine. `watch` moves time and samples."""

    def __init__(
        self,
        machine: Simulator,
        *,
        interval_s: float = 1.0,
        sensors: tuple[str, ...] = ("nvml", "rapl"),
        environ: Mapping[str, str] | None = None,
        gpus: tuple[str, ...] | None = None,
        procfs: Path = Path("/proc"),
        provider: IntensityProvider | None = None,
    ) -> None:
        machine.preload()
        machine.freeze()
        self.machine = machine
        self._closing = ExitStack()
        config = Config(sysfs=machine.sysfs, procfs=procfs, sensors=sensors, gpus=gpus, interval_s=interval_s)
        self.sensors = open_sensors(config, environ or {}, self._closing)
        self.sampler = make_sampler(
            self.sensors.sensors,
            self.sensors.devices,
            self.sensors.unused(),
            provider or FixedIntensity(),
            MachineTime(machine),
            interval_s,
            Overheads(),
            "test",
        )
        self.sampler.tick(edge=True)
        self.sampler.begin(RunAccount(INFO, self.sensors.devices.values()))
        self.start_s = machine.now_s()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def watch(self, seconds: float) -> None:
        """Sample at every interval for so long."""
        interval_s = self.sampler.interval_s
        for _ in range(round(seconds / interval_s)):
            self.machine.advance(interval_s)
            self.sampler.tick()

    def look_away(self, seconds: float) -> None:
        """Let time pass without a sample."""
        self.machine.advance(seconds)

    def finish(self) -> Snapshot:
        self.sampler.tick(edge=True)
        return self.sampler.finish(0, None)

    @property
    def latest(self) -> Snapshot:
        return self.sampler.latest

    def device(self, device_id: str) -> DeviceState:
        return next(state for state in self.latest.devices if state.device.id == device_id)

    def truth_j(self, device_id: str) -> float:
        """What the device drew since the start, whatever it reported."""
        now_s = self.machine.now_s()
        for gpu in self.machine.gpus:
            if gpu.uuid == device_id:
                return gpu.energy_j(self.start_s, now_s)
        for card in self.machine.cards:
            if card.id == device_id:
                return card.energy_j(self.start_s, now_s)
        zone = self.machine.zones.get(device_id) or self.machine.channels[device_id]
        return zone.energy_j(self.start_s, now_s)

    def error_ratio(self, device_id: str) -> float:
        """How far the account of a device is from the truth, as a ratio of the truth."""
        return self.device(device_id).energy_j / self.truth_j(device_id) - 1.0
