"""A node on which things happen: its daemon, its runs, its faults."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square
from tests.support import command, prometheus
from tests.support.daemon import Daemon

MOST_RUNS = 8
RETAIN_S = 15.0
LONGEST_JOB_S, LONGEST_FAULT_S, LONGEST_OUTAGE_S = 20.0, 5.0, 3.0


def machine() -> Simulator:
    gpus = [Gpu(profile=Sine(250.0, 120.0, period_s=3.0)), Gpu(profile=Square(80.0, 350.0, period_s=0.9))]
    return Simulator(
        gpus=gpus, packages=[Package(profile=Sine(110.0, 40.0, period_s=5.0), dram=Constant(15.0))]
    )


class Job(NamedTuple):
    """A process of ours, and the exit code that it is to have."""

    process: subprocess.Popen[Any]
    code: int


class Node:
    """A daemon on a simulated machine. Each method does one thing that happens on a node."""

    def __init__(self, simulated: Simulator, folder: Path, chance: random.Random) -> None:
        self.machine = simulated
        self.folder = folder
        self._chance = chance
        listen = ["--listen", f"127.0.0.1:{prometheus.free_port()}", "--retain", str(RETAIN_S)]
        self._options = [*listen, "--checkpoint", "1", "--idle", "proportional"]
        self._asked: set[str] = set()
        self._jobs: list[Job] = []
        self._faulty: dict[int, float] = {}
        self.begun = self.restarts = self.kills = self.faults = 0
        self.daemon = Daemon(simulated, folder, *self._options)

    def happen(self, may_restart: bool) -> None:
        """One thing, by chance; then what is over is cleared away."""
        chance = self._chance
        things: list[tuple[float, Callable[[], None]]] = [
            (4.0, self.register),
            (4.0, self.unregister),
            (3.0, self.follow_a_process),
            (3.0, self.run_a_job),
            (1.0, self.break_a_sensor),
            (0.3 if may_restart else 0.0, self.restart),
        ]
        (thing,) = chance.choices([thing for _, thing in things], [weight for weight, _ in things])
        thing()
        self._clear(everything=False)

    @property
    def living(self) -> int:
        return len(self._asked) + len(self._jobs)

    def register(self) -> None:
        if self.living < MOST_RUNS:
            name = self._new_name()
            self.daemon.register(name)
            self._asked.add(name)

    def unregister(self) -> None:
        if self._asked:
            name = self._chance.choice(sorted(self._asked))
            done = self.daemon.call("unregister", name)
            assert done.returncode == 0, done.stderr
            self._asked.remove(name)

    def follow_a_process(self) -> None:
        if self.living < MOST_RUNS:
            process = subprocess.Popen(["sleep", f"{self._chance.uniform(1.0, LONGEST_JOB_S):.2f}"])
            self._jobs.append(Job(process, 0))
            self.daemon.register(self._new_name(), "--pid", str(process.pid))

    def run_a_job(self) -> None:
        """`carbonmon run`, which takes part in the daemon's monitor."""
        if self.living < MOST_RUNS:
            code = self._chance.randrange(8)
            seconds = self._chance.uniform(0.0, LONGEST_JOB_S)
            environ = {"CARBONMON_SOCKET": str(self.daemon.socket), "CARBONMON_LISTEN": ""}
            words = ["run", "--quiet", "--name", self._new_name(), "--", "sh", "-c"]
            where = self.folder / "jobs"
            where.mkdir(exist_ok=True)
            pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            job = command.start([*words, f"sleep {seconds:.2f}; exit {code}"], where, env=environ, **pipes)
            self._jobs.append(Job(job, code))

    def break_a_sensor(self) -> None:
        """A GPU falls off the bus for a while; its counter goes on."""
        place = self._chance.randrange(len(self.machine.gpus))
        self.machine.gpus[place].fault(lost=1)
        self._faulty[place] = time.monotonic() + self._chance.uniform(0.5, LONGEST_FAULT_S)
        self.faults += 1

    def restart(self) -> None:
        number = self._chance.choice([signal.SIGKILL, signal.SIGTERM])
        self.kills += number == signal.SIGKILL
        self.restarts += 1
        self.daemon.process.send_signal(number)
        self.daemon.process.wait(command.DEADLINE_S)
        time.sleep(self._chance.uniform(0.0, LONGEST_OUTAGE_S))
        self.daemon = Daemon(self.machine, self.folder, *self._options)

    def quiet(self) -> None:
        """End all runs and faults, and wait until the daemon shows none any more."""
        while self._asked:
            self.unregister()
        self._clear(everything=True)
        command.wait_for(lambda: "run_id=" not in self.daemon.metrics(), "a daemon without runs")

    def close(self) -> None:
        for job in self._jobs:
            job.process.kill()
            job.process.wait()
        self.daemon.process.kill()
        self.daemon.process.communicate()

    def summaries(self) -> list[dict[str, Any]]:
        """The summaries of all runs that the daemon has kept."""
        return [json.loads(path.read_text()) for path in sorted(self.daemon.output.glob("*/summary.json"))]

    def own_monitors(self) -> int:
        """How many jobs found no daemon, and metered themselves."""
        kept = {summary["run"]["id"] for summary in self.summaries()}
        return sum(path.name not in kept for path in (self.folder / "jobs" / "carbonmon-runs").glob("*"))

    def _new_name(self) -> str:
        self.begun += 1
        return f"soak-{self.begun}"

    def _clear(self, everything: bool) -> None:
        now_s = time.monotonic()
        for place, until_s in list(self._faulty.items()):
            if everything or now_s >= until_s:
                self.machine.gpus[place].clear()
                del self._faulty[place]
        for job in list(self._jobs):
            if everything:
                job.process.wait(command.DEADLINE_S)
            if job.process.poll() is not None:
                assert job.process.returncode == job.code, "the job keeps its exit code"
                self._jobs.remove(job)
