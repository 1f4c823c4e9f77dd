"""The real daemon on a simulated machine, and the commands that speak to it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.simulator import Simulator
from tests.support import command

DRAWN = "carbonmon_device_energy_joules_total{"


class Daemon:
    """A node's daemon on a simulated machine, and the commands that speak to it."""

    def __init__(self, machine: Simulator, folder: Path, *options: str) -> None:
        self.folder = folder
        place = options.index("--socket") + 1 if "--socket" in options else None
        self.socket = folder / "daemon.sock" if place is None else Path(options[place])
        self.output = folder / "runs"
        # A file: what stands behind the first line would be lost in the buffer that it was read with.
        self._log = folder / f"daemon-{time.monotonic_ns()}.log"
        with self._log.open("w") as log:
            self.process = command.start(
                [
                    *("daemon", "--socket", str(self.socket), "--output", str(self.output)),
                    *("--sysfs", str(machine.sysfs), "--sensor", "nvml,rapl"),
                    *("--checkpoint", "0.2", "--interval", "0.2", *options),
                ],
                folder,
                env=machine.environ,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.address = command.wait_for(self._address, "the daemon")

    def _address(self) -> str | None:
        found = re.search(r"daemon: (http://\S+/metrics)", self._log.read_text())
        return found[1] if found else None

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return command.run([*words, "--socket", str(self.socket)], self.folder)

    def register(self, run_id: str, *words: str) -> None:
        done = self.call("register", "--run-id", run_id, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{run_id}\n"

    def unregister(self, run_id: str) -> dict[str, Any]:
        done = self.call("unregister", run_id)
        assert done.returncode == 0, done.stderr
        return self.summary(run_id)

    def summary(self, run_id: str) -> dict[str, Any]:
        """The run's summary. A scheduler may call a job completed before its epilog has ended the run."""
        path = self.output / run_id / "summary.json"
        command.wait_for(path.exists, f"the summary of {run_id}")
        document: dict[str, Any] = json.loads(path.read_text())
        return document

    def final_summary(self, run_id: str) -> dict[str, Any]:
        """The same once the run has ended."""
        command.wait_for(lambda: self.summary(run_id)["state"] == "final", f"the end of {run_id}")
        return self.summary(run_id)

    def draw(self, joules: float) -> None:
        """Let the machine draw so much more, as the daemon sees it."""
        begin = self._drawn_j()
        command.wait_for(lambda: self._drawn_j() >= begin + joules, f"{joules} J")

    def _drawn_j(self) -> float:
        lines = [line for line in self.metrics().splitlines() if line.startswith(DRAWN)]
        return sum(float(line.split()[-1]) for line in lines)

    def metrics(self) -> str:
        return command.get(self.address)

    def said(self) -> str:
        """What it has said until now."""
        return self._log.read_text()

    def stop(self) -> str:
        self.process.terminate()
        self.process.wait(timeout=command.DEADLINE_S)
        said = self.said()
        assert self.process.returncode == 0, said
        return said


@contextmanager
def daemon(machine: Simulator, folder: Path, *options: str) -> Iterator[Daemon]:
    running = Daemon(machine, folder, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()
