"""The interfaces between the program and its adapters: everything outside the pure core is behind one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from carbonmon.core.model import (
    Device,
    Failure,
    Intensity,
    NodeUsage,
    Reading,
    ResumePoint,
    SensorState,
    Snapshot,
)
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import Slot


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now_s(self) -> float:
        """Seconds on a clock that never jumps and continues during suspend."""
        ...

    def wall_s(self) -> float:
        """Unix time in seconds, for labels and for looking up intensity only."""
        ...


class SensorSettings(NamedTuple):
    """What a sensor may know when it opens.

    `sysfs` and `procfs` are the roots of those file systems, other paths in containers and tests.
    `gpus` is the user's choice of GPUs (indices or UUIDs), None without one: then the job's `environ`
    decides, which is empty for a daemon (docs/use/attribution.md). `known` holds the devices of the sensors
    opened before this one, by id, so that a fallback fills gaps and counts nothing twice.
    """

    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")
    environ: Mapping[str, str] = {}
    gpus: tuple[str, ...] | None = None
    gpu_model: str | None = None
    gpu_tdp_w: float | None = None
    cpu_model: str | None = None
    cpu_tdp_w: float | None = None
    dram_estimate: bool = True
    argument: str = ""
    known: Mapping[str, Device] = {}


class Sensor(Protocol):
    """A source of readings. It knows no run, no carbon and no clock: the time is an argument.

    One whose reads may hang or are slow (a driver's library, a meter on the network) has the attribute
    `may_hang = True`: it is read in a thread of its own, and costs no other sensor anything. One with the
    attribute `shape_wanted` is told by it, before a read, that the shape of the last second is wanted also
    where its counter is not read. One that chose GPUs by what the job was given has `gpus_are_given = True`,
    and `gpus_seen`, the ids of those that are here and not the job's.
    """

    name: str

    def devices(self) -> Sequence[Device]:
        """The devices that it reads, with their properties; called once, after opening."""
        ...

    def sources(self) -> Sequence[SensorState]:
        """What it found, for `doctor` and the summary: itself, and devices that it does not use."""
        ...

    def read(self, now_s: float, edge: bool = False) -> Iterable[Reading | Failure]:
        """Yield the present reading of each device, one at a time: the caller notes the time of each.

        `edge` marks the start or end of a run, where a counter is read even if it was read a moment ago.
        One device's failure is a `Failure` among the readings; only a failure of the whole source
        raises (`SensorReadError`, `SensorGone`).
        """
        ...

    def close(self) -> None: ...


class NodeMeterSettings(NamedTuple):
    """What a node meter may know when it opens.

    `argument` is what the user wrote after its name (`redfish:https://bmc`), "" without it. `password_file`
    and `authorities` are for one that is asked over the network: the file with the account's password, and
    that of the authorities that sign its certificate.
    """

    sysfs: Path = Path("/sys")
    argument: str = ""
    password_file: Path | None = None
    authorities: Path | None = None


class NodeMeter(Protocol):
    """A meter of the whole machine. What it measures is shown beside the devices and never added to them.

    Opening it waits for nobody. One with `is_slow = True` is read in a thread of its own, at most once in
    `period_s` seconds; a read that hangs costs only itself.
    """

    name: str
    is_slow: bool
    period_s: float

    def read(self) -> NodeReading:
        """What it says now; raises `SensorUnavailable` where it will never work here as things are, and
        `SensorReadError` for what may be over at the next read."""
        ...

    def describe(self) -> str:
        """Which hardware this is and how it is read, for people; of a meter that has been read."""
        ...

    def close(self) -> None: ...


class Roots(NamedTuple):
    """Which processes, cgroup and GPUs belong to a run.

    `pids` are processes that belong to the run with all their descendants. `wrappers` are the same, but
    their own CPU time is not the run's: commands of ours that wrap a job. `cgroup` is a cgroup that holds
    the run and nothing else; its CPU time then counts instead of that of the processes. `gpus` are the
    GPUs that are allocated to the run, with the fraction of each, None where no allocation is known: then
    a GPU is the run's while its processes are on it.
    """

    pids: tuple[int, ...] = ()
    wrappers: tuple[int, ...] = ()
    cgroup: Path | None = None
    gpus: Mapping[str, float] | None = None


class Workload(Protocol):
    """Who is using the hardware. Called by the sampling thread only."""

    def add(self, run_id: str, roots: Roots, since: ResumePoint | None = None) -> None:
        """Follow a run from now on: what its processes used before is not its own.

        `since` is where the previous monitor stopped: what was used after that is in the next reading.
        """
        ...

    def resume_points(self) -> Mapping[str, ResumePoint]:
        """The resume point of each run, for a monitor that may have to resume it."""
        ...

    def join(self, run_id: str, roots: Roots) -> None:
        """Add roots to a run that is followed already."""
        ...

    def remove(self, run_id: str) -> None:
        """Stop following a run; an unknown one is no error."""
        ...

    def read(self, now_s: float) -> NodeUsage:
        """What was used since the reading before. Vanishing processes are normal and raise nothing."""
        ...

    def close(self) -> None: ...


class IntensityProvider(Protocol):
    """A source of carbon intensity."""

    def intensity_at(self, wall_s: float) -> Intensity:
        """The intensity in force at a Unix time. Never waits for network or disk."""
        ...

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        """The mean over a stretch of Unix time, labelled as most of it; the same for what is constant."""
        ...

    def fetch_errors(self) -> Sequence[tuple[str, str, int]]:
        """(source, reason, how often) of what could not be fetched; nothing for what fetches nothing."""
        ...

    def close(self) -> None: ...


class IntensitySettings(NamedTuple):
    """The user's choice of intensity: a place, a figure in gCO2e/kWh, a file of them over time, live sources.

    None of these means the world average. `region` is also used where the file or the live sources have
    no figure. `grid` are live sources, `NAME` or `NAME:ZONE`, best first. `environ` holds keys for them;
    `load_source` gives the factory of one by its name.
    """

    region: str | None = None
    g_per_kwh: float | None = None
    file: Path | None = None
    grid: tuple[str, ...] = ()
    environ: Mapping[str, str] = {}
    load_source: Callable[[str], Callable[[GridSettings], GridSource]] | None = None


class Http(Protocol):
    """The HTTP client that a live source gets."""

    def get_json(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
    ) -> Any:
        """The JSON value at a URL, within a time limit and a size limit; raises FetchError for anything else.

        `basic` are user and password for HTTP Basic authentication.
        """
        ...


class GridSource(Protocol):
    """One source of intensity over time, for one zone. It knows no thread, no cache and no clock.

    `basis` and `accounting` are those of its figures, as in `Intensity`. Figures of an `is_marginal` source
    are used to choose a time and never for a footprint. `lag_s` is how late it publishes in normal
    operation: until so long after the end of a slot, its figure counts as live. Values of all slots are in
    gCO2e/kWh, and checked: finite, 0 to 5000. Each method raises FetchError, with reason `unsupported` for
    what a source does not offer.
    """

    name: str
    zone: str
    basis: str | None
    accounting: str | None
    is_marginal: bool
    slot_s: float
    lag_s: float

    def latest(self, http: Http, now_s: float) -> Sequence[Slot]:
        """The newest slots that it has, in order of time: the one in force, and others in the answer."""
        ...

    def history(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        """Actual intensity of the past, in order of time, for Unix times; gaps where it is unknown."""
        ...

    def forecast(self, http: Http, start_s: float, end_s: float) -> Sequence[Slot]:
        """Forecast intensity, in order of time."""
        ...


class GridSettings(NamedTuple):
    """What a live source may know when it opens: the place that the user named, as its own zone or as ours.

    `zone` is what the user wrote behind the source's name (`electricitymaps:US-CAL-CISO`), "" without it;
    then `region` is the user's region, a zone of the bundled table, `em_zone` Electricity Maps' name of a
    cloud region's grid. `environ` holds keys (CARBONMON_ELECTRICITYMAPS_TOKEN …), or
    names a file of them (CARBONMON_KEYS_FILE).
    """

    zone: str = ""
    region: str | None = None
    em_zone: str = ""
    environ: Mapping[str, str] = {}


class Exporter(Protocol):
    """Publishes snapshots. It reads nothing but snapshots."""

    name: str

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """Begin; returns the address or path of the result, for the user's first line.

        Raises `ConfigError` where what the user named cannot be, and whatever else fails as it is. A daemon
        ends with the first; the job of `carbonmon run` starts all the same, with a warning.
        """
        ...

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Called every few seconds, in the thread that writes: publish the running result.

        A run that has ended in it (`ended_at_s`) gets its final result now.
        """
        ...

    def finish(self, final: Snapshot) -> None:
        """Called once with the last snapshot of the monitor."""
        ...

    def close(self) -> None: ...


class ExporterSettings(NamedTuple):
    """What an exporter may know when it opens.

    `listen` is (host, port), port 0 for any free one. `run_folders` holds the folder of each run that the
    monitor keeps, by the run's id; runs are added and removed while the exporter works. `web_config` is the
    file with TLS and users for an exporter that listens. `argument` is what the user wrote after the
    exporter's name (`pushgateway:http://gateway:9091`), "" without it. `host` is the host name to report
    instead of the machine's own. `targets` is the folder in which an exporter that listens says where.
    `served_s` is how long at most it may have the monitor's end served after the monitor, 0 for not at all.
    `keeps_address`: an exporter that listens does so at `listen` or not at all, never at another port.
    """

    listen: tuple[str, int] = ("127.0.0.1", 9877)
    run_folders: Mapping[str, Path] = {}
    procfs: Path = Path("/proc")
    web_config: Path | None = None
    argument: str = ""
    host: str | None = None
    targets: Path | None = None
    served_s: float = 0.0
    keeps_address: bool = False
