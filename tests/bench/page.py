"""What the live page costs: its first paint, one viewer, and fifty beside a scraper."""

from __future__ import annotations

import heapq
import http.client
import re
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import node
from tests.bench.table import Row, megabytes, spread
from tests.support import browser, command, page_states

PERIOD_S = 2.0
"""How often the page asks (page.js)."""

CROWD = 50
INTERVAL_S = 0.2
SETTLE_S = 3.0
DEVICES = (6, 2, 2)
_SAMPLED = re.compile(rb"^carbonmon_last_sample_timestamp_seconds (\S+)$", re.MULTILINE)


def rows(quick: bool) -> Iterator[Row]:
    if browser.program() is not None:
        yield from _paint(3 if quick else 9)
    yield _one(20.0 if quick else 120.0)
    yield from _crowd(6.0 if quick else 30.0)


def _paint(rounds: int) -> Iterator[Row]:
    """A page with ten devices and a day of series, each time in a process of the browser that is warm."""
    shown = page_states.hours_in(*DEVICES)
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as place:
        folder = page_states.day_of(Path(place) / "slurm-4242", page_states.series_devices(shown), shown.at_s)
        paints_ms, plots_ms, page_bytes, data_bytes = [], [], 0, 0
        with browser.Browser(Path(place) / "browser") as running:
            for _ in range(rounds + 1):
                with page_states.served(shown, {"slurm-4242": folder}) as monitor:
                    tab = running.open(monitor.url)
                    tab.wait_for("document.querySelector('#time')?.max > 100")
                    paints_ms.append(tab.evaluate("performance.getEntriesByType('paint')[0].startTime"))
                    of_series = (
                        "performance.getEntriesByType('resource').find((e) => e.name.endsWith('series'))"
                    )
                    plots_ms.append(tab.evaluate(f"{of_series}.responseEnd"))
                    entries = (
                        "['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
                    )
                    sizes = tab.evaluate(f"{entries}.map((e) => [new URL(e.name).pathname, e.transferSize])")
                    page_bytes = sum(size for path, size in sizes if not path.startswith("/api/"))
                    data_bytes = sum(size for path, size in sizes if path.startswith("/api/"))
                    tab.close()
    yield Row(
        "first paint of the page in Chromium, 10 devices and a day of series",
        "≤ 300 ms",
        spread(paints_ms[1:], "ms", 1.0, 0),
        f"first-paint of the browser's performance API, median (quartiles) of {rounds} openings, each of "
        "a new monitor; server and browser share the CPUs",
    )
    yield Row(
        "the past in the plot, the same openings",
        "",
        spread(plots_ms[1:], "ms", 1.0, 0),
        "end of the answer of /api/v1/runs/ID/series, which reads the file of a day",
    )
    yield Row(
        "bytes of the page, and of its first data",
        "≤ 60 kB beside data",
        f"{page_bytes / 1e3:.1f} kB, and {data_bytes / 1e3:.1f} kB",
        "transferSize of all its requests, with their heads",
    )


def _one(duration_s: float) -> Row:
    """CPU time of the monitor around each request of a viewer, less what it uses in such a time anyway."""
    with node.machine() as sim, node.Monitored(sim) as monitor:
        address = urlsplit(monitor.url).netloc
        viewer = http.client.HTTPConnection(address, timeout=node.PATIENCE_S)  # a browser keeps it, too
        viewer.request("GET", "/api/v1/now")  # what is loaded once is loaded
        viewer.getresponse().read()
        time.sleep(SETTLE_S)
        begin_s, before_s = time.monotonic(), monitor.cpu_s()
        time.sleep(duration_s)
        own_ratio = (monitor.cpu_s() - before_s) / (time.monotonic() - begin_s)
        costs_s = []
        for _ in range(int(duration_s / PERIOD_S)):
            time.sleep(PERIOD_S)
            begin_s, before_s = time.monotonic(), monitor.cpu_s()
            viewer.request("GET", "/api/v1/now")
            viewer.getresponse().read()
            costs_s.append(monitor.cpu_s() - before_s - own_ratio * (time.monotonic() - begin_s))
    minute = 60.0 / PERIOD_S
    return Row(
        "the monitor's CPU time for one viewer, a minute; 8 GPUs, 2 packages and memory",
        "≤ 0.03 CPU-s",
        f"{statistics.fmean(costs_s) * minute:.3f} CPU-s; a request {spread(costs_s, 'ms', 1e3, 2)}",
        f"{minute:.0f} requests, by {len(costs_s)} of a viewer in {duration_s:.0f} s: CPU time of the "
        f"process around each, less its own, which is {own_ratio * 60.0:.2f} CPU-s a minute",
    )


def _crowd(duration_s: float) -> Iterator[Row]:
    """Ticks, memory and scrapes with fifty viewers, who open the page and look on."""
    options = ["--interval", str(INTERVAL_S), "--checkpoint", str(INTERVAL_S)]
    with node.machine() as sim, node.Monitored(sim, options=options) as monitor:
        time.sleep(SETTLE_S)
        late_alone, _, failed = _watched(monitor, duration_s)
        peak_before, before_s = monitor.peak_bytes(), monitor.cpu_s()
        with Viewers(monitor.url, CROWD) as viewers:
            late, scrapes_s, failed = _watched(monitor, duration_s)
            spent_s = monitor.cpu_s() - before_s
            answered, refused = viewers.told()
        peak = monitor.peak_bytes()
    yield Row(
        f"the sampler's grid with {CROWD} viewers",
        "within 5 ms",
        f"{_spread_ms(late)}; with nobody {_spread_ms(late_alone)}",
        f"start of a tick against its place on the grid of {INTERVAL_S} s; {len(late)} ticks",
    )
    yield Row(
        "the monitor's peak memory meanwhile",
        "+ ≤ 8 MB",
        f"+ {megabytes(peak - peak_before)}",
        f"VmHWM of /proc/PID/status; {megabytes(peak_before)} before",
    )
    yield Row(
        "scrapes meanwhile, each 0.1 s",
        "all served",
        f"{spread(scrapes_s, 'ms', 1e3, 1)}, {failed} failed; of the viewers' requests {answered} answered, "
        f"{refused} not; {spent_s * 60.0 / duration_s:.2f} CPU-s a minute with the scrapes",
        f"over {duration_s:.0f} s, all from one address, with a snapshot each {INTERVAL_S} s in place of 5 s",
    )


def _watched(monitor: node.Monitored, duration_s: float) -> tuple[list[float], list[float], int]:
    """How late each tick was, how long each scrape took, and how many failed."""
    sampled: dict[float, None] = {}
    times_s, failed = [], 0
    end_s = time.monotonic() + duration_s
    address = urlsplit(monitor.url).netloc
    scraper = http.client.HTTPConnection(address, timeout=node.PATIENCE_S)
    while time.monotonic() < end_s:
        begin_s = time.perf_counter()
        try:
            scraper.request("GET", "/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": "10"})
            body = scraper.getresponse().read()
        except OSError:
            failed += 1
            scraper.close()
            continue
        times_s.append(time.perf_counter() - begin_s)
        if found := _SAMPLED.search(body):
            sampled[float(found[1])] = None
        time.sleep(0.1)
    scraper.close()
    first_s, half_s = next(iter(sampled)), INTERVAL_S / 2
    off_s = [(at_s - first_s + half_s) % INTERVAL_S - half_s for at_s in sampled]
    return [one_s - min(off_s) for one_s in off_s], times_s, failed


def _spread_ms(late_s: list[float]) -> str:
    high_s = statistics.quantiles(late_s, n=100, method="inclusive")[98]
    return (
        f"median {statistics.median(late_s) * 1e3:.2f} ms late, 99 % {high_s * 1e3:.2f}, "
        f"at most {max(late_s) * 1e3:.2f}"
    )


class Viewers:
    """So many pages that are open, in a process of their own."""

    def __init__(self, url: str, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.page", urlsplit(url).netloc, str(count)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=command.environ(),
        )
        self._said = ""

    def __enter__(self) -> Viewers:
        return self

    def told(self) -> tuple[int, int]:
        """How many requests were answered, and how many not; ends them."""
        if not self._said:
            self._said = self._process.communicate()[0]
        answered, refused = map(int, self._said.split())
        return answered, refused

    def __exit__(self, *_: object) -> None:
        self.told()


def main(address: str, count: int) -> None:
    """In the child: open so many pages, and ask for each what the page asks, until stdin is closed."""
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    answered = refused = 0
    begin_s = time.monotonic()
    due = [(begin_s + number * PERIOD_S / count, number) for number in range(count)]
    opened: set[int] = set()
    while True:
        at_s, number = due[0]
        if waiting.select(max(0.0, at_s - time.monotonic())):
            break
        paths = ["/api/v1/now"]
        if number not in opened:
            opened.add(number)
            run_id = _run_id(address)
            paths = ["/", "/page.css", "/page.js", "/api/v1/now", f"/api/v1/runs/{run_id}/series"]
        for path in paths:
            if _get(address, path) is None:
                refused += 1
            else:
                answered += 1
        heapq.heapreplace(due, (at_s + PERIOD_S, number))
    sys.stdout.write(f"{answered} {refused}\n")


def _run_id(address: str) -> str:
    found = re.search(rb'"run":\{"id":"([^"]+)"', _get(address, "/api/v1/now") or b"")
    return found[1].decode() if found else ""


def _get(address: str, path: str) -> bytes | None:
    connection = http.client.HTTPConnection(address, timeout=node.PATIENCE_S)
    with suppress(OSError):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return body if answer.status == 200 else None
    return None


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
