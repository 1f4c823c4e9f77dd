"""Group 5: what the meter costs here: its start, a tick, CPU time and memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from tests.gpucheck import resume, tick
from tests.gpucheck.figures import Book
from tests.gpucheck.plan import Plan
from tests.gpucheck.subject import Subject, carbonmon, python_environ

START_SOURCE = "docs/use/measurements.md: 0.30 s, and what NVML itself needs to initialise"


def measure(subject: Subject, book: Book, plan: Plan) -> None:
    book.group = "what the meter costs"
    _start(subject, book, plan)
    bare_cpu_s = tick.measure(subject, book, plan)
    resume.measure(subject, book, plan, bare_cpu_s)


def _start(subject: Subject, book: Book, plan: Plan) -> None:
    """`carbonmon run -- true` against an interpreter that does nothing, and NVML's own initialisation."""
    options = ("--own-monitor", "--sensor", "nvml", "--gpus", subject.uuid, "--quiet", "--output", "runs")
    commands = {
        "ours": carbonmon("run", *options, "--", "true"),
        "nothing": [sys.executable, "-c", "pass"],
        "nvml": [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory(prefix="carbonmon-gpu-check-") as folder:
        # Compiled modules are kept, as in every installation, but not in the checkout.
        environ = {**python_environ(subject.environ), "PYTHONPYCACHEPREFIX": folder}
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(-1, plan.starts):  # the first compiles what is not compiled yet
            for name, command in commands.items():
                begin_s = time.perf_counter()
                done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False)
                if done.returncode:
                    book.missing("start to finish", f"{name}: {done.stderr.decode()[-200:]}")
                    return
                if number >= 0:
                    times[name].append(time.perf_counter() - begin_s)
    nothing_s, nvml_s, ours_s = (statistics.median(times[name]) for name in ("nothing", "nvml", "ours"))
    nvml_s -= nothing_s
    book.note("NVML's own: import of the binding and nvmlInit", nvml_s, "s", f"median of {plan.starts}")
    book.between(
        "start to finish of `carbonmon run -- true`, beyond Python alone",
        ours_s - nothing_s,
        None,
        0.30 + nvml_s,
        "s",
        START_SOURCE,
        f"median of {plan.starts}; Python alone takes {nothing_s:.3f} s",
    )
