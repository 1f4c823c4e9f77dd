"""What is checked: a GPU behind NVML, a load for it, a clock, and how commands find the same machine."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]


class Clock(Protocol):
    """The time of the machine that is checked."""

    def now_s(self) -> float:
        """Seconds that never step."""
        ...

    def wall_s(self) -> float:
        """Unix time in seconds: that of NVML's samples."""
        ...

    def sleep(self, seconds: float) -> None: ...


class RealClock:
    """This machine's own."""

    def now_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


class Load(Protocol):
    """Work for the GPU. Each call replaces what it did before."""

    kind: str
    """What does the work, for the page."""

    def idle(self) -> None: ...

    def steady(self) -> None:
        """As busy as it can be."""
        ...

    def square(self, period_s: float) -> None:
        """Busy for half of each period, idle for the other half; begins busy."""
        ...

    def edges(self) -> Sequence[tuple[float, bool]]:
        """(Unix time, busy from then on) of the last square wave until now."""
        ...

    def close(self) -> None: ...


@dataclass
class Subject:
    """The GPU that is checked. `nvml` is pynvml, initialised; `handle` is that GPU's.

    `environ` is what a child needs to find the same NVML. `two_loads` starts two processes that share the GPU
    and returns their pids and how to end them. `truth_j` is the energy between two Unix times where it is
    known, which is in a simulation only. `may_lower_limit`: the user allows it. `missing` is what this
    machine lacks, with what is left out for it.
    """

    nvml: Any
    handle: Any
    uuid: str
    name: str
    index: int
    clock: Clock
    load: Load | None
    simulated: bool
    environ: Mapping[str, str] = field(default_factory=dict)
    may_lower_limit: bool = False
    missing: list[tuple[str, str]] = field(default_factory=list)

    @property
    def real_time(self) -> bool:
        """Whether its time passes by itself: only then can other processes look at it."""
        return isinstance(self.clock, RealClock)

    def truth_j(self, start_s: float, end_s: float) -> float | None:
        """What it drew between two Unix times; None on real hardware, which has no outside meter."""
        return None

    def two_loads(self) -> TwoLoads | None:
        """Two processes that share the GPU; None where there is no load."""
        return None

    @property
    def training(self) -> list[str]:
        """The arguments with which train.py works on this GPU."""
        return ["waiting"]

    @property
    def training_python(self) -> str:
        return sys.executable

    def follow_limit(self) -> None:
        """For a simulated load: draw no more than the power limit that was set."""

    @property
    def averages_power(self) -> bool:
        """Whether nvmlDeviceGetPowerUsage is the mean of a second: Ampere and later except GA100 (nvml.h)."""
        try:
            architecture = self.nvml.nvmlDeviceGetArchitecture(self.handle)
        except self.nvml.NVMLError:
            return False
        is_ga100 = re.search(r"\bA(100|800|30)\b", self.name) is not None
        return bool(architecture >= self.nvml.NVML_DEVICE_ARCH_AMPERE) and not is_ga100


class TwoLoads(Protocol):
    """Two processes that work on the GPU at the same time."""

    pids: tuple[int, int]

    def close(self) -> None: ...


def python_environ(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: this checkout on its path, no choice for carbonmon or a scheduler in it."""
    own = re.compile(r"CARBONMON_(?!SIM_)|SLURM_|PBS_|LSB_|FLUX_")
    environ = {key: value for key, value in os.environ.items() if not own.match(key)}
    path = [str(ROOT), str(ROOT / "exporters"), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": ":".join(path), "CARBONMON_LISTEN": "127.0.0.1:0", **more}


def carbonmon(*arguments: str) -> list[str]:
    """The command line of carbonmon itself, from this checkout."""
    return [sys.executable, "-m", "carbonmon", *arguments]
