"""How long `carbonmon run -- true` takes beyond an interpreter that does nothing."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

from tests.bench import node
from tests.bench.table import Row, spread
from tests.simulator import Simulator
from tests.support import command

TARGET = "≤ 0.30 s"


def rows(quick: bool) -> Iterator[Row]:
    pairs = 10 if quick else 25
    with node.machine() as sim:
        yield _row("8 GPUs and 2 packages with dram", pairs, sim, node.sysfs(sim))
    with Simulator() as bare:  # its tree has CPUs but no powercap; NVML is the machine's own, if any
        yield _row("no sensor (CPU and memory estimated)", pairs, None, str(bare.sysfs))


def _row(machine: str, pairs: int, sim: Simulator | None, sysfs: str) -> Row:
    monitored = [command.CARBONMON, "run", "--sysfs", sysfs, "--quiet", "--", "true"]
    interpreter = [sys.executable, "-c", "pass"]
    env = node.environ(sim.environ if sim else {"CUDA_VISIBLE_DEVICES": ""})
    if sim is not None:
        monitored, interpreter = node.inside(sim, monitored), node.inside(sim, interpreter)
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        _timed(monitored, folder, env)  # whatever is not compiled yet is compiled now
        ours: list[tuple[float, float]] = []
        floor: list[tuple[float, float]] = []
        for number in range(pairs):
            commands = ((monitored, ours), (interpreter, floor))
            for arguments, times in commands if number % 2 else reversed(commands):
                times.append(_timed(arguments, folder, env))
    wall = [a[0] - b[0] for a, b in zip(ours, floor, strict=True)]
    cpu = [a[1] - b[1] for a, b in zip(ours, floor, strict=True)]
    return Row(
        f"start to finish of `carbonmon run -- true` beyond `python3 -c pass`, {machine}",
        TARGET,
        f"{spread(wall, 's')}; CPU {spread(cpu, 's')}",
        f"median (quartiles) of {pairs} pairs, alternating; the interpreter alone takes "
        f"{spread([wall_s for wall_s, _ in floor], 's')}",
    )


def _timed(arguments: Sequence[str], folder: str, env: Mapping[str, str]) -> tuple[float, float]:
    """(wall seconds, CPU seconds of the process and its children)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin_s = time.perf_counter()
    code = subprocess.call(
        arguments, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    wall_s = time.perf_counter() - begin_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if code != os.EX_OK:
        raise RuntimeError(f"{arguments} ended with {code}")
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
