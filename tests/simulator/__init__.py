"""A machine with NVIDIA GPUs and RAPL, simulated outside the monitor by a shared library and a file tree.

The unmodified pynvml and pyRAPL run against it. Power follows profiles whose energy is known in closed form,
so a test compares what the monitor found with the truth, while faults are switched on and off.

    gpu = Gpu(profile=Square(60, 350, period_s=0.7))
    with Simulator(tmp_path, gpus=[gpu], packages=[Package()]) as machine:
        child = machine.popen(["carbonmon", "run", "--sysfs", str(machine.sysfs), "--", "train"])
        machine.gpus[0].fault(lost=True)
        ...
        machine.gpus[0].energy_between_wall(started_unix_s, ended_unix_s)

In the test's own process, call `machine.preload()` before `pynvml.nvmlInit()`; `machine.advance(1.0)` moves
the machine's time without waiting.
"""

from tests.simulator.build import can_build
from tests.simulator.gpu import Gpu, LiveGpu, Mig, Process
from tests.simulator.machine import Simulator
from tests.simulator.namespace import can_wrap
from tests.simulator.powercap import LiveZone, Package
from tests.simulator.profiles import Constant, Profile, Ramp, Sine, Square

__all__ = [
    "Constant",
    "Gpu",
    "LiveGpu",
    "LiveZone",
    "Mig",
    "Package",
    "Process",
    "Profile",
    "Ramp",
    "Simulator",
    "Sine",
    "Square",
    "can_build",
    "can_wrap",
]
