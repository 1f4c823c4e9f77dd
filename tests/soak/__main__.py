"""`python -m tests.soak [--minutes 20] [--seed N]`: one Markdown table on stdout."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from tests.chaos.scraper import Scraper, parse, steps_back
from tests.chaos.table import HEAD, Check, Row, energy_check, heading, line
from tests.simulator import can_build
from tests.soak.node import Node, machine
from tests.soak.watch import Taken, taken, total
from tests.support import command

PAUSE_S = 1.0
"""The longest time between two things that happen."""

GROWTH_BYTES = 2 << 20
LAG_J = 600.0
"""A second of both GPUs: their counters are read once a second, and the first and last scrape may lag so."""

TARGET = f"the devices' energy within ±0.1% and {LAG_J:.0f} J"
DEVICES, UNATTRIBUTED = (
    "carbonmon_device_energy_joules_total",
    "carbonmon_device_unattributed_energy_joules_total",
)


def rows(minutes: float, seed: int) -> Iterator[Row]:
    chance = random.Random(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        machine() as simulated,
        closing(Node(simulated, Path(folder), chance)) as node,
    ):
        scraper = Scraper(node.daemon.address, seed, longest_pause_s=1.0)
        for _ in _until(30.0 * minutes, chance):
            node.happen(may_restart=True)
        node.quiet()
        idle = _taken(node)
        seen: list[Taken] = []
        for _ in _until(30.0 * minutes, chance):
            node.happen(may_restart=False)
            seen.append(_taken(node))
        node.quiet()
        scraper.stop()
        yield _account(node, scraper)
        yield _resources(node, idle, seen)
        node.daemon.stop()


def _until(seconds: float, chance: random.Random) -> Iterator[None]:
    """Again and again, with pauses, for so long."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        yield
        time.sleep(chance.uniform(0.0, PAUSE_S))


def _taken(node: Node) -> Taken:
    return taken(node.daemon.process.pid, node.daemon.address, node.daemon.output)


def _account(node: Node, scraper: Scraper) -> Row:
    text = command.wait_for(lambda: node.daemon.metrics(), "the last scrape")
    last, first = parse(text), scraper.scrapes[0]
    devices_j, unattributed_j = total(text, DEVICES), total(text, UNATTRIBUTED)
    before_j = sum(value for (name, _), value in first.counters.items() if name == DEVICES)
    begin_s, end_s = first.sampled_s or 0.0, last.sampled_s or 0.0
    truth_j = sum(gpu.energy_between_wall(begin_s, end_s) for gpu in node.machine.gpus)
    truth_j += sum(zone.energy_between_wall(begin_s, end_s) for zone in node.machine.zones.values())
    summaries = node.summaries()
    runs_j = sum(summary["energy"]["total_j"] for summary in summaries)
    lost_s = sum(device["unobserved_s"] or 0.0 for each in summaries for device in each["energy"]["devices"])
    unfinished = [each["run"]["id"] for each in summaries if each["state"] not in ("final", "recovered")]
    fallen = steps_back(scraper.scrapes)
    alone = node.own_monitors()
    missing_j = devices_j - runs_j - unattributed_j
    return Row(
        "runs come and go on a node",
        f"{node.begun} runs, {node.faults} losses of a GPU, {node.restarts} restarts ({node.kills} SIGKILLs)",
        truth_j,
        devices_j - before_j,
        lost_s,
        (
            energy_check(truth_j, devices_j - before_j, 0.001 * truth_j + LAG_J, TARGET),
            Check(
                f"runs and the unattributed rest are all of it: {missing_j:+.3g} J are missing",
                abs(missing_j) <= 1e-6 * devices_j + 0.01,
            ),
            Check(
                f"{len(summaries)} summaries of {node.begun} runs, and {alone} that found no daemon",
                len(summaries) + alone == node.begun,
            ),
            Check(f"none says that it goes on {unfinished[:3] or ''}".rstrip(), not unfinished),
            Check(
                f"of {len(scraper.scrapes)} scrapes no total steps back {fallen[:3] or ''}".rstrip(),
                not fallen,
            ),
        ),
    )


def _resources(node: Node, idle: Taken, seen: Sequence[Taken]) -> Row:
    now = _taken(node)
    early, late = (max(each.rss_bytes for each in part) for part in _halves(seen))
    most = max(each.series for each in seen)
    per_run = now.folder_bytes / max(1, node.begun)
    return Row(
        "a daemon that lives on",
        f"{len(seen)} looks in the second half, without restarts",
        None,
        None,
        None,
        (
            Check(
                f"memory: at most {early / 1e6:.1f} MB, later {late / 1e6:.1f} MB",
                late <= early + GROWTH_BYTES,
            ),
            Check(
                f"descriptors: {idle.descriptors} idle, {now.descriptors} at the end",
                now.descriptors <= idle.descriptors,
            ),
            Check(f"threads: {idle.threads}, {now.threads}", now.threads <= idle.threads),
            Check(
                f"series: {idle.series} idle, at most {most}, {now.series} at the end",
                now.series <= idle.series,
            ),
            Check(f"the folder has {now.folder_bytes / 1e6:.1f} MB, {per_run / 1e3:.1f} kB a run", True),
        ),
    )


def _halves(seen: Sequence[Taken]) -> tuple[Sequence[Taken], Sequence[Taken]]:
    middle = len(seen) // 2
    return seen[: max(1, middle)], seen[middle:]


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, metavar="N", help="how long it lasts")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything that is random")
    options = parser.parse_args(arguments)
    if not can_build():
        parser.error("the simulated machine needs gcc")
    sys.stdout.write(f"{heading('tests.soak', arguments, options.seed)}\n\n{HEAD}\n")
    sys.stdout.flush()
    found = list(rows(options.minutes, options.seed))
    sys.stdout.write("".join(f"{line(row)}\n" for row in found))
    return 0 if all(row.ok for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
