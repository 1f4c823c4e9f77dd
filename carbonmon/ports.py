"""The interfaces between the program and its adapters: everything outside the pure core is behind one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from carbonmon.model import Device, Failure, Followed, Intensity, NodeUsage, Reading, SensorState, Snapshot


class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now_s(self) -> float:
        """Seconds on a clock that never jumps and goes on during suspend."""
        ...

    def wall_s(self) -> float:
        """Unix time in seconds, for labels and for looking up intensity only."""
        ...


@dataclass(frozen=True, slots=True)
class SensorSettings:
    """What a sensor may know when it opens.

    `sysfs` and `procfs` are the roots of those file systems, elsewhere in containers and tests.
    `gpus` is the user's choice of GPUs (indices or UUIDs), None without one: then the job's
    CUDA_VISIBLE_DEVICES in `environ` decides. `known` holds the devices that sensors opened before
    this one already serve, by id, so that a fallback fills gaps and counts nothing twice.
    """

    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")
    environ: Mapping[str, str] = field(default_factory=dict)
    gpus: tuple[str, ...] | None = None
    gpu_model: str | None = None
    gpu_tdp_w: float | None = None
    cpu_model: str | None = None
    cpu_tdp_w: float | None = None
    dram_estimate: bool = True
    argument: str = ""
    known: Mapping[str, Device] = field(default_factory=dict)


class Sensor(Protocol):
    """A source of readings. It knows no run, no carbon and no clock: it is told the time."""

    name: str

    def devices(self) -> Sequence[Device]:
        """The devices that it reads, with what it knows of each; asked once, after opening."""
        ...

    def sources(self) -> Sequence[SensorState]:
        """What it found, for `doctor` and the summary: itself, and parts that it had to leave out."""
        ...

    def read(self, now_s: float, edge: bool = False) -> Iterable[Reading | Failure]:
        """Yield what each device says now, one at a time: the caller stamps each as it comes.

        `edge` marks the edge of a run, where a counter is read even if it was read a moment ago.
        One device's failure is a `Failure` among the readings; only a failure of the whole source
        raises (`SensorReadError`, `SensorGone`).
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Roots:
    """Where a run's processes are to be found.

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

    def add(self, run_id: str, roots: Roots, since: Followed | None = None) -> None:
        """Follow a run from now on: what its processes used before is not its own.

        `since` is where a monitor before this one stopped: what was used after that is in the next reading.
        """
        ...

    def followed(self) -> Mapping[str, Followed]:
        """Where each run stands, for a monitor that may have to go on with it."""
        ...

    def join(self, run_id: str, roots: Roots) -> None:
        """More roots of a run that is followed already."""
        ...

    def remove(self, run_id: str) -> None:
        """Follow a run no more; an unknown one is no error."""
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

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class IntensitySettings:
    """The user's choice of intensity: a place, or a figure in gCO2e/kWh; neither means the world average."""

    region: str | None = None
    g_per_kwh: float | None = None


class Exporter(Protocol):
    """Shows snapshots to the world. It sees nothing but snapshots."""

    name: str

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """Begin; returns where the result is to be found, for the user's first line."""
        ...

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Called every few seconds, in the thread that writes: a place for a running result.

        A run that has ended in it (`ended_at_s`) gets its final result now.
        """
        ...

    def finish(self, final: Snapshot) -> None:
        """Called once with the last snapshot of the monitor."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ExporterSettings:
    """What an exporter may know when it opens.

    `listen` is (host, port), port 0 for any free one. `run_folders` holds the folder of each run that the
    monitor keeps, by the run's id; runs come and go in it while the exporter works.
    """

    listen: tuple[str, int] = ("127.0.0.1", 9877)
    run_folders: Mapping[str, Path] = field(default_factory=dict)
    procfs: Path = Path("/proc")
