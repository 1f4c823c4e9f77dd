"""The energy of short jobs on a busy machine, by each way to meter one, against what was really drawn.

A short job shows its edges: a reading that is a tenth of a second beside a stated begin or end is 4 % of it.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.bench.table import Row
from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square
from tests.simulator.truth import compare
from tests.support import command, ranks
from tests.support.daemon import daemon

SPINNING_PER_CPU = 2

Summary = dict[str, Any]
TRACKED = "import carbonmon, time\nwith carbonmon.track():\n  time.sleep({seconds})\n"


def rows(quick: bool) -> Iterator[Row]:
    jobs = 4 if quick else 20
    for name, way in WAYS.items():
        with machine() as sim, spinning() as number:
            errors = [error_s(sim, summary) for summary in way(sim, jobs)]
        rms_ms = 1e3 * statistics.mean(error * error for error in errors) ** 0.5
        yield Row(
            f"energy of {jobs} jobs of 2 to 4 s beside {number} spinning processes, {name}",
            "≤ 20 ms × the power",
            f"{rms_ms:.1f} ms × the power (root mean square), at most {1e3 * max(map(abs, errors)):.1f}",
            "the summary against the integrals of the power profiles from started_at to ended_at, which are "
            f"told to a millisecond; load average {os.getloadavg()[0]:.0f}",
        )


def machine() -> Simulator:
    """Its counters are those of each read, or wait for no CPU, as hardware: what is wrong is ours."""
    sim = Simulator(
        gpus=[
            Gpu(profile=Sine(250.0, 120.0, period_s=1.3), counter_refresh_s=0.0),
            Gpu(profile=Square(60.0, 350.0, period_s=0.7), counter_refresh_s=0.0),
        ],
        packages=[Package(Constant(120.0), dram=Constant(15.0))],
    )
    sim.hurry()
    return sim


@contextmanager
def spinning() -> Iterator[int]:
    number = SPINNING_PER_CPU * (os.cpu_count() or 1)
    with ExitStack() as stack:
        for _ in range(number):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield number


def error_s(sim: Simulator, summary: Summary) -> float:
    """The run's energy less the truth, in seconds of its mean power."""
    every = compare(sim, summary)[-1]
    assert every.run_j is not None
    return float((every.run_j - every.truth_j) / every.truth_j * summary["run"]["duration_s"])


def lengths(jobs: int) -> list[float]:
    chosen = random.Random(1)
    return [chosen.uniform(2.0, 4.0) for _ in range(jobs)]


def by_command(sim: Simulator, jobs: int) -> Iterator[Summary]:
    for seconds in lengths(jobs):
        with folder() as place:
            words = [command.CARBONMON, "run", "--quiet", "--", "sleep", f"{seconds}"]
            subprocess.run(words, cwd=place, env=ranks.settings(sim, place, **CHOICES), check=True)
            yield command.summary(place)


def by_track(sim: Simulator, jobs: int) -> Iterator[Summary]:
    for seconds in lengths(jobs):
        with folder() as place:
            words = [sys.executable, "-c", TRACKED.format(seconds=seconds)]
            subprocess.run(words, cwd=place, env=ranks.settings(sim, place, **CHOICES), check=True)
            yield command.summary(place)
            ranks.gone(place)


def by_registration(sim: Simulator, jobs: int) -> Iterator[Summary]:
    with folder() as place, daemon(sim, place, "--interval", "1", "--idle", "exclusive") as node:
        for number, seconds in enumerate(lengths(jobs)):
            with subprocess.Popen(["sleep", "600"]) as job:
                node.register(f"job-{number}", "--pid", f"{job.pid}")
                time.sleep(seconds)
                yield node.unregister(f"job-{number}")
                job.kill()


CHOICES = {"CARBONMON_INTERVAL": "1"}
WAYS: dict[str, Callable[[Simulator, int], Iterator[Summary]]] = {
    "`carbonmon run`": by_command,
    "`track()`": by_track,
    "registered with a daemon": by_registration,
}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as name:
        yield Path(name)
