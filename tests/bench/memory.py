"""Peak resident memory of a working monitor, and of an interpreter that only imports its libraries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.bench import node
from tests.bench.table import Row, megabytes
from tests.simulator import Simulator

TARGET = "≤ 32 MB"
# VmHWM of /proc/self/status, because ru_maxrss is inherited through fork and exec from a bigger parent.
SHOW = (
    "import json, re; {imports}\n"
    "status = open('/proc/self/status').read()\n"
    "print(json.dumps(int(re.search(r'VmHWM:\\s*(\\d+)', status)[1]) * 1024))"
)


SHARED = {"exclusive": "", "proportional": ", shared by CPU time and processes on GPUs (the default)"}
"""Whose the node's energy is, and how the table says so."""


class Peaks(NamedTuple):
    """VmHWM in bytes at the stages of one run."""

    sampling: int
    scraped: int
    at_exit: int
    by_summary: int


def rows(quick: bool) -> Iterator[Row]:
    runs = 2 if quick else 5
    with node.machine() as sim:
        peaks = {idle: [_run(sim, idle) for _ in range(runs)] for idle in SHARED}
        floors = {
            name: statistics.median(
                [node.python(sim, ["-c", SHOW.format(imports=imports)]) for _ in range(5)]
            )
            for name, imports in (
                ("nothing", "pass"),
                ("libraries", "import pynvml, psutil, click, prometheus_client"),
            )
        }
    for idle, found in peaks.items():
        last = [peak.at_exit for peak in found]
        middle = Peaks(*[int(statistics.median(stage)) for stage in zip(*found, strict=True)])
        yield Row(
            f"peak memory of `carbonmon run`, 8 GPUs and 2 packages with dram, scraped 6 times{SHARED[idle]}",
            TARGET,
            f"{megabytes(middle.by_summary)} in its summary; {megabytes(middle.at_exit)} until its exit "
            f"(highest of {runs} runs {megabytes(max(last))})",
            f"VmHWM: the summary's own_peak_rss_bytes, and /proc/PID/status polled until the process was "
            f"gone; medians of {runs} runs; {megabytes(middle.sampling)} before the first scrape, "
            f"{megabytes(middle.scraped)} after the last",
        )
    yield Row(
        "the same of Python that imports pynvml, psutil, click and prometheus_client",
        "the floor",
        megabytes(floors["libraries"]),
        f"VmHWM of its own /proc/self/status, median of 5; Python alone {megabytes(floors['nothing'])}",
    )


def _run(sim: Simulator, idle: str) -> Peaks:
    with node.Monitored(sim, idle=idle) as monitored:
        time.sleep(2.5)
        sampling = monitored.peak_bytes()
        for _ in range(6):
            monitored.scrape()
            time.sleep(0.3)
        scraped = at_exit = monitored.peak_bytes()
        if monitored.process.stdin is not None:
            monitored.process.stdin.close()
            monitored.process.stdin = None
        while monitored.process.poll() is None:  # the high-water mark only rises, so the last look counts
            at_exit = max(at_exit, monitored.peak_bytes())
            time.sleep(0.0002)
        summary = monitored.end()
    return Peaks(sampling, scraped, at_exit, summary["monitor"]["own_peak_rss_bytes"])
