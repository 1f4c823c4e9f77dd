"""The daemon with many runs and thousands of processes: its CPU time, its memory, and its whole account."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from carbonmon.client.connection import MonitorConnection
from carbonmon.client.rendezvous import connect
from tests.bench import node
from tests.bench.table import Row, megabytes
from tests.simulator import Simulator
from tests.support import command

RUNS, PROCESSES_A_RUN = 100, 50
SETTLE_S = 10.0

JOB = """
import os, signal, sys, time
for number in range({processes} - 2):
    if os.fork() == 0:
        signal.pause()
        os._exit(0)
if os.fork() == 0:  # one that does a little, all the time
    while True:
        sum(range(2000))
        time.sleep(0.1)
signal.pause()
"""


def rows(quick: bool) -> Iterator[Row]:
    seconds = 15.0 if quick else 60.0
    with node.machine() as sim, tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        yield from _rows(sim, Path(folder), seconds)


def _rows(sim: Simulator, folder: Path, seconds: float) -> Iterator[Row]:
    path = folder / "daemon.sock"
    options = ["--sysfs", node.sysfs(sim), "--socket", str(path), "--output", str(folder / "runs")]
    daemon = subprocess.Popen(
        node.inside(sim, [command.CARBONMON, "daemon", *options]),
        cwd=folder,
        env=node.environ(sim.environ),
        stderr=subprocess.PIPE,
        text=True,
    )
    jobs: list[subprocess.Popen[bytes]] = []
    try:
        url = command.metrics_address(daemon)
        code = JOB.format(processes=PROCESSES_A_RUN)
        for number in range(RUNS):
            jobs.append(subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True))
            ask(path, {"op": "register", "run_id": f"run-{number}", "pid": jobs[-1].pid})
        time.sleep(SETTLE_S)
        before_s, begin_s = cpu_s(daemon.pid), time.monotonic()
        time.sleep(seconds)
        ratio = (cpu_s(daemon.pid) - before_s) / (time.monotonic() - begin_s)
        followed = _followed(url)
        peak = peak_bytes(daemon.pid)
        command.get(url)
        scraped = peak_bytes(daemon.pid)
        what = (
            f"the daemon with {RUNS} runs and {followed} processes at a 1 s interval, 8 GPUs and 2 packages"
        )
        yield Row(
            f"{what}: CPU",
            "≤ 5 % of one core",
            f"{ratio:.1%} of one core",
            f"its process's CPU clock over {seconds:.0f} s; not scraped; in each run one process wakes up "
            "ten times a second, the others sleep",
        )
        yield Row(
            f"{what}: memory",
            "≤ 60 MB",
            f"{megabytes(peak)}; {megabytes(scraped)} after a scrape",
            "VmHWM",
        )
    finally:
        for job in jobs:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        daemon.terminate()
        daemon.communicate()


def ask(path: Path, message: dict[str, Any]) -> None:
    connection = MonitorConnection(path, connect(path, 5.0), {})
    try:
        connection.request(message, 30.0)
    finally:
        connection.close()


def _followed(url: str) -> int:
    lines = [line for line in command.get(url).splitlines() if line.startswith("carbonmon_run_processes{")]
    return round(sum(float(line.split()[-1]) for line in lines))


def cpu_s(pid: int) -> float:
    """CPU time of a process to the nanosecond; the clock's id is what clock_getcpuclockid(3) computes."""
    return time.clock_gettime((~pid << 3) | 2)


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
