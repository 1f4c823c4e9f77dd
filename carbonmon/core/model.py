"""The records that pass from the sensor to the scrape; every one is immutable.

Those of single devices are in `device.py`, and have their names here too.

Units live in the names: `_j` joules, `_uj` microjoules, `_w` watts, `_s` seconds, `_g` grams of CO2
equivalent, `_ratio` a number from 0 to 1. `None` means unknown; it is never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from carbonmon.core.budgets import BudgetState
from carbonmon.core.device import (  # noqa: F401 (all records have a name here)
    MEASURED_METHODS,
    METHODS,
    Component,
    Curve,
    Device,
    Failure,
    FallbackMeter,
    Interval,
    Meter,
    Method,
    OddValue,
    Part,
    Reading,
    Spec,
    Uncertainty,
)
from carbonmon.core.forecast import Forecast
from carbonmon.core.gpu_time import GpuTime
from carbonmon.core.node_meter import NodeCharge, NodeEnergy, NodeMeterState
from carbonmon.core.pauses import Pauses
from carbonmon.core.records import NamedTuple
from carbonmon.core.work import Work

MAIN_PHASE = "main"
"""The phase of everything outside a phase that the training code named."""

OTHER_PHASE = "other"
"""The phase of everything in phases beyond the largest number of names that a run may have."""

IdlePolicy = Literal["proportional", "exclusive", "none"]
IDLE_POLICIES: tuple[IdlePolicy, ...] = ("proportional", "exclusive", "none")
"""Who is charged with the idle energy of CPUs and memory, see `attribution.py`."""

JOULES_PER_KWH = 3_600_000.0

PEAK_WINDOW_S = 0.5
"""A peak of power is a mean over at least so long: counters are refreshed in steps of up to 0.1 s (NVML), so
the energy of a few milliseconds may be that of many."""


class GpuClaim(NamedTuple):
    """A run's claim to one GPU: it was allocated to the run, or the run's processes are on it.

    `fraction` is the part of the GPU that is allocated, less than 1 for MIG slices. `sm_ratio` is the
    mean SM utilisation (0 to 1) of the run's processes since the reading before, None if unknown.
    `note` says for people how the claim is known.
    """

    fraction: float = 1.0
    sm_ratio: float | None = None
    note: str = ""


class Usage(NamedTuple):
    """What one run used of the node since the reading before.

    `cpu_s` are CPU seconds of its processes, the ended ones included, None if unknown. `gpus` are its
    claims by device id. `processes` is how many of its processes are alive now.
    """

    cpu_s: float | None
    gpus: Mapping[str, GpuClaim]
    processes: int = 0


class NodeUsage(NamedTuple):
    """Who used the node since the reading before.

    `busy_s` are CPU seconds that all processes of the node used, None if unknown; `capacity_s` those that
    its CPUs had. `runs` holds what each run used. `others` holds the GPUs on which processes of no run
    are, with their SM utilisation (0 to 1), None if unknown.
    """

    busy_s: float | None
    capacity_s: float
    runs: Mapping[str, Usage]
    others: Mapping[str, float | None] = {}


class ResumePoint(NamedTuple):
    """What another monitor needs to resume a run on the same boot; CPU seconds are those since boot.

    `busy_s` and `capacity_s` are the node's. `tree_s` is what the run's living processes used, and the
    children that they waited for; of cgroups, all that these ever used. `roots` are (pid, start in clock
    ticks since boot, whether it is a wrapper). `gpus` are the allocated ones with their fractions, None if
    they are not known.
    """

    busy_s: float
    capacity_s: float
    tree_s: float
    roots: tuple[tuple[int, int, bool], ...]
    cgroups: tuple[str, ...]
    gpus: tuple[tuple[str, float], ...] | None


EndsWith = Literal["participants", "processes", "request", "job"]
"""What ends a run: the end of its last participant, of its processes, a request, or the monitor's own job."""


IntensityKind = Literal["fixed", "table", "live", "forecast", "stale"]


class Intensity(NamedTuple):
    """Carbon intensity of electricity in gCO2e/kWh, with its source.

    The true value lies between `low_g_per_kwh` and `high_g_per_kwh`; they equal the figure where the user
    chose it. `basis` is lifecycle or direct, `accounting` production or consumption. `timestamp_s` is when
    the figure was valid, as Unix time; None for a table.
    """

    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    zone: str
    source: str
    kind: IntensityKind
    basis: str | None = None
    accounting: str | None = None
    year: int | None = None
    timestamp_s: float | None = None
    note: str = ""


class RunTotal(NamedTuple):
    """Running totals of one run in one phase, from one device, by one method.

    The emissions include the PUE; their low and high are the intensity's range alone, without the
    method's uncertainty. `start_s`, on the injected clock, is when they were 0 at last; None where that is
    not known better than that it was at the run's start.
    """

    phase: str
    component: Component
    device_id: str
    method: Method
    energy_j: float
    emissions_g: float
    emissions_low_g: float
    emissions_high_g: float
    start_s: float | None = None


class Charge(NamedTuple):
    """The part of a run's energy that was charged with one kind of intensity of one source."""

    source: str
    zone: str
    kind: IntensityKind
    basis: str | None
    accounting: str | None
    year: int | None
    energy_j: float = 0.0
    emissions_g: float = 0.0


class Cost(NamedTuple):
    """What a run's energy cost, with PUE, in one currency (ISO 4217); negative where prices were.

    `priced_j` is the energy of devices whose price was known, of all the run's.
    """

    currency: str
    amount: float
    priced_j: float


class DeviceState(NamedTuple):
    """One device's running totals for the whole machine, and its last power and utilisation.

    All is since the monitor's start, or that of those which it went on from; a run's own figures are in its
    `RunState`. `peak_power_w` is a mean over at least `PEAK_WINDOW_S`. `utilization_mean_ratio` and
    `mean_power_w` are over the observed time. The last power and utilisation are None when they were unknown
    at the last tick. The means are computed from the next
    three: seconds whose energy is known, utilisation × seconds, and seconds whose utilisation is known.
    `emissions_g` are those of all its energy, with PUE. The counts are of rejected readings: resets, jumps
    and steps back of its counter, how often that stood still, and implausible quantities. `idle_w` is its
    idle power, None where it was not observed (`idle_power.py`).
    """

    device: Device
    counter_j: float
    power_j: float
    tdp_j: float
    unattributed_j: float
    power_w: float | None
    peak_power_w: float | None
    mean_power_w: float | None
    utilization_ratio: float | None
    utilization_mean_ratio: float | None
    unobserved_s: float
    resets: int
    jumps: int
    observed_s: float = 0.0
    utilized_s: float = 0.0
    utilization_s: float = 0.0
    emissions_g: float = 0.0
    step_backs: int = 0
    stuck: int = 0
    implausible: int = 0
    idle_w: float | None = None

    @property
    def energy_j(self) -> float:
        return self.counter_j + self.power_j + self.tdp_j


class NodeTotal(NamedTuple):
    """All energy of a device while a run lasted, whoever caused it, and its emissions with PUE.

    `utilized_s` is its utilisation × seconds in the `utilization_s` seconds in which that was known. The
    counts are of its readings that were rejected meanwhile, as in `DeviceState`.
    """

    device_id: str
    counter_j: float
    power_j: float
    tdp_j: float
    emissions_g: float
    utilized_s: float = 0.0
    utilization_s: float = 0.0
    resets: int = 0
    jumps: int = 0
    step_backs: int = 0
    stuck: int = 0
    implausible: int = 0


SensorUse = Literal["used", "not used"]


class SensorState(NamedTuple):
    """One source: whether it is used, why not, the command that fixes it, and the result of its last read.

    `parts` are those of a reason that speaks of single devices, (device id, text): what is said of a device
    that is not counted is left out of it.
    """

    name: str
    use: SensorUse
    reason: str
    remedy: str = ""
    up: bool = False
    read_s: float | None = None
    errors: tuple[tuple[str, int], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()


class Rank(NamedTuple):
    """One process of a distributed job that took part in a run; None where its launcher does not say."""

    rank: int | None
    local_rank: int | None
    world_size: int | None


class RunInfo(NamedTuple):
    """What a run is; times are Unix times in seconds.

    `id` is the same on all nodes of a job, `key` is the id that its processes on this node ask for.
    `idle_policy` says who is charged with idle CPUs and memory. `uid` owns the run: nobody else but root may
    write into it; None is the monitor's own user. `user` is the name, "" where the monitor gives no names.
    """

    id: str
    name: str
    command: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    host: str
    started_at_s: float
    scheduler: str = ""
    scheduler_job_id: str = ""
    idle_policy: IdlePolicy = "exclusive"
    uid: int | None = None
    key: str | None = None
    ends_with: EndsWith = "job"
    user: str = ""


class RunState(NamedTuple):
    """A run and its totals. `exit_code` and `signal` are known once the job has ended.

    `recovered_j` is the part of the energy that was drawn while no monitor ran, known exactly from a
    hardware counter. `node` is what each device drew in all while the run lasted. `shares` says for people,
    by device id, how the run's part was found. `cpu_s` are CPU seconds of its processes, None where they
    were not counted. `phase` is the current one (the one with the largest weight of several). `work` is
    what the training code says that it has done, None where it says nothing. `notes` say for people what
    was not counted. `resume_point` is for a monitor that resumes the run. `charges` split the energy by the
    intensity that it was charged with. `water_l` are litres, None without a WUE, for `watered_j` of the
    energy. `facility_j` is the energy with the PUE that each joule was charged with, None where it was not
    recorded. `peaks_w` are the highest powers of the run's part of each device. `samples` were taken while
    the run lasted, its baseline included, and `monitor_cpu_s` CPU seconds used by the monitor meanwhile;
    None where nobody noted it. `doubts_j` are joules near changes of phase, by phase, that may belong to
    the phase before or behind (`windows.py`); None where nobody noted them. `start_s` is since when its
    totals count, on the injected clock; None where an earlier boot or release began them, or the run was
    resumed after its end. `forecast` is the newest one while it goes on, `forecasts` are those that are kept
    beside the outcome, `budgets` its limits.
    `gpu_time` is None where the run held no GPU, or nobody noted it. `node_meters` is what the meters of the
    whole machine measured while the run lasted; no other figure holds any of it. `node_charges` are the run's
    parts of those that it was charged by, one after another; empty where runs are charged with what their
    devices drew. `pauses` is None of a run that nobody pauses.
    """

    info: RunInfo
    totals: tuple[RunTotal, ...]
    power_w: tuple[tuple[str, float | None], ...]
    unobserved_s: tuple[tuple[str, float], ...]
    phases_s: tuple[tuple[str, float], ...]
    duration_s: float
    ended_at_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    recovered_j: float = 0.0
    node: tuple[NodeTotal, ...] = ()
    shares: tuple[tuple[str, str], ...] = ()
    cpu_s: float | None = None
    processes: int | None = None
    phase: str = MAIN_PHASE
    work: Work | None = None
    ranks: tuple[Rank, ...] = ()
    resume_point: ResumePoint | None = None
    charges: tuple[Charge, ...] = ()
    costs: tuple[Cost, ...] = ()
    water_l: float | None = None
    watered_j: float | None = None
    facility_j: float | None = None
    peaks_w: tuple[tuple[str, float | None], ...] = ()
    samples: int | None = None
    monitor_cpu_s: float | None = None
    doubts_j: tuple[tuple[str, float], ...] | None = None
    notes: tuple[str, ...] = ()
    start_s: float | None = None
    forecast: Forecast | None = None
    forecasts: tuple[Forecast, ...] = ()
    budgets: tuple[BudgetState, ...] = ()
    gpu_time: GpuTime | None = None
    pauses: Pauses | None = None
    node_meters: tuple[NodeEnergy, ...] = ()
    node_charges: tuple[NodeCharge, ...] = ()


class Snapshot(NamedTuple):
    """Everything that an exporter may show, as of one moment; replaced as a whole, never changed.

    `at_s` is the Unix time of the last sample and `clock_s` the same moment on the injected clock.
    `exporter_errors` are (exporter, how often it failed). `meters` are the state that the next reading of
    each device will be compared with. `continued`: the totals began under another monitor. `pue_source`,
    `wue_source` and `price_source` say who gave the PUE, the WUE (litres per kWh of device energy) and the
    price. `fetch_errors` are (source, reason, how often) of failed fetches. `start_s`, on the injected clock,
    is since when the devices' totals count; None where an earlier boot or release began them. `node_meters`
    are the meters of the whole machine, in which the devices are.
    """

    at_s: float
    version: str
    interval_s: float
    samples: int
    runs: tuple[RunState, ...]
    devices: tuple[DeviceState, ...]
    sensors: tuple[SensorState, ...]
    intensity: Intensity
    pue_ratio: float
    exporter_errors: tuple[tuple[str, int], ...]
    clock_s: float = 0.0
    meters: tuple[tuple[str, Meter], ...] = ()
    continued: bool = False
    pue_source: str = ""
    wue_l_per_kwh: float | None = None
    wue_source: str = ""
    price_per_kwh: float | None = None
    price_source: str = ""
    currency: str = ""
    fetch_errors: tuple[tuple[str, str, int], ...] = ()
    start_s: float | None = None
    node_meters: tuple[NodeMeterState, ...] = ()
