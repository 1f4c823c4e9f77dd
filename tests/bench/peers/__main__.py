"""`make bench-peers`: carbonmon beside other programs, in turn on one simulated machine: a table on stdout.

Each peer is installed at a pinned release in an environment of its own below build/ and used as its
documentation begins. 8 GPUs on square waves, a package on a sine with memory; a reading each second.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import node, table
from tests.bench.peers.programs import PROGRAMS, Program
from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square, can_build, can_wrap

LONG_S, KILLED_S = 60, 20
FROM_S, TO_S = 15.0, 55.0
"""Of the long job: when every program has started, and before the first one ends."""

PERIODS_S = (0.75, 0.8, 1.0, 1.2, 1.25, 1.5, 1.875, 2.0)
"""Of the GPUs' square waves: the job lasts for whole periods of each, so its energy is mean power × time."""

MEAN_W = len(PERIODS_S) * (60.0 + 350.0) / 2 + 120.0 + 15.0
HEAD = (
    "| program | how it runs | empty job: wall, CPU | peak memory | CPU-s a minute | energy | "
    "left after `kill -9` |\n"
    "|---|---|---|---|---|---|---|"
)


class Use(NamedTuple):
    """What one process and its children used."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def machine() -> Simulator:
    """One package: with the CPUs of two, a machine of two CPUs is taken for a container on a larger one."""
    gpus = [Gpu(profile=Square(60, 350, period_s)) for period_s in PERIODS_S]
    package = Package(Sine(120, 40, period_s=5), dram=Constant(15))
    return Simulator(gpus=gpus, packages=[package], powercap_tick_s=0.02)


def start(
    sim: Simulator, program: Program, seconds: float, folder: Path, tools: Path
) -> subprocess.Popen[bytes]:
    environ = node.environ(sim.environ)
    environ["PATH"] = f"{tools}:{environ['PATH']}"
    command = node.inside(sim, program.start(program.binaries, f"{seconds:g}", folder))
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def used(process: subprocess.Popen[bytes], begin_s: float) -> Use:
    """Wait for it. Raises RuntimeError if it failed."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return Use(time.perf_counter() - begin_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def run(sim: Simulator, program: Program, seconds: float, tools: Path) -> Use:
    with tempfile.TemporaryDirectory(prefix="carbonmon-peers-") as folder:
        begin_s = time.perf_counter()
        return used(start(sim, program, seconds, Path(folder), tools), begin_s)


def run_long(sim: Simulator, program: Program, tools: Path) -> tuple[Use, float, float | None]:
    """What a long job used in all, in CPU seconds a minute while it went on, and its joules."""
    with tempfile.TemporaryDirectory(prefix="carbonmon-peers-") as folder:
        begin_s = time.perf_counter()
        process = start(sim, program, LONG_S, Path(folder), tools)
        time.sleep(FROM_S)
        first_s, before_s = time.perf_counter(), tree_cpu_s(process.pid)
        time.sleep(max(0.0, begin_s + TO_S - first_s))
        spent_s, elapsed_s = tree_cpu_s(process.pid) - before_s, time.perf_counter() - first_s
        use = used(process, begin_s)
        return use, spent_s / elapsed_s * 60.0, program.joules(Path(folder))


def tree_cpu_s(pid: int) -> float:
    """CPU time of a process and its descendants, with those that have ended and were waited for.

    The clock id of another process is what clock_getcpuclockid(3) computes: ~pid << 3 | CPUCLOCK_SCHED.
    """
    children: dict[int, list[int]] = {}
    ended_s: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            number = int(stat.parent.name)
            children.setdefault(int(fields[1]), []).append(number)
            ended_s[number] = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    spent_s, waiting = 0.0, [pid]
    while waiting:
        number = waiting.pop()
        waiting += children.get(number, ())
        with contextlib.suppress(OSError):  # as above
            spent_s += time.clock_gettime((~number << 3) | 2) + ended_s.get(number, 0.0)
    return spent_s


def killed(sim: Simulator, program: Program, tools: Path) -> str:
    """What its files say after `kill -9` in the middle of a job, against what was drawn until then."""
    with tempfile.TemporaryDirectory(prefix="carbonmon-peers-") as folder:
        begin_s = time.perf_counter()
        process = start(sim, program, LONG_S, Path(folder), tools)
        time.sleep(KILLED_S)
        process.kill()
        truth_j = MEAN_W * (time.perf_counter() - begin_s)
        process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the job, where it goes on
        found_j = program.joules(Path(folder))
        return "nothing" if found_j is None else f"{found_j / truth_j:.0%} of its energy"


def measured(sim: Simulator, programs: Sequence[Program], rounds: int, tools: Path) -> list[str]:
    empty: dict[str, list[Use]] = {program.name: [] for program in programs}
    for program in programs:
        run(sim, program, 0, tools)  # whatever is not compiled yet is compiled now
    for number in range(rounds):
        for program in programs if number % 2 else reversed(programs):
            empty[program.name].append(run(sim, program, 0, tools))
    lines = []
    for program in programs:
        sys.stderr.write(f"{program.name} …\n")
        wall_s, cpu_s, _ = (statistics.median(figures) for figures in zip(*empty[program.name], strict=True))
        use, cpu_s_a_minute, joules = run_long(sim, program, tools)
        error = "none" if joules is None else f"{joules / (MEAN_W * LONG_S) - 1.0:+.2%}"
        cells = (
            program.requirement or "carbonmon",
            program.shape,
            f"{wall_s:.2f} s, {cpu_s:.2f} s",
            f"{use.peak_mib:.1f} MiB",
            f"{cpu_s_a_minute:.3f}",
            error,
            killed(sim, program, tools),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="of the empty job")
    names = [program.name for program in PROGRAMS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    options = parser.parse_args(arguments)
    programs = [program for program in PROGRAMS if program.name in (options.only or names)]
    if not (can_build() and can_wrap()):
        parser.error("the simulated machine needs gcc and mount namespaces (root, or user namespaces)")
    for program in programs:
        sys.stderr.write(f"{program.name}: installing {program.requirement or 'nothing'} …\n")
        program.install()
    with machine() as sim, tempfile.TemporaryDirectory(prefix="carbonmon-peers-") as tools:
        smi = Path(tools, "nvidia-smi")  # some look for it before they ask NVML
        smi.write_text("#!/bin/sh\n")
        smi.chmod(0o755)
        lines = measured(sim, programs, options.rounds, Path(tools))
    sys.stdout.write(
        f"{table.heading([], 'tests.bench.peers')}\n\n{HEAD}\n" + "".join(f"{line}\n" for line in lines)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
