"""A daemon and a run are killed again and again, with disks and servers that fail between."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.chaos.monitors import Watched, ended_s, started_s, unobserved_s
from tests.chaos.scraper import Scraper, parse, steps_back
from tests.chaos.table import Check, Row, energy_check
from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square
from tests.soak.watch import total
from tests.support import command, prometheus
from tests.support.daemon import Daemon

MANY = 4
"""So many times the kills of one scenario: with them some 500 in all."""

RUN = ("--sensor", "nvml,rapl", "--interval", "0.1", "--checkpoint", "0.2")
LONGEST_S = 20_000
"""On a busy machine 400 kills take most of an hour."""

LONGEST_LIFE_S, LONGEST_DEATH_S, LONGEST_FAULT_S = 1.0, 0.4, 0.5
MOST_RUNS = 6
DISK = "size=64m"
BUSY = [sys.executable, "-c", "import time\nwhile True: sum(range(20_000)), time.sleep(0.02)"]
DEVICES, UNATTRIBUTED = (
    "carbonmon_device_energy_joules_total",
    "carbonmon_device_unattributed_energy_joules_total",
)
LAG_J = 600.0
"""A second of both GPUs: their counters are read once a second, and the first and last scrape may lag so."""


class Gateway:
    """A server for pushes that answers, refuses to, or hangs, by turns."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.mode = "answers"
        self.asked = 0
        self._held: list[socket.socket] = []
        threading.Thread(target=self._serve, name="chaos-gateway", daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.asked += 1
                if self.mode == "hangs":
                    self._held = [*self._held[-8:], connection]
                    continue
                with connection, suppress(OSError):
                    connection.settimeout(1.0)
                    connection.recv(1 << 16)
                    if self.mode == "answers":
                        connection.sendall(
                            b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                        )

    def close(self) -> None:
        self._server.close()


class Storm:
    """A daemon whose runs come and go, and a run with a monitor of its own, on one small disk."""

    def __init__(
        self, machine: Simulator, disk: Path, shut: Path, chance: random.Random, stack: ExitStack
    ) -> None:
        self.machine = machine
        self.disk, self._shut = disk, shut
        self.gateway = Gateway()
        stack.callback(self.gateway.close)
        self._chance = chance
        push = f"prometheus,summary,pushgateway:{self.gateway.address}"
        more = [
            "--exporter",
            push,
            "--idle",
            "proportional",
            "--listen",
            f"127.0.0.1:{prometheus.free_port()}",
        ]
        self._options = more
        self._folder = disk.parent
        self.kills = self.disk_faults = self.server_faults = self.begun = 0
        self._living: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = stack
        self.daemon = self._new_daemon()
        stack.callback(lambda: self.daemon.process.kill())
        self.run = stack.enter_context(Watched(machine, disk.parent, RUN, LONGEST_S))
        self.run.start()

    def _new_daemon(self) -> Daemon:
        output = ["--output", str(self.disk / "daemon")]
        daemon = Daemon(self.machine, self._folder, *self._options, *output)
        daemon.output = self.disk / "daemon"
        return daemon

    def happen(self) -> None:
        """One kill, and what goes with it by chance."""
        time.sleep(self._chance.uniform(0.0, LONGEST_LIFE_S))
        for thing in self._chance.sample([self._come, self._go, self._serve, self._break_disk], 2):
            thing()
        self.kills += 1
        if self._chance.random() < 0.5:
            self.run.kill()
            time.sleep(self._chance.uniform(0.0, LONGEST_DEATH_S))
            self.run.start()
        else:
            self.daemon.process.send_signal(signal.SIGKILL)
            self.daemon.process.wait(command.DEADLINE_S)
            time.sleep(self._chance.uniform(0.0, LONGEST_DEATH_S))
            self.daemon = self._new_daemon()

    def _come(self) -> None:
        if len(self._living) < MOST_RUNS:
            name = f"storm-{self.begun}"
            process = self._stack.enter_context(subprocess.Popen(BUSY))
            self._stack.callback(process.kill)
            self.daemon.register(name, "--pid", str(process.pid))
            self.begun += 1
            self._living[name] = process
            # What is killed before its first checkpoint leaves nothing to resume, as the page says.
            path = self.daemon.output / name / "checkpoint.json"
            command.wait_for(path.exists, f"the first checkpoint of {name}")

    def _go(self) -> None:
        if self._living:
            name = self._chance.choice(sorted(self._living))
            done = self.daemon.call("unregister", name)
            assert done.returncode == 0, done.stderr + self._said()
            self._living.pop(name).kill()

    def _serve(self) -> None:
        self.server_faults += 1
        self.gateway.mode = self._chance.choice(["answers", "refuses", "hangs"])

    def _break_disk(self) -> None:
        """Read-only for a moment, or without room; well again before somebody is to register."""
        self.disk_faults += 1
        seconds = self._chance.uniform(0.0, LONGEST_FAULT_S)
        if self._chance.random() < 0.5:
            with _read_only(self.disk, self._shut):
                time.sleep(seconds)
        else:
            filler = self.disk / "filler"
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 65536)
            time.sleep(seconds)
            filler.unlink()

    def _said(self) -> str:
        """What the last daemons said, for a failure."""
        logs = sorted(self._folder.glob("daemon-*.log"), key=lambda path: path.stat().st_mtime_ns)
        return "\n".join(f"{path.name}: {path.read_text()}" for path in logs[-8:])

    def end(self) -> None:
        self.gateway.mode = "answers"
        while self._living:
            self._go()
        self.run.wait_for_checkpoint(self.run.checkpoint()["samples"])  # the last monitor has begun

    def summaries(self) -> list[dict[str, Any]]:
        return [self.daemon.summary(f"storm-{number}") for number in range(self.begun)]


@contextmanager
def _read_only(disk: Path, shut: Path) -> Iterator[None]:
    """A folder that takes nothing, as long as the context: `shut` is the same, and read-only.

    One step, which nobody can come between: a mount that has a file open for writing cannot be made so.
    """
    subprocess.run(["mount", "--bind", str(shut), str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _mounted(folder: Path, stack: ExitStack) -> tuple[Path, Path]:
    """A small disk in a folder, and the same where it is read-only."""
    disk, shut = folder / "carbonmon-runs", folder / "read-only"
    for path, words in (
        (disk, ["-t", "tmpfs", "-o", DISK, "carbonmon-chaos"]),
        (shut, ["--bind", str(disk)]),
    ):
        path.mkdir()
        subprocess.run(["mount", *words, str(path)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(path)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(shut)], check=True)
    return disk, shut


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    if os.geteuid() != 0:
        sys.stderr.write("storm: left out, mounting a disk that fails needs root\n")
        return
    gpus = [Gpu(profile=Sine(250.0, 120.0, period_s=3.0)), Gpu(profile=Square(80.0, 350.0, period_s=0.9))]
    package = Package(profile=Sine(110.0, 40.0, period_s=5.0), dram=Constant(15.0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disk, shut = _mounted(folder, stack)
        machine = stack.enter_context(Simulator(gpus=gpus, packages=[package]))
        storm = Storm(machine, disk, shut, chance, stack)
        scrapers = [Scraper(address, 1, 0.5) for address in (storm.daemon.address, storm.run.address)]
        for _ in range(6 if short else MANY * kills):
            storm.happen()
        storm.end()
        yield from _accounts(storm, scrapers, short)


def _accounts(storm: Storm, scrapers: Sequence[Scraper], short: bool) -> Iterator[Row]:
    for scraper in scrapers:
        scraper.stop()
    text, ratio = storm.daemon.metrics(), 0.03 if short else 0.001
    summaries = storm.summaries()
    storm.daemon.stop()
    faults = (
        f"{storm.kills} SIGKILLs of daemon or monitor, {storm.disk_faults} times the disk full or read-only, "
        f"{storm.server_faults} changes of a server that answers, refuses or hangs"
    )
    last, first = parse(text), scrapers[0].scrapes[0]
    before_j = sum(value for (name, _), value in first.counters.items() if name == DEVICES)
    devices = [*storm.machine.gpus, *storm.machine.zones.values()]
    begin_s, end_s = first.sampled_s or 0.0, last.sampled_s or 0.0
    truth_j = sum(device.energy_between_wall(begin_s, end_s) for device in devices)
    drawn_j, runs_j = total(text, DEVICES), sum(each["energy"]["total_j"] for each in summaries)
    missing_j = drawn_j - runs_j - total(text, UNATTRIBUTED)
    fallen = steps_back(scrapers[0].scrapes)
    unfinished = [each["run"]["id"] for each in summaries if each["state"] != "final"]
    yield Row(
        "a storm: the daemon's account",
        faults,
        truth_j,
        drawn_j - before_j,
        sum(device["unobserved_s"] or 0.0 for each in summaries for device in each["energy"]["devices"]),
        (
            energy_check(
                truth_j, drawn_j - before_j, ratio * truth_j + LAG_J, f"within ±{ratio:.1%} and {LAG_J:.0f} J"
            ),
            Check(
                f"{len(summaries)} runs and what is unattributed are all of it: {missing_j:+.3g} J missing",
                abs(missing_j) <= 1e-6 * drawn_j + 0.01,
            ),
            Check(f"none is unfinished {unfinished[:3] or ''}".rstrip(), not unfinished),
            Check(
                f"of {len(scrapers[0].scrapes)} scrapes no total steps back {fallen[:3] or ''}".rstrip(),
                not fallen,
            ),
            Check(f"the server was asked {storm.gateway.asked} times", storm.gateway.asked > 0),
        ),
    )
    summary = storm.run.finish()
    truth_j = storm.run.truth_j(started_s(summary), ended_s(summary))
    fallen = steps_back(scrapers[1].scrapes)
    lost_s = sum(unobserved_s(summary).values())
    yield Row(
        "a storm: a run's own account",
        "the same",
        truth_j,
        summary["energy"]["total_j"],
        lost_s,
        (
            energy_check(truth_j, summary["energy"]["total_j"], ratio * truth_j, f"within ±{ratio:.1%}"),
            Check("no second unobserved", lost_s == 0.0),
            Check(
                f"of {len(scrapers[1].scrapes)} scrapes no total steps back {fallen[:3] or ''}".rstrip(),
                not fallen,
            ),
        ),
    )
