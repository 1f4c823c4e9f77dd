"""What a report as one HTML file costs: its size, the time of the command, its first paint."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from carbonmon.runs.layout import SERIES_FILE
from tests.bench.table import Row, megabytes, spread
from tests.support import browser, command
from tests.support.kept_runs import kept_run

DEVICES = (8, 2, 2)
LIMITS = {24.0: "≤ 200 kB", 720.0: "≤ 5 s, ≤ 1 MB"}


def rows(quick: bool) -> Iterator[Row]:
    for hours, limit in LIMITS.items():
        yield _report(hours, limit, 3 if quick else 7)


def _report(hours: float, limit: str, rounds: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as place:
        folder = Path(place)
        kept_run(folder / "slurm-4242", hours, DEVICES)
        written = (folder / "slurm-4242" / SERIES_FILE).read_bytes()
        times_s, cpu_s, document = [], [], ""
        for _ in range(rounds):
            begin_s, before = time.monotonic(), os.times()
            done = command.run(["report", "slurm-4242", "--output", ".", "--format", "html"], folder)
            times_s.append(time.monotonic() - begin_s)
            after = os.times()
            own_s = after.children_user - before.children_user
            cpu_s.append(own_s + after.children_system - before.children_system)
            assert done.returncode == 0, done.stderr
            document = done.stdout
        paint = _paint(folder, document, rounds) if browser.program() is not None else "no Chromium"
    length = written.count(10)
    return Row(
        f"`carbonmon report --format html` of {hours / 24.0:.0f} day{'' if hours == 24.0 else 's'}, 8 GPUs, "
        "2 packages and memory",
        limit,
        f"{len(document) / 1e3:.0f} kB in {spread(times_s, 's', 1.0, 2)}; CPU {spread(cpu_s, 's', 1.0, 2)}",
        f"median (quartiles) of {rounds} commands, start to finish; a series of {length:,} rows in "
        f"{megabytes(len(written))}; first paint in Chromium {paint}",
    )


def _paint(folder: Path, document: str, rounds: int) -> str:
    path = folder / "report.html"
    path.write_text(document)
    paints_ms = []
    with browser.Browser(folder / "browser") as running:
        for _ in range(rounds + 1):
            tab = running.open(path.as_uri())
            tab.wait_for("performance.getEntriesByType('paint').length")
            paints_ms.append(tab.evaluate("performance.getEntriesByType('paint')[0].startTime"))
            tab.close()
    return spread(paints_ms[1:], "ms", 1.0, 0)
