"""CPU time and wake-ups of a monitor that does nothing but its work, start and end excluded."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench import node
from tests.bench.table import Row
from tests.simulator import Simulator

TARGET = "≤ 0.03 CPU-s a minute"
SETTLE_S = 3.0
SCRAPE_PERIOD_S = 15.0


def rows(quick: bool) -> Iterator[Row]:
    seconds = 15.0 if quick else 60.0
    with node.machine() as sim:
        yield _row(sim, seconds, scraped=False)
        yield _row(sim, seconds, scraped=True)
        yield _row(sim, seconds, scraped=False, idle="proportional")


def _row(sim: Simulator, seconds: float, scraped: bool, idle: str = "exclusive") -> Row:
    with node.Monitored(sim, idle=idle) as monitored:
        time.sleep(SETTLE_S)
        if scraped:
            monitored.scrape()  # the first one imports what only a scrape needs
        before_s, before, begin_s = monitored.cpu_s(), monitored.threads(), time.monotonic()
        scrapes = _wait(monitored, begin_s, seconds, scraped)
        spent_s, after = monitored.cpu_s() - before_s, monitored.threads()
        elapsed_s = time.monotonic() - begin_s
        monitored.end()
    switches = sum(after[name][1] - before[name][1] for name in after.keys() & before.keys())
    shares = sorted((after[name][0] - before[name][0] for name in after.keys() & before.keys()), reverse=True)
    by_thread = " and ".join(f"{share_s / elapsed_s * 60.0:.4f}" for share_s in shares[:2])
    each = f"; {scrapes} scrapes" if scraped else ""
    return Row(
        "own CPU at a 1 s interval, 8 GPUs and 2 packages with dram, "
        + (f"a scrape every {SCRAPE_PERIOD_S:.0f} s" if scraped else "not scraped")
        + (", shared by CPU time and processes on GPUs (the default)" if idle == "proportional" else ""),
        TARGET,
        f"{spent_s / elapsed_s * 60.0:.4f} CPU-s a minute",
        f"the process's CPU clock, all threads, over {elapsed_s:.0f} s from second {SETTLE_S:.0f} on{each}; "
        f"its two busiest threads, sampling and checkpoints, {by_thread}; "
        f"{switches / elapsed_s:.2f} wake-ups a second",
    )


def _wait(monitored: node.Monitored, begin_s: float, seconds: float, scraped: bool) -> int:
    """Let it work for so long; returns how often it was scraped meanwhile."""
    at_s, scrapes = SCRAPE_PERIOD_S / 2, 0
    while scraped and at_s < seconds:
        time.sleep(max(0.0, begin_s + at_s - time.monotonic()))
        monitored.scrape()
        at_s, scrapes = at_s + SCRAPE_PERIOD_S, scrapes + 1
    time.sleep(max(0.0, begin_s + seconds - time.monotonic()))
    return scrapes
