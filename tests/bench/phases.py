"""Energy of single phases of 200 ms against the simulated truth, and what a change of phase costs."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from tests.bench import node
from tests.bench.table import Row
from tests.simulator import Constant, Gpu, LiveGpu, LiveZone, Package, Simulator, Sine

PHASES = 40
PHASE_S = 0.2

JOB = """
import json, sys, time
import carbonmon
edges, costs = [], []
with carbonmon.track() as run:
    time.sleep(1.1)
    for number in range({phases}):
        begin_s = time.time()
        with run.phase(f"p{{number:02d}}"):
            costs.append(time.time() - begin_s)
            time.sleep({seconds})
            end_s = time.time()
        edges.append((begin_s, end_s))
        time.sleep(0.137)
sys.stdout.write(json.dumps([edges, costs]))
"""


def rows(quick: bool) -> Iterator[Row]:
    phases = 15 if quick else PHASES
    gpus = [Gpu(profile=Sine(250.0, 120.0, period_s=1.3)), Gpu(profile=Sine(200.0, 100.0, period_s=0.9))]
    packages = [Package(Sine(120.0, 40.0, period_s=2.0), dram=Constant(15.0))]
    with Simulator(gpus=gpus, packages=packages) as sim:
        summary, edges, costs = _run(sim, phases)
        for what, devices in (
            ("packages and memory", list(sim.zones.values())),
            ("GPUs", list(sim.gpus)),
        ):
            errors = sorted(_errors(summary, edges, devices))
            yield Row(
                f"energy of a phase of {PHASE_S * 1e3:.0f} ms, {what}",
                "≤ 5 %",
                f"{statistics.median(errors):.1%} median, {errors[int(0.95 * len(errors))]:.1%} "
                f"95th percentile, {errors[-1]:.1%} largest",
                f"{phases} phases of one run, each against the truth between its own edges; power on sines "
                "of 0.9 to 2 s; the GPUs' counters and samples are refreshed every 20 ms",
            )
    costs.sort()
    yield Row(
        "a change of phase, for the training code",
        "≤ 1 ms",
        f"{statistics.median(costs) * 1e6:.0f} µs median, {costs[-1] * 1e6:.0f} µs largest",
        f"entering {phases} phases",
    )


def _run(sim: Simulator, phases: int) -> tuple[dict[str, Any], list[tuple[float, float]], list[float]]:
    import subprocess
    import tempfile
    from pathlib import Path

    from tests.support import command

    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        job = [sys.executable, "-c", JOB.format(phases=phases, seconds=PHASE_S)]
        options = ["--sysfs", str(sim.sysfs), "--sensor", "nvml,rapl", "--idle", "exclusive"]
        done = subprocess.run(
            [command.CARBONMON, "run", *options, "--", *job],
            cwd=folder,
            env=node.environ(sim.environ),
            capture_output=True,
            text=True,
            check=True,
        )
        edges, costs = json.loads(done.stdout)
        return command.summary(Path(folder)), edges, costs


def _errors(
    summary: dict[str, Any],
    edges: list[tuple[float, float]],
    devices: list[LiveGpu] | list[LiveZone] | list[LiveGpu | LiveZone],
) -> Iterator[float]:
    """Relative error of each phase's energy on these devices."""
    components = ("gpu",) if isinstance(devices[0], LiveGpu) else ("cpu", "dram")
    for number, (begin_s, end_s) in enumerate(edges):
        phase = summary["energy"]["phases"][f"p{number:02d}"]
        found_j = sum(phase["components"].get(name, {"energy_j": 0.0})["energy_j"] for name in components)
        truth_j = sum(device.energy_between_wall(begin_s, end_s) for device in devices)
        yield abs(found_j / truth_j - 1.0)
