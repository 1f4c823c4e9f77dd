"""A node with many runs whose daemon is killed when one of them ends: every joule is in one run, once."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulator import Constant, Package, Simulator
from tests.soak.watch import total
from tests.support import command
from tests.support.daemon import Daemon, daemon
from tests.support.servers import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RUNS = 40
BUSY = [sys.executable, "-c", "import time\nwhile True: sum(range(50_000)), time.sleep(0.01)"]
DEVICES, UNATTRIBUTED = (
    "carbonmon_device_energy_joules_total",
    "carbonmon_device_unattributed_energy_joules_total",
)


def ask(node: Daemon, op: str, *run_ids: str) -> None:
    """The same of many runs, in one connection."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(node.socket))
        connection.settimeout(command.DEADLINE_S)
        with connection.makefile("rb") as lines:
            for number, run_id in enumerate(run_ids):
                message = {"v": 1, "id": number, "op": op, "run_id": run_id}
                connection.sendall(json.dumps(message).encode() + b"\n")
                answer = json.loads(lines.readline())
                assert not answer.get("error"), answer


def test_a_daemon_of_many_runs_that_is_killed_when_one_ends_counts_each_joule_once(tmp_path: Path):
    """The others' own checkpoints are from long before: they are written every ten minutes."""
    options = ["--listen", f"127.0.0.1:{free_port()}", "--checkpoint", "600", "--idle", "proportional"]
    idle = [f"idle-{number}" for number in range(RUNS - 2)]
    package = Package(profile=Constant(100.0), dram=Constant(20.0))
    with Simulator(packages=[package]) as machine:
        with subprocess.Popen(BUSY) as first, subprocess.Popen(BUSY) as second:
            try:
                with daemon(machine, tmp_path, *options) as node:
                    node.register("ends", "--pid", str(first.pid))
                    node.register("goes-on", "--pid", str(second.pid))
                    ask(node, "register", *idle)
                    command.wait_for(lambda: all(map(_is_kept(node), idle)), "checkpoints")
                    _let_it_draw(machine, 600.0)
                    ended_j = node.unregister("ends")["energy"]["total_j"]
                    node.process.send_signal(signal.SIGKILL)
                    node.process.wait(command.DEADLINE_S)
                with daemon(machine, tmp_path, *options) as node:
                    _let_it_draw(machine, 200.0)
                    ask(node, "unregister", "goes-on", *idle)
                    text = node.metrics()
                    runs_j = {
                        name: node.summary(name)["energy"]["total_j"] for name in ("ends", "goes-on", *idle)
                    }
                    node.stop()
            finally:
                first.kill()
                second.kill()
    assert ended_j > 10.0, "what would be in two runs"
    assert runs_j["ends"] == ended_j
    drawn_j = total(text, DEVICES)
    assert sum(runs_j.values()) + total(text, UNATTRIBUTED) == pytest.approx(drawn_j, rel=1e-6)


def _is_kept(node: Daemon) -> Callable[[str], bool]:
    return lambda run_id: (node.output / run_id / "checkpoint.json").exists()


def _let_it_draw(machine: Simulator, joules: float) -> None:
    begin_s = machine.wall_s()

    def drawn_j() -> float:
        zones = machine.zones.values()
        return sum(zone.energy_between_wall(begin_s, machine.wall_s()) for zone in zones)

    command.wait_for(lambda: drawn_j() >= joules, f"{joules} J")
