"""One job on a simulated machine, and the monitors that watch it one after the other."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from carbonmon.runs.checkpoint_slots import has_checkpoint
from tests.simulator import Simulator
from tests.support import checkpoints, command

RUN_ID = "chaos"
LONGEST_S = 900
"""The job ends by itself after so long, and with it whatever watches it; that of a storm after some hours."""


class Watched:
    """A run whose job is ours, so that it outlives its monitors: `start`, `kill`, and at last `finish`."""

    def __init__(
        self, machine: Simulator, folder: Path, options: Sequence[str], longest_s: int = LONGEST_S
    ) -> None:
        self.machine = machine
        self.folder = folder / "carbonmon-runs" / RUN_ID
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}/metrics"
        self._base = folder
        self._options = [
            # What the machine drew is the run's, so that the truth can be told.
            *("run", "--idle", "exclusive"),
            *("--sysfs", str(machine.sysfs), "--listen", f"127.0.0.1:{self.port}"),
            *options,
        ]
        self._job = subprocess.Popen(["sleep", str(longest_s)])
        self._monitor: subprocess.Popen[str] | None = None
        self._begun = False
        self._log = (folder / "stderr.log").open("a")

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._job.kill()
        self._job.wait()
        self._log.close()

    def start(self, *, waits: bool = True) -> None:
        """Start the first monitor and wait for its first checkpoint, or another one and do not wait."""
        which = ["--resume", RUN_ID] if self._begun else ["--run-id", RUN_ID]
        arguments = [*self._options, *which, "--attach", str(self._job.pid)]
        self._monitor = command.start(
            arguments, self._base, env=self.machine.environ, stdout=subprocess.DEVNULL, stderr=self._log
        )
        if not self._begun:
            self._begun = True
            if waits:
                self.wait_for_checkpoint(0)

    def kill(self) -> None:
        """SIGKILL the monitor if there is one; the job goes on."""
        if self._monitor is not None:
            self._monitor.kill()
            self._monitor.wait(timeout=command.DEADLINE_S)
            self._monitor = None

    def finish(self) -> dict[str, Any]:
        """End the job, wait for the monitor's own end, and return the summary."""
        assert self._monitor is not None
        self._job.kill()
        self._job.wait()
        code = self._monitor.wait(timeout=2 * command.DEADLINE_S)
        self._monitor = None
        assert code == 0, f"the monitor ended with {code}: {self.said()[-2000:]}"
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    def said(self) -> str:
        """What the monitors wrote to stderr."""
        return (self._base / "stderr.log").read_text()

    def checkpoint(self) -> dict[str, Any]:
        return checkpoints.read(self.folder)

    def wait_for_checkpoint(self, samples: int) -> dict[str, Any]:
        """The first checkpoint with more than so many samples."""

        def newer() -> dict[str, Any] | None:
            assert self._monitor is None or self._monitor.poll() is None, self.said()[-2000:]
            if not has_checkpoint(self.folder):
                return None
            document = self.checkpoint()
            return document if document["samples"] > samples else None

        return command.wait_for(newer, f"a checkpoint after {samples} samples")

    def truth_j(self, start_s: float, end_s: float) -> float:
        """What the machine drew between two Unix times."""
        devices = [*self.machine.gpus, *self.machine.zones.values()]
        return sum(device.energy_between_wall(start_s, end_s) for device in devices)


def started_s(summary: dict[str, Any]) -> float:
    return _unix_s(summary["run"]["started_at"])


def ended_s(summary: dict[str, Any]) -> float:
    return _unix_s(summary["run"]["ended_at"])


def unobserved_s(summary: dict[str, Any]) -> dict[str, float]:
    """Seconds of each device of the run for which no energy could be known."""
    return {device["id"]: device["unobserved_s"] or 0.0 for device in summary["energy"]["devices"]}


def device_j(summary: dict[str, Any], device_id: str) -> float:
    return float(
        next(device["energy_j"] for device in summary["energy"]["devices"] if device["id"] == device_id)
    )


def _unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
