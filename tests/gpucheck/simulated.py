"""The simulated machine as the subject: for a machine without a GPU, and for the check's own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pynvml

from tests.gpucheck.subject import ROOT, Clock, RealClock, Subject
from tests.simulator import Constant, Gpu, LiveGpu, Process, Profile, Simulator, Square, nvidia_smi

IDLE_W, BUSY_W = 70.0, 620.0
GPU = Gpu(
    name="NVIDIA H100 80GB HBM3",
    profile=Constant(IDLE_W),
    utilization=Constant(0.0),
    power_limit_w=700.0,
    power_limit_min_w=200.0,
    power_averaged=True,
    architecture=9,
    mig=(),
)
SM_PERCENTS = (60, 30)
"""How busy two processes keep the simulated GPU."""


class VirtualClock:
    """The machine's own time, which stands still but for `sleep`: nothing depends on how busy this one is."""

    def __init__(self, machine: Simulator) -> None:
        self._machine = machine
        machine.freeze()

    def now_s(self) -> float:
        return self._machine.now_s()

    def wall_s(self) -> float:
        return self._machine.wall_s()

    def sleep(self, seconds: float) -> None:
        if seconds > 0.0:
            self._machine.advance(seconds)


class SimulatedLoad:
    """Steps of power by the GPU's profile; no process works."""

    kind = "a power profile"

    def __init__(self, gpu: LiveGpu, machine: Simulator) -> None:
        self._gpu = gpu
        self._machine = machine
        self._edges: tuple[float, float] | None = None

    def _set(self, profile: Profile, percent: float) -> float:
        at_s = self._machine.now_s()
        self._gpu.set_utilization(Constant(percent), at_s)
        return self._gpu.set_profile(profile, at_s)

    @property
    def busy_w(self) -> float:
        return min(BUSY_W, self._gpu.power_limit_w)

    def idle(self) -> None:
        self._set(Constant(IDLE_W), 0.0)

    def steady(self) -> None:
        self._set(Constant(self.busy_w), 100.0)

    def square(self, period_s: float) -> None:
        self._edges = self._set(Square(IDLE_W, self.busy_w, period_s), 50.0), period_s

    def edges(self) -> Sequence[tuple[float, bool]]:
        if self._edges is None:
            return []
        since_s, period_s = self._edges
        count = int((self._machine.now_s() - since_s) / period_s * 2) + 1
        return [
            (self._machine.wall_s(since_s + number * period_s / 2), number % 2 == 0)
            for number in range(count)
        ]

    def close(self) -> None:
        self.idle()


class SimulatedPair:
    """Two real processes that only wait, and what NVML is to say of them."""

    def __init__(self, gpu: LiveGpu, load: SimulatedLoad) -> None:
        self._gpu, self._load = gpu, load
        wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        self._processes = [subprocess.Popen(wait, stdin=subprocess.PIPE) for _ in SM_PERCENTS]
        self.pids = (self._processes[0].pid, self._processes[1].pid)
        gpu.set_processes(
            [Process(pid, sm_percent=sm) for pid, sm in zip(self.pids, SM_PERCENTS, strict=True)]
        )
        load.steady()

    def close(self) -> None:
        self._gpu.set_processes(())
        self._load.idle()
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()


@dataclass
class SimulatedSubject(Subject):
    """A GPU of a `Simulator`; `machine` is the whole of it."""

    machine: Simulator | None = None

    @property
    def gpu(self) -> LiveGpu:
        assert self.machine is not None
        return self.machine.gpus[0]

    def truth_j(self, start_s: float, end_s: float) -> float | None:
        return self.gpu.energy_between_wall(start_s, end_s)

    def two_loads(self) -> SimulatedPair:
        assert isinstance(self.load, SimulatedLoad)
        return SimulatedPair(self.gpu, self.load)

    def follow_limit(self) -> None:
        assert self.load is not None
        self.load.steady()


@contextmanager
def simulated_subject(spec: Gpu = GPU, *, virtual: bool = False) -> Iterator[SimulatedSubject]:
    """A machine with that GPU behind this process's NVML, and an idle load on it.

    `virtual`: its time passes in `Clock.sleep` only, and other processes cannot follow it.
    """
    with ExitStack() as stack:
        machine = stack.enter_context(Simulator(gpus=[spec]))
        clock: Clock = VirtualClock(machine) if virtual else RealClock()
        machine.preload()
        pynvml.nvmlInit()
        stack.callback(pynvml.nvmlShutdown)
        gpu = machine.gpus[0]
        yield SimulatedSubject(
            nvml=pynvml,
            handle=pynvml.nvmlDeviceGetHandleByIndex(0),
            uuid=gpu.uuid,
            name=spec.name,
            index=0,
            clock=clock,
            load=SimulatedLoad(gpu, machine),
            simulated=True,
            environ={**machine.environ, **_smi(machine.folder)},
            may_lower_limit=True,
            machine=machine,
        )


def _smi(folder: Path) -> Mapping[str, str]:
    """PATH with a stand-in for nvidia-smi in front."""
    place = folder / "bin"
    place.mkdir()
    script = place / "nvidia-smi"
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m {nvidia_smi.__name__} "$@"\n'
    )
    script.chmod(0o755)
    return {"PATH": f"{place}:{os.environ.get('PATH', '')}"}
