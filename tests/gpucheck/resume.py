"""Group 5: `kill -9` of a monitor under load, and what the counter gives back when the run is resumed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.gpucheck import usage
from tests.gpucheck.energy import REFRESH_S, Bare
from tests.gpucheck.figures import Book, percent_off
from tests.gpucheck.plan import Plan
from tests.gpucheck.run import unix_s
from tests.gpucheck.subject import Subject, carbonmon, python_environ
from tests.support import checkpoints

PATIENCE_S = 30.0
RUN_ID = "gpu-check"
NAME = "kill -9 and resume"
SOURCE = "own promise: hardware counters give the gap back exactly (docs/use/reliability.md)"
BACK_SOURCE = "own promise: all since the last checkpoint, which is 1 s old at most, to the first reading"


def measure(subject: Subject, book: Book, plan: Plan, bare_cpu_s: float | None) -> None:
    """`bare_cpu_s` is the CPU time of one round of bare reads, for the monitor's own CPU time."""
    if subject.load is not None:
        subject.load.steady()
    try:
        _killed_and_resumed(subject, book, plan, bare_cpu_s)
    finally:
        if subject.load is not None:
            subject.load.idle()


class Monitored:
    """`carbonmon run` of a job that ends with its stdin, which is ours: it outlives its monitor."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject = subject
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._options: tuple[str, ...] = (
            "--own-monitor",
            "--sensor",
            "nvml",
            "--gpus",
            subject.uuid,
            "--idle",
            "exclusive",
        )
        self._options += ("--checkpoint", "1", "--output", "runs")
        # The job says its pid, then waits for the end of its stdin.
        job = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
        self.process = self._popen("--run-id", RUN_ID, "--", sys.executable, "-c", job)
        assert self.process.stdout is not None
        self.job_pid = int(self.process.stdout.readline() or 0)

    def _popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            carbonmon("run", *self._options, *arguments),
            cwd=self._folder,
            env=python_environ(self._subject.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._processes.append(process)
        return process

    @property
    def run_folder(self) -> Path:
        return self._folder / "runs" / RUN_ID

    def kill(self) -> None:
        """SIGKILL for the monitor alone, once there is a checkpoint."""
        _wait(lambda: checkpoints.written_ns(self.run_folder) > 0 or self.process.poll() is not None)
        self.process.kill()
        self.process.wait()

    def resume(self) -> subprocess.Popen[bytes]:
        """A second monitor for the same job, once it has written a checkpoint."""
        before_ns = self._checkpoint_ns()
        second = self._popen("--resume", RUN_ID, "--attach", str(self.job_pid))
        _wait(lambda: self._checkpoint_ns() != before_ns or second.poll() is not None)
        return second

    def _checkpoint_ns(self) -> int:
        return checkpoints.written_ns(self.run_folder)

    def end_job(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def close(self) -> None:
        """End what is left of it, however far it came."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None and not pipe.closed:
                    pipe.close()


def _killed_and_resumed(subject: Subject, book: Book, plan: Plan, bare_cpu_s: float | None) -> None:
    clock = subject.clock
    with tempfile.TemporaryDirectory(prefix="carbonmon-gpu-check-") as folder, ExitStack() as stack:
        bare = Bare()
        bare.read(subject)
        run = Monitored(subject, Path(folder))
        stack.callback(run.close)
        if not run.job_pid:
            book.missing(NAME, "carbonmon run did not start")
            return
        _watch(subject, bare, plan.cost_s / 4.0)
        cpu_s, begin_s = usage.cpu_clock_s(run.process.pid), clock.now_s()
        _watch(subject, bare, plan.cost_s)
        usage.measure(subject, book, run.process.pid, cpu_s, clock.now_s() - begin_s, bare_cpu_s)
        run.kill()
        killed_s = clock.wall_s()
        _watch(subject, bare, plan.gap_s)
        second = run.resume()
        resumed_s = clock.wall_s()
        _watch(subject, bare, min(2.0, plan.gap_s))
        run.end_job()
        _watch(subject, bare, 0.2)
        _wait(lambda: second.poll() is not None)
        bare.read(subject)
        path = run.run_folder / "summary.json"
        summary = json.loads(path.read_text()) if path.exists() else None
    if summary is None or second.returncode:
        book.missing(NAME, f"the second monitor ended with {second.returncode}")
        return
    _recovered(subject, book, summary, bare, killed_s, resumed_s)


def _recovered(
    subject: Subject, book: Book, summary: dict[str, Any], bare: Bare, killed_s: float, resumed_s: float
) -> None:
    start_s, end_s = (unix_s(summary["run"][key]) for key in ("started_at", "ended_at"))
    bound = 100.0 * 2 * REFRESH_S / (end_s - start_s) + 1.0
    (device,) = summary["energy"]["devices"]
    reference_j = bare.between(start_s, end_s)["counter"]
    off = percent_off(device["energy_j"], reference_j)
    how = (
        f"{device['energy_j']:.0f} J in {end_s - start_s:.1f} s, {resumed_s - killed_s:.1f} s of it unwatched"
    )
    name = f"{NAME}: the run against the bare loop's counter"
    book.between(name, off, -bound, bound, "%", SOURCE, how, "the counter does not answer")
    gap_j = bare.between(killed_s, resumed_s)["counter"]
    recovered_j = summary["energy"]["recovered_j"]
    if gap_j is None:
        book.note(f"{NAME}: given back by the counter", recovered_j, "J")
    else:
        power_w = gap_j / (resumed_s - killed_s)
        book.between(
            f"{NAME}: given back by the counter",
            recovered_j,
            max(0.1 * gap_j, gap_j - power_w * (1.0 + REFRESH_S)),
            gap_j + power_w * 3.0,
            "J",
            BACK_SOURCE,
            f"while nobody watched the bare loop saw {gap_j:.0f} J",
        )
    gap_s = device.get("unobserved_s")
    book.between(f"{NAME}: seconds lost", gap_s, 0.0, 0.0, "s", SOURCE)


def _watch(subject: Subject, bare: Bare, seconds: float) -> None:
    """The bare loop for so long, ten times a second."""
    end_s = subject.clock.now_s() + seconds
    while subject.clock.now_s() < end_s:
        bare.read(subject)
        subject.clock.sleep(min(0.1, end_s - subject.clock.now_s()))


def _wait(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.02)
