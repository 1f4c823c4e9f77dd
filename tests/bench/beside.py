"""Another build beside this one: both at once on one simulated machine, whose speed is then one for both.

The other build is the carbonmon of a Python interpreter's environment: another release, another commit.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.bench import daemon, node
from tests.simulator import Simulator
from tests.support import command

HEAD = "| what | {other} | this build | ratio | how |\n|---|---|---|---|---|"
SETTLE_S = 8.0
SCRAPE_PERIOD_S = 15.0


class Figure(NamedTuple):
    """A row: what the other build has, and what this one has."""

    what: str
    other: float
    this: float
    unit: str
    digits: int
    how: str


def line(figure: Figure) -> str:
    what, other, this, unit, digits, how = figure
    return (
        f"| {what} | {other:.{digits}f} {unit} | {this:.{digits}f} {unit} | "
        f"{this / other if other else float('nan'):.2f} | {how} |"
    )


def version(interpreter: str) -> str:
    """What a build calls itself. Raises RuntimeError where the interpreter has none."""
    done = subprocess.run(
        [interpreter, "-m", "carbonmon", "--version"], capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode:
        raise RuntimeError(f"{interpreter} has no carbonmon: {done.stderr.strip()}")
    return done.stdout.strip().replace("carbonmon, version ", "carbonmon ")


def figures(interpreter: str, quick: bool) -> Iterator[Figure]:
    builds = (interpreter, sys.executable)
    with node.machine() as sim:
        yield from _start(sim, builds, 5 if quick else 21)
        yield from _cpu(sim, builds, 20.0 if quick else 120.0, is_scraped=False)
        yield from _cpu(sim, builds, 30.0 if quick else 120.0, is_scraped=True)
        yield from _scrapes(sim, builds, 20 if quick else 100)
    with node.machine() as sim:
        yield from _daemons(sim, builds, 20.0 if quick else 60.0)


def _start(sim: Simulator, builds: Sequence[str], rounds: int) -> Iterator[Figure]:
    """`carbonmon run -- true`, one after the other."""
    found: dict[str, list[tuple[float, float]]] = {build: [] for build in builds}
    for number in range(-1, rounds):  # whatever is not compiled yet is compiled first
        for build in builds if number % 2 else reversed(builds):
            with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder:
                arguments = [build, "-m", "carbonmon", "run", "--quiet", "--sysfs", node.sysfs(sim)]
                process = subprocess.Popen(
                    node.inside(sim, [*arguments, "--", "true"]), cwd=folder, env=node.environ(sim.environ)
                )
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                peak_bytes = command.summary(Path(folder))["monitor"]["own_peak_rss_bytes"]
                if number >= 0:
                    found[build].append((usage.ru_utime + usage.ru_stime, peak_bytes / 1e6))
    other, this = ([statistics.median(kind) for kind in zip(*found[build], strict=True)] for build in builds)
    how = f"medians of {rounds} in turn, the process and its children"
    yield Figure("`carbonmon run -- true`: CPU time", other[0], this[0], "s", 3, how)
    yield Figure("the same: peak memory", other[1], this[1], "MB", 1, "of its summary")


def _cpu(sim: Simulator, builds: Sequence[str], seconds: float, is_scraped: bool) -> Iterator[Figure]:
    with _monitors(sim, builds) as monitored:
        begin_s = time.monotonic()
        before = [(each.cpu_s(), _wakeups(each)) for each in monitored]
        for number in range(int(seconds / SCRAPE_PERIOD_S) if is_scraped else 0):
            time.sleep(max(0.0, begin_s + (number + 0.5) * SCRAPE_PERIOD_S - time.monotonic()))
            for each in monitored:
                each.scrape()
        time.sleep(max(0.0, begin_s + seconds - time.monotonic()))
        after = [(each.cpu_s(), _wakeups(each)) for each in monitored]
        elapsed_s = time.monotonic() - begin_s
        peak_mb = [each.peak_bytes() / 1e6 for each in monitored]
    spent = [now[0] - then[0] for then, now in zip(before, after, strict=True)]
    woken = [now[1] - then[1] for then, now in zip(before, after, strict=True)]
    how = f"both at once for {elapsed_s:.0f} s, 8 GPUs, 2 packages with dram, a reading a second, shares on"
    scraped = f", a scrape every {SCRAPE_PERIOD_S:.0f} s" if is_scraped else ""
    minute = 60.0 / elapsed_s
    what = f"own CPU{scraped}"
    yield Figure(what, spent[0] * minute, spent[1] * minute, "CPU-s a minute", 4, how)
    if is_scraped:
        yield Figure("peak memory, scraped", *peak_mb, "MB", 1, how)
    else:
        yield Figure("wake-ups", woken[0] / elapsed_s, woken[1] / elapsed_s, "a second", 2, how)


def _scrapes(sim: Simulator, builds: Sequence[str], rounds: int) -> Iterator[Figure]:
    """As Prometheus asks: it keeps its connection where the monitor does."""
    kinds = {
        "as Prometheus asks (OpenMetrics)": (node.AS_PROMETHEUS_ASKS, True),
        "in the text format": ({**node.AS_PROMETHEUS_ASKS, "Accept": "text/plain;version=0.0.4"}, True),
        "as Prometheus asks, but each on a new connection": (node.AS_PROMETHEUS_ASKS, False),
    }
    with _monitors(sim, builds) as monitored:
        for kind, (headers, is_kept) in kinds.items():
            scrapers = [Scraper(each.url, headers, is_kept) for each in monitored]
            other, this = spent_ms(scrapers, [each.cpu_s for each in monitored], rounds)
            how = f"the monitor's CPU time, gzip; median of {rounds} × 3 in turn"
            yield Figure(f"one scrape {kind}, 8 GPUs, one run", other, this, "ms", 2, how)


class Scraper:
    """Asks as Prometheus does, with its headers, on one connection where the other side keeps it open."""

    def __init__(self, url: str, headers: Mapping[str, str], is_kept: bool = True) -> None:
        place = urlsplit(url)
        self._path, self._is_kept = place.path, is_kept
        self._headers = {**headers, "X-Prometheus-Scrape-Timeout-Seconds": "10"}
        self._connection = HTTPConnection(place.netloc, timeout=node.PATIENCE_S)

    def scrape(self) -> None:
        self._connection.request("GET", self._path, headers=self._headers)
        self._connection.getresponse().read()
        if not self._is_kept:
            self._connection.close()


def spent_ms(scrapers: Sequence[Scraper], clocks: Sequence[Callable[[], float]], rounds: int) -> list[float]:
    """CPU time of each monitor for a scrape (ms), by their clocks (s): medians, in turn."""
    times: list[list[float]] = [[] for _ in scrapers]
    for _ in range(rounds):
        for scraper, clock, found in zip(scrapers, clocks, times, strict=True):
            scraper.scrape()
            before_s = clock()
            for _ in range(3):
                scraper.scrape()
            found.append((clock() - before_s) / 3 * 1e3)
    return [statistics.median(found) for found in times]


def _daemons(sim: Simulator, builds: Sequence[str], seconds: float) -> Iterator[Figure]:
    """Two daemons that follow the same runs."""
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as folder, ExitStack() as stack:
        daemons, scrapers, clocks = [], [], []
        for number, build in enumerate(builds):
            place = Path(folder, str(number))
            place.mkdir()
            socket = place / "daemon.sock"
            options = ["--sysfs", node.sysfs(sim), "--socket", str(socket), "--output", str(place / "runs")]
            process = subprocess.Popen(
                node.inside(sim, [build, "-m", "carbonmon", "daemon", *options]),
                cwd=place,
                env=node.environ(sim.environ),
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.communicate)
            stack.callback(process.terminate)
            daemons.append((process, socket))
            scrapers.append(Scraper(command.metrics_address(process), node.AS_PROMETHEUS_ASKS))
            clocks.append(partial(daemon.cpu_s, process.pid))
        code = daemon.JOB.format(processes=daemon.PROCESSES_A_RUN)
        for number in range(daemon.RUNS):
            job = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
            stack.callback(job.wait)
            stack.callback(os.killpg, job.pid, signal.SIGKILL)
            for _, socket in daemons:
                daemon.ask(socket, {"op": "register", "run_id": f"run-{number}", "pid": job.pid})
        time.sleep(daemon.SETTLE_S)
        begin_s, before = time.monotonic(), [daemon.cpu_s(process.pid) for process, _ in daemons]
        time.sleep(seconds)
        elapsed_s = time.monotonic() - begin_s
        other, this = (
            (daemon.cpu_s(process.pid) - then_s) / elapsed_s * 100.0
            for (process, _), then_s in zip(daemons, before, strict=True)
        )
        what = f"daemon, {daemon.RUNS} runs of {daemon.PROCESSES_A_RUN} processes"
        how = f"two daemons follow the same runs for {elapsed_s:.0f} s, not scraped"
        yield Figure(f"{what}: CPU", other, this, "% of a core", 2, how)
        other, this = (daemon.peak_bytes(process.pid) / 1e6 for process, _ in daemons)
        yield Figure(f"{what}: peak memory", other, this, "MB", 1, how)
        rounds = max(5, int(seconds / 3))
        other, this = spent_ms(scrapers, clocks, rounds)
        how = f"the daemon's CPU time, gzip, its ticks of the time included; median of {rounds} × 3 in turn"
        yield Figure(f"{what}: one scrape as Prometheus asks", other, this, "ms", 1, how)


@contextmanager
def _monitors(sim: Simulator, builds: Sequence[str]) -> Iterator[list[node.Monitored]]:
    """A `carbonmon run` of each build at once."""
    with ExitStack() as stack:
        monitored = [
            stack.enter_context(node.Monitored(sim, idle="proportional", interpreter=build))
            for build in builds
        ]
        time.sleep(SETTLE_S)
        for each in monitored:
            each.scrape()  # the first one loads what only a scrape needs
        yield monitored


def _wakeups(monitored: node.Monitored) -> int:
    return sum(switches for _, switches in monitored.threads().values())
