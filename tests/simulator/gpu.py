"""Simulated GPUs: what to simulate (`Gpu`, `Mig`, `Process`) and the running one (`LiveGpu`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulator.clock import MachineClock
from tests.simulator.layout import MAX_MIG, MAX_PROCESSES, GpuRecord
from tests.simulator.profiles import Constant, History, Profile

GIB = 1 << 30
HUNDRED = Constant(100.0)
NOTHING = Constant(0.0)

FAULTS = (
    "lost",  # every call and lookup: GPU_IS_LOST
    "no_permission",  # every call and lookup: NO_PERMISSION
    "call_error",  # every call and the lookup by index: this code; the lookup by UUID: NOT_FOUND
    "slow_s",  # every call and lookup takes that long
    "hang",  # every call and lookup waits until this is cleared
    "no_counter",  # energy counter: NOT_SUPPORTED
    "counter_error",  # energy counter: this code
    "counter_lag_s",  # energy counter: what it said so long ago
    "fail_next_counter_reads",  # energy counter: UNKNOWN, that many times
    "no_power",  # power, its samples and fields: NOT_SUPPORTED
    "power_error",  # power, its samples and fields: this code
    "power_loss_ratio",  # power, its samples and fields: this part of it is missing
    "no_power_limit",  # NOT_SUPPORTED
    "limit_locked",  # setting the power limit: NO_PERMISSION
    "no_utilization",  # of the GPU and of processes, and its samples: NOT_SUPPORTED
    "no_processes",  # lists of processes: NOT_SUPPORTED
    "counter_offset_mj",  # added to the counter: steps it back or makes it jump
    "counter_reset_at",  # the counter restarts from 0 at this time (CLOCK_BOOTTIME, s)
)
LASTING = ("counter_offset_mj", "counter_reset_at")  # what happened to a counter stays happened


def _uuid(kind: str, *numbers: int) -> str:
    return f"{kind}-{uuid.uuid5(uuid.NAMESPACE_URL, f'carbonmon simulator {numbers}')}"


@dataclass(frozen=True)
class Mig:
    """A MIG instance; `gpu_slices` is what NVML calls gpuInstanceSliceCount.

    Without a `gpu_instance` it is the only compute instance (0) of a GPU instance of its own (from 7 on).
    """

    profile: str = "1g.10gb"
    gpu_slices: int = 1
    compute_slices: int = 1
    memory_bytes: int = 10 * GIB
    gpu_instance: int | None = None
    compute_instance: int = 0


@dataclass(frozen=True)
class Process:
    """A process on a GPU; `mig` is the index of its instance."""

    pid: int
    sm_percent: int = 100
    memory_percent: int = 10
    memory_bytes: int = GIB
    graphics: bool = False
    mig: int | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU to simulate. `profile` is in watts, `utilization` in percent.

    `power_averaged`: nvmlDeviceGetPowerUsage is the mean of the last second, as on Ampere and later except
    GA100; otherwise the power of the moment. The driver's buffer gets the mean power of the last
    `sensor_window_s` (None: the whole period) each `sample_period_s`. `architecture` is NVML's number
    (7: Ampere), `virtualization` as well (2: vGPU). `minor` is N of /dev/nvidiaN (None: its place).
    `mig=None` is a GPU that knows no MIG, `()` one with MIG switched off. `superchip`: 1, its energy counter
    is the module's, which draws `rest` beside the GPU, and NVLink-C2C is there; 2, field values tell the
    scopes GPU and module apart, too.
    """

    name: str = "NVIDIA A100-SXM4-80GB"
    profile: Profile = HUNDRED
    utilization: Profile = HUNDRED
    uuid: str | None = None
    power_limit_w: float = 400.0
    power_limit_min_w: float = 100.0
    persistence: bool = True
    counter_start_mj: int = 1_234_567
    counter_refresh_s: float = 0.02
    sample_period_s: float = 0.02
    sensor_window_s: float | None = None
    power_averaged: bool = False
    architecture: int = 7
    virtualization: int = 0
    pci_bus: int | None = None
    minor: int | None = None
    memory_total_bytes: int = 80 * GIB
    memory_used_bytes: int = 2 * GIB
    mig: Sequence[Mig] | None = None
    processes: Sequence[Process] = ()
    superchip: int = 0
    rest: Profile = NOTHING


class LiveGpu:
    """A GPU of a running machine: its truth, its faults, its processes. `place` never changes."""

    def __init__(self, place: int, spec: Gpu, record: GpuRecord, clock: MachineClock) -> None:
        self.place = place
        self.spec = spec
        self.uuid = spec.uuid or _uuid("GPU", place)
        self.mig_uuids = [_uuid("MIG", place, index) for index in range(len(spec.mig or ()))]
        self._record = record
        self._clock = clock
        self._power = History(clock.epoch_s, spec.profile)
        self._utilization = History(clock.epoch_s, spec.utilization)
        self._rest = History(clock.epoch_s, spec.rest)
        self._fill(spec, record)
        self.set_processes(spec.processes)

    def _fill(self, spec: Gpu, record: GpuRecord) -> None:
        record.uuid, record.name = self.uuid.encode(), spec.name.encode()
        record.memory_total_bytes = spec.memory_total_bytes
        record.memory_used_bytes = spec.memory_used_bytes
        record.counter_start_mj, record.counter_zero_s = spec.counter_start_mj, self._clock.epoch_s
        record.counter_refresh_s, record.sample_period_s = spec.counter_refresh_s, spec.sample_period_s
        window_s = spec.sensor_window_s
        record.sensor_window_s = spec.sample_period_s if window_s is None else window_s
        record.power.begin(self._clock.epoch_s, spec.profile)
        record.utilization.begin(self._clock.epoch_s, spec.utilization)
        record.rest.begin(self._clock.epoch_s, spec.rest)
        record.superchip = spec.superchip
        record.pci_bus = 0x10 + self.place if spec.pci_bus is None else spec.pci_bus
        record.minor_number = self.place if spec.minor is None else spec.minor
        record.pci_device_id = 0x20B210DE
        record.architecture, record.virtualization = spec.architecture, spec.virtualization
        record.power_averaged = spec.power_averaged
        record.power_limit_mw = record.power_limit_default_mw = round(spec.power_limit_w * 1e3)
        record.power_limit_min_mw = round(spec.power_limit_min_w * 1e3)
        record.persistence = spec.persistence
        record.mig_mode = -1 if spec.mig is None else int(bool(spec.mig))
        if len(spec.mig or ()) > MAX_MIG:
            raise ValueError(f"a GPU has at most {MAX_MIG} MIG instances")
        for index, instance in enumerate(spec.mig or ()):
            entry = record.mig[index]
            entry.uuid, entry.profile = self.mig_uuids[index].encode(), instance.profile.encode()
            entry.memory_bytes, entry.multiprocessors = instance.memory_bytes, 14 * instance.compute_slices
            entry.gpu_slices, entry.compute_slices = instance.gpu_slices, instance.compute_slices
            of_its_own = 7 + index
            entry.gpu_instance_id = of_its_own if instance.gpu_instance is None else instance.gpu_instance
            entry.compute_instance_id = instance.compute_instance
            entry.present = 1

    def energy_j(self, start_s: float, end_s: float) -> float:
        """What it drew between two times of the machine's clock (`Simulator.now_s`), whatever it reports."""
        return self._power.between(start_s, end_s)

    def module_energy_j(self, start_s: float, end_s: float) -> float:
        """The same of the whole superchip."""
        return self.energy_j(start_s, end_s) + self._rest.between(start_s, end_s)

    def energy_between_wall(self, start_unix_s: float, end_unix_s: float) -> float:
        """The same between two Unix times."""
        return self.energy_j(self._clock.from_wall(start_unix_s), self._clock.from_wall(end_unix_s))

    def power_w(self, at_s: float) -> float:
        return self._power.value(at_s)

    def set_profile(self, profile: Profile, at_s: float | None = None) -> float:
        """Draw power in another way from `at_s` (now) on; returns that time."""
        since_s = self._clock.now_s() if at_s is None else at_s
        self._record.power.change(since_s, self._power.change(since_s, profile), profile)
        return since_s

    def set_utilization(self, profile: Profile, at_s: float | None = None) -> float:
        """The same for its utilisation, in percent."""
        since_s = self._clock.now_s() if at_s is None else at_s
        base = self._utilization.change(since_s, profile)
        self._record.utilization.change(since_s, base, profile)
        return since_s

    def set_processes(self, processes: Sequence[Process]) -> None:
        """Replace the processes on this GPU."""
        if len(processes) > MAX_PROCESSES:
            raise ValueError(f"a GPU has at most {MAX_PROCESSES} processes")
        for slot in self._record.process:
            slot.pid = 0
        for slot, process in zip(self._record.process, processes, strict=False):
            slot.memory_bytes, slot.graphics = process.memory_bytes, process.graphics
            slot.mig = -1 if process.mig is None else process.mig
            slot.sm_percent, slot.memory_percent = process.sm_percent, process.memory_percent
            slot.pid = process.pid

    def fault(self, **faults: float) -> None:
        """Switch faults on (or off, with 0): the names in `FAULTS`."""
        for name, value in faults.items():
            if name not in FAULTS:
                raise ValueError(f"no fault of a GPU is called {name!r}; there are {', '.join(FAULTS)}")
            setattr(self._record, name, value)

    def clear(self, *names: str) -> None:
        """End these faults; without names all but `LASTING`, whose end would be another jump."""
        self.fault(**dict.fromkeys(names or [name for name in FAULTS if name not in LASTING], 0))

    @property
    def power_limit_w(self) -> float:
        """The power limit in force, which NVML can change; what it draws is its profile's all the same."""
        return self._record.power_limit_mw / 1e3

    @property
    def failures_left(self) -> int:
        """How many of `fail_next_counter_reads` are still to come."""
        return self._record.fail_next_counter_reads

    @property
    def counter_reads(self) -> int:
        """How often its energy counter was read, by whichever function."""
        return self._record.counter_reads
