"""Whose joules, with real processes and simulated power: how near the shares come to the truth."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import node
from tests.bench.table import Row
from tests.e2e import test_ranks
from tests.e2e.test_attribution import SHORT_WORKERS, cpu_j, package_machine, spinning
from tests.support import command
from tests.support.daemon import daemon


def rows(quick: bool) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        yield _one_to_three(Path(folder), 500.0 if quick else 2000.0)
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        yield _idle_beside_busy(Path(folder), 300.0 if quick else 1000.0)
    yield _short_workers()
    yield _ranks()
    yield _import_cost()


def _one_to_three(folder: Path, joules: float) -> Row:
    with package_machine() as machine, daemon(machine, folder) as running:
        with spinning(1, cpu=0) as small, spinning(3, cpu=0) as large:
            running.register("small", "--pid", f"{small}")
            running.register("large", "--pid", f"{large}")
            running.draw(joules)
            drawn = {run_id: cpu_j(running.unregister(run_id)) for run_id in ("small", "large")}
    share = drawn["small"] / sum(drawn.values())
    return Row(
        "two CPU-bound jobs of 1:3 CPU time on one node",
        "25 % and 75 % within 2 points",
        f"{share:.1%} and {1 - share:.1%}",
        f"1 and 3 spinning processes on one CPU, some {joules / 100:.0f} s; a package of constant 100 W",
    )


def _idle_beside_busy(folder: Path, joules: float) -> Row:
    with package_machine() as machine, daemon(machine, folder) as running:
        with spinning(2) as busy, subprocess.Popen(["sleep", "600"]) as idle:
            running.register("busy", "--pid", f"{busy}")
            running.register("idle", "--pid", f"{idle.pid}")
            running.draw(joules)
            drawn = {run_id: cpu_j(running.unregister(run_id)) for run_id in ("busy", "idle")}
            idle.kill()
    return Row(
        "an idle process beside a busy node",
        "≤ 1 % of dynamic energy",
        f"{drawn['idle'] / sum(drawn.values()):.3%}",
        "`sleep` beside two spinning processes on two CPUs",
    )


def _short_workers() -> Row:
    with package_machine() as machine, tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        options = ["--sysfs", str(machine.sysfs), "--sensor", "rapl"]
        job = [sys.executable, "-c", SHORT_WORKERS]
        done = command.run(["run", *options, "--", *job], Path(folder))
        found_s = command.summary(Path(folder))["run"]["cpu_s"]
    return Row(
        "500 processes that live between two samples",
        "≥ 95 % of their CPU time",
        f"{found_s / float(done.stdout):.1%}",
        "workers of 30 ms CPU each, two at a time; against getrusage(2) of the job",
    )


def _ranks() -> Row:
    with test_ranks.machine() as machine, tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
        place = Path(folder)
        ranks = [
            test_ranks.start(
                [sys.executable, "-c", test_ranks.TRAIN],
                place,
                test_ranks.settings(machine, place, **test_ranks.torchrun(rank)),
            )
            for rank in range(test_ranks.RANKS)
        ]
        for process in ranks:
            assert process.stdout is not None
            process.stdout.readline()
        monitors = len(test_ranks.monitors(place))
        test_ranks.go(ranks)
        for process in ranks:
            process.communicate()
        summary = command.summary(place)
        test_ranks.gone(place)
        error = summary["energy"]["total_j"] / test_ranks.truth_j(machine, summary) - 1.0
    return Row(
        "four ranks that call track() on one node",
        "one monitor's energy within 0.5 %, one monitor",
        f"{error:+.2%}, {monitors} monitor",
        "real processes with torchrun's environment, against the truth of the whole node",
    )


def _import_cost() -> Row:
    code = (
        "import time\n"
        "def used_kb(): return int(open('/proc/self/status').read().partition('VmRSS:')[2].split()[0])\n"
        "before_kb, begin_s = used_kb(), time.perf_counter()\n"
        "{what}\n"
        "print([(time.perf_counter() - begin_s) * 1e3, (used_kb() - before_kb) * 1.024e-3])\n"
    )
    with package_machine() as machine:
        plain = [node.python(machine, ["-c", code.format(what="import carbonmon")]) for _ in range(15)]
        used = [
            node.python(machine, ["-c", code.format(what="import carbonmon; carbonmon.track")])
            for _ in range(15)
        ]
    middle = [sorted(values)[7] for values in zip(*plain, strict=True)]
    first = [sorted(values)[7] for values in zip(*used, strict=True)]
    return Row(
        "`import carbonmon` in the training process",
        "≤ 30 ms, ≤ 3 MB",
        f"{middle[0]:.1f} ms, {middle[1]:.1f} MB; with the first use of track {first[0]:.1f} ms, "
        f"{first[1]:.1f} MB",
        "medians of 15; growth of a bare interpreter's VmRSS; track needs json, socket, logging and pathlib",
    )
