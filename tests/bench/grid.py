"""Grams against a closed form, the cost of look-ups, and sampling beside a grid source that misbehaves."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tests.bench import node
from tests.bench.table import Row, megabytes, spread
from tests.simulator import Gpu, Simulator, Sine
from tests.support import command
from tests.support.harness import Monitor

MEAN_W, SWING_W, PERIOD_S = 200.0, 120.0, 86400.0
CURVE = [round(300.0 + 240.0 * math.sin(math.tau * (hour + 0.5) / 24)) for hour in range(24)]
"""gCO2e/kWh in each hour of a day: dirty while the power is high, clean while it is low."""

LOOKUPS = {
    "a region": ("regions", "aws:us-east-1"),
    "a GPU and a CPU": (
        *("estimate", "--gpu", "A100 SXM4 80GB:8", "--cpu", "Xeon Gold 6154:2", "--hours", "1"),
        *("--gpu-utilization", "0.8", "--cpu-utilization", "0.5", "--region", "FR"),
    ),
}
MEMORY = """
import tracemalloc
import carbonmon.hardware.spec_sheets, carbonmon.grid.regions, csv, re
tracemalloc.start()
carbonmon.specs.gpu_spec("NVIDIA A100-SXM4-80GB")
name = "AMD EPYC 7742 64-Core Processor"
carbonmon.specs.cpu_spec(name, visible_threads=128, physical_cores=64, virtual=False)
carbonmon.grid.regions.resolve("aws:us-east-1")
print(*tracemalloc.get_traced_memory())
"""


def rows(quick: bool) -> Iterator[Row]:
    yield _grams(10.0 if quick else 1.0)
    yield from _look_ups(7 if quick else 21)
    yield _memory()
    yield _jitter(5.0 if quick else 20.0)


def grams_error(interval_s: float) -> tuple[float, float]:
    """Relative error of a day's grams: of the monitor's own, and of total energy × the unweighted mean."""
    with Simulator(gpus=[Gpu(profile=Sine(MEAN_W, SWING_W, period_s=PERIOD_S))]) as machine:
        machine.preload()
        machine.freeze()
        first_s = machine.wall_s() - machine.wall_s() % 3600.0
        with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
            path = Path(folder) / "curve.csv"
            path.write_text(_csv(first_s))
            provider = _provider(path)
        with Monitor(machine, interval_s=interval_s, sensors=("nvml",), provider=provider) as monitor:
            begin_s = machine.now_s()
            offset_s = machine.wall_s() - begin_s
            for _ in range(round(24 * 3600.0 / interval_s)):
                machine.advance(interval_s)
                monitor.sampler.tick(publish=False)
            final = monitor.finish()
            truth_g = _truth_g(machine, begin_s, machine.now_s(), first_s - offset_s)
            grams = sum(row.emissions_g for row in final.runs[0].totals)
            energy_j = sum(row.energy_j for row in final.runs[0].totals)
    naive_g = energy_j / 3.6e6 * statistics.fmean(CURVE)
    return grams / truth_g - 1.0, naive_g / truth_g - 1.0


def _csv(first_s: float) -> str:
    begin = datetime.fromtimestamp(first_s, tz=timezone.utc)
    lines = [
        f"{(begin + timedelta(hours=hour)).isoformat()},{CURVE[hour % len(CURVE)]}" for hour in range(25)
    ]
    return "\n".join(["datetime,g_per_kwh", *lines]) + "\n"


def _provider(path: Path):  # type: ignore[no-untyped-def]  # the port's type is the monitor's business
    from carbonmon.core.config import Config
    from carbonmon.service.open_grid import open_provider

    return open_provider(Config(intensity_file=path))


def _truth_g(machine: Simulator, begin_s: float, end_s: float, first_s: float) -> float:
    """The integral of power × intensity, hour by hour, of the power profile in closed form."""
    (gpu,) = machine.gpus
    total_g, at_s = 0.0, begin_s
    while at_s < end_s:
        hour = math.floor((at_s - first_s) / 3600.0 + 1e-9)
        until_s = min(first_s + (hour + 1) * 3600.0, end_s)
        total_g += gpu.energy_j(at_s, until_s) / 3.6e6 * CURVE[hour % len(CURVE)]
        at_s = until_s
    return total_g


def _grams(interval_s: float) -> Row:
    error, naive = grams_error(interval_s)
    return Row(
        "grams of a day against energy × a known hourly curve",
        "≤ 0.2 %",
        f"{error:+.4%}",
        f"virtual time, a sample each {interval_s:g} s; a GPU on a sine of {MEAN_W:.0f} ± {SWING_W:.0f} W a "
        f"day, {min(CURVE)} to {max(CURVE)} g/kWh; total energy × the plain mean would be {naive:+.1%} off",
    )


def _look_ups(pairs: int) -> Iterator[Row]:
    floor = [command.CARBONMON, "--version"]
    for what, words in LOOKUPS.items():
        arguments = [command.CARBONMON, *words]
        _timed(arguments)
        differences, floors = [], []
        for _ in range(pairs):
            floor_s = _timed(floor)
            differences.append(_timed(arguments) - floor_s)
            floors.append(floor_s)
        yield Row(
            f"look-up of {what} in a cold process, `carbonmon {words[0]}` beyond `carbonmon --version`",
            "≤ 50 ms",
            spread(differences, "ms", 1e3, 0),
            f"median (quartiles) of {pairs} pairs; the floor is {spread(floors, 'ms', 1e3, 0)}",
        )


def _timed(arguments: Sequence[str]) -> float:
    begin_s = time.perf_counter()
    subprocess.run(arguments, env=node.environ(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin_s


def _memory() -> Row:
    said = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    kept, peak = map(int, said.split())
    return Row(
        "memory of the tables: a GPU, a CPU and a cloud region looked up",
        "≤ 2 MB",
        f"{megabytes(peak)} at most, {megabytes(kept)} kept",
        "tracemalloc around the three look-ups",
    )


def _jitter(seconds: float) -> Row:
    """How late the ticks of a real sampler are: without a live source, and with one that never answers."""
    from tests.support.gridserver import GridServer

    late: dict[str, list[float]] = {}
    with GridServer() as server:
        server.fault = lambda handler: handler.wait() and None
        late["without"] = _lateness(seconds, ())
        os.environ["CARBONMON_UK_URL"] = server.url
        try:
            late["hanging"] = _lateness(seconds, ("uk",))
        finally:
            del os.environ["CARBONMON_UK_URL"]
    spans = {
        name: f"{spread(values, 'ms', 1e3)}, at most {max(values) * 1e3:.1f} ms"
        for name, values in late.items()
    }
    return Row(
        "how late ticks are with a live source that accepts and never answers",
        "as without",
        f"{spans['hanging']}; without a source {spans['without']}",
        f"a sampler's thread in real time, {seconds:.0f} s at 50 ms each; median (quartiles)",
    )


def _lateness(seconds: float, grid: tuple[str, ...]) -> list[float]:
    from carbonmon.core.config import Config
    from carbonmon.core.footprint import Overheads
    from carbonmon.monitor.clock import Alarm, SystemClock
    from carbonmon.monitor.grid_rates import GridRates
    from carbonmon.monitor.loop import SamplingLoop
    from carbonmon.monitor.requests import RequestQueue
    from carbonmon.monitor.run_attribution import RunAttribution
    from carbonmon.monitor.run_lifetimes import RunLifetimes
    from carbonmon.monitor.sampler import Sampler
    from carbonmon.service.open_grid import open_provider

    class Noted(Sampler):
        """A sampler that notes when its ticks begin."""

        def sample(self, edge: bool = False) -> None:
            begun.append(clock.now_s())
            super().sample(edge)

    clock, begun, stop = SystemClock(), [], Alarm()
    provider = open_provider(Config(grid=grid, region="GB"))
    rates = GridRates(provider, Overheads(), clock.wall_s())
    runs = RunLifetimes(RunAttribution(None, clock.now_s()))
    sampler = Noted([], {}, [], rates, runs, clock, 0.05, "bench")
    loop = SamplingLoop(sampler, RequestQueue(clock), clock)
    thread = threading.Thread(target=loop.run_until, args=(stop,))
    thread.start()
    time.sleep(seconds)
    stop.set()
    thread.join()
    provider.close()
    origin_s = begun[0]
    return [(at_s - origin_s + 0.025) % 0.05 - 0.025 for at_s in begun[1:-1]]


if __name__ == "__main__":
    json.dump(grams_error(10.0), sys.stdout)
