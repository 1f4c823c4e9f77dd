"""CPU time and memory of a running monitor, by what the kernel says of it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.gpucheck.figures import Book
from tests.gpucheck.subject import Subject, python_environ

MEMORY_SOURCE = "docs/use/measurements.md: 5.3 MB over Python with the same libraries"
CPU_SOURCE = (
    "docs/use/measurements.md: 0.05 CPU-s a minute on a simulated machine, beside the reads themselves"
)

FLOOR = """
import json, re, sys, click, prometheus_client, psutil, pynvml
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByUUID(sys.argv[1])
for name in ("TotalEnergyConsumption", "PowerUsage", "UtilizationRates"):
    try:
        getattr(pynvml, "nvmlDeviceGet" + name)(handle)
    except pynvml.NVMLError:
        pass
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


def measure(
    subject: Subject, book: Book, pid: int, before_s: float | None, seconds: float, bare_cpu_s: float | None
) -> None:
    after_s = cpu_clock_s(pid)
    a_minute = None if before_s is None or after_s is None else (after_s - before_s) / seconds * 60.0
    reads = 60.0 * (bare_cpu_s or 0.0)
    book.between(
        "own CPU time at a sample a second",
        a_minute,
        None,
        0.15 + 2.0 * reads,
        "CPU-s a minute",
        CPU_SOURCE,
        f"over {seconds:.1f} s; the bare reads alone {reads:.3f} in a warm loop, more when cold",
        "the clock of another process cannot be read here",
    )
    peak, floor = _peak_bytes(pid), _floor_bytes(subject)
    book.note("peak memory", None if peak is None else peak / 1e6, "MB", "VmHWM", "/proc does not say it")
    over = None if peak is None or floor is None else (peak - floor) / 1e6
    book.between(
        "peak memory over Python with the same libraries and NVML",
        over,
        None,
        12.0,
        "MB",
        MEMORY_SOURCE,
        "" if floor is None else f"that takes {floor / 1e6:.1f} MB",
        "/proc does not say it",
    )


def cpu_clock_s(pid: int) -> float | None:
    """CPU time of all threads of a process, by its clock (clock_getcpuclockid(3)); None if that fails."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def _peak_bytes(pid: int) -> int | None:
    try:
        found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _floor_bytes(subject: Subject) -> int | None:
    done = subprocess.run(
        [sys.executable, "-c", FLOOR, subject.uuid],
        env=python_environ(subject.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    return int(done.stdout) * 1024 if done.returncode == 0 and done.stdout.strip().isdigit() else None
