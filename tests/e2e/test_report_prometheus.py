"""A run's summary from a real Prometheus: two nodes, one whose monitor is killed, one that begins anew."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e import command, prometheus
from tests.simulator import Constant, Gpu, Package, Simulator

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"),
]

RUN_ID = "train.7"
ENERGY = f'carbonmon_run_energy_joules_total{{run_id="{RUN_ID}"}}'
MEASURED = ("run", "--idle", "exclusive", "--sensor", "nvml,rapl", "--interval", "0.1", "--checkpoint", "0.2")


class Server(prometheus.Prometheus):
    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def drawn_j(self, address: str) -> float:
        """The joules of the run at an address, as of its last scrape."""
        query = f'sum(last_over_time({ENERGY[:-1]},instance="{address}"}}[5m]))'
        return self.number(query) or 0.0

    def wait_for(self, address: str, joules: float) -> None:
        command.wait_for(lambda: self.drawn_j(address) >= joules, f"{joules} J of {address}")

    def wait_for_standstill(self, address: str) -> None:
        """Until two scrapes show the same: then the node, which draws nothing, is known to the last joule."""
        query = f'count_over_time({ENERGY[:-1]},instance="{address}"}}[5m])'

        def scrapes() -> float:
            return max((float(found["value"][1]) for found in self.query(query)), default=0.0)

        joules = -1.0
        while joules != (joules := self.drawn_j(address)):
            begin = scrapes()
            command.wait_for(lambda begin=begin: scrapes() >= begin + 2, f"scrapes of {address}")


class Node:
    """A simulated machine and the monitors of one run on it, each a process with a port of its own."""

    def __init__(self, folder: Path, uuid: str, watts: float) -> None:
        self.folder = folder
        folder.mkdir()
        self._watts = watts
        self.machine = Simulator(
            gpus=[Gpu(uuid=uuid, profile=Constant(watts))], packages=[Package(profile=Constant(watts / 4))]
        )
        self.job = subprocess.Popen(["sleep", "300"])

    def monitor(self, address: str, *options: str) -> subprocess.Popen[str]:
        words = [*MEASURED, "--sysfs", str(self.machine.sysfs), "--listen", address, "--attach", f"{self.job.pid}"]
        return command.start([*words, *options], self.folder, env=self.machine.environ, stderr=subprocess.DEVNULL)

    def draw(self, is_on: bool) -> None:
        watts = self._watts if is_on else 0.0
        self.machine.gpus[0].set_profile(Constant(watts))
        for zone in self.machine.zones.values():
            zone.set_profile(Constant(watts / 4))

    def truth_j(self, summary: Mapping[str, Any]) -> float:
        """What the machine drew from the start of a summary's run to its end."""
        start_s, end_s = (
            datetime.fromisoformat(summary["run"][key].replace("Z", "+00:00")).timestamp()
            for key in ("started_at", "ended_at")
        )
        devices = [*self.machine.gpus, *self.machine.zones.values()]
        return sum(device.energy_between_wall(start_s, end_s) for device in devices)


@contextmanager
def nodes(folder: Path) -> Iterator[tuple[Node, Node]]:
    with ExitStack() as stack:
        found = []
        for name, watts in (("one", 400.0), ("two", 200.0)):
            node = Node(folder / name, f"GPU-{name}", watts)
            stack.callback(node.machine.close)
            stack.callback(node.job.wait)
            stack.callback(node.job.kill)
            found.append(node)
        yield found[0], found[1]


def end(monitor: subprocess.Popen[str]) -> None:
    monitor.terminate()
    monitor.communicate(timeout=command.DEADLINE_S)


def test_the_sum_over_nodes_restarts_and_ports_is_that_of_the_summaries_and_of_the_truth(tmp_path: Path):
    addresses = [f"127.0.0.1:{prometheus.free_port()}" for _ in range(3)]
    with nodes(tmp_path) as (one, two), Server(tmp_path, addresses, 0.4) as server:
        killed = one.monitor(addresses[0], "--run-id", RUN_ID)
        first = two.monitor(addresses[2], "--run-id", RUN_ID, "--output", "first")
        server.wait_for(addresses[0], 600.0)
        psutil.Process(killed.pid).kill()
        killed.communicate()
        # It goes on at another port: another target with the same totals.
        resumed = one.monitor(addresses[1], "--resume", RUN_ID)
        server.wait_for(addresses[2], 400.0)
        two.draw(False)
        server.wait_for_standstill(addresses[2])
        end(first)
        # It begins again from zero at the same port: the same target with other totals.
        anew = two.monitor(addresses[2], "--run-id", RUN_ID, "--output", "second")
        two.draw(True)
        server.wait_for(addresses[1], 1500.0)
        for node, address in ((one, addresses[1]), (two, addresses[2])):
            node.draw(False)
            server.wait_for_standstill(address)
        end(resumed)
        end(anew)

        words = ["report", "--prometheus", server.url, "--run-id", RUN_ID]
        done = command.run([*words, "--format", "json"], tmp_path)
        assert done.returncode == 0, done.stderr
        scraped = json.loads(done.stdout)
        text = command.run(words, tmp_path).stdout

        paths = [
            one.folder / "carbonmon-runs" / RUN_ID / "summary.json",
            two.folder / "first" / RUN_ID / "summary.json",
            two.folder / "second" / RUN_ID / "summary.json",
        ]
        parts = [json.loads(path.read_text()) for path in paths]
        truth_j = sum(node.truth_j(part) for node, part in zip((one, two, two), parts, strict=True))
        copies = []
        for number, part in enumerate(parts):
            part["run"]["host"] = "one" if number == 0 else "two"  # both nodes are this machine
            copies.append(tmp_path / f"{number}.json")
            copies[-1].write_text(json.dumps(part))
        done = command.run(["report", "--merge", "--format", "json", *map(str, copies)], tmp_path)
        assert done.returncode == 0, done.stderr
        merged = json.loads(done.stdout)
    print(text)
    print(json.dumps(scraped, indent=1))
    assert scraped["energy"]["total_j"] == pytest.approx(truth_j, rel=0.01)
    assert scraped["energy"]["total_j"] == pytest.approx(merged["energy"]["total_j"], rel=0.01)
