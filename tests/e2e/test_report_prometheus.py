"""A run's summary from a real Prometheus: two nodes, one whose monitor is killed, one that begins anew."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from carbonmon.hardware.node_meters.acpi import AcpiMeter
from tests.e2e.test_node_meters import ACPI_W, Firmware
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.simulator.node import AcpiTree
from tests.support import command, prometheus
from tests.support.daemon import daemon

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"),
]

RUN_ID = "train.7"
ENERGY = "carbonmon_run_energy_joules_total"
MEASURED = ("run", "--idle", "exclusive", "--sensor", "nvml,rapl", "--interval", "0.1", "--checkpoint", "0.2")


class Server(prometheus.Prometheus):
    def drawn_j(self, address: str) -> float:
        """The joules of the run at an address, as of its last scrape."""
        return self.number(f"sum(last_over_time({_at(address)}[5m]))") or 0.0

    def wait_for(self, address: str, joules: float) -> None:
        command.wait_for(lambda: self.drawn_j(address) >= joules, f"{joules} J of {address}")

    def wait_for_standstill(self, address: str) -> None:
        """Until two scrapes show the same: of a node that draws nothing all is scraped then."""
        query = f"count_over_time({_at(address)}[5m])"
        joules, scrapes = -1.0, 0.0

        def has_more() -> bool:
            return max((float(found["value"][1]) for found in self.query(query)), default=0.0) >= scrapes + 2

        while joules != (found_j := self.drawn_j(address)):
            joules = found_j
            scrapes = max((float(found["value"][1]) for found in self.query(query)), default=0.0)
            command.wait_for(has_more, f"scrapes of {address}")

    def report(self, folder: Path, *options: str) -> str:
        words = ["report", "--prometheus", self.url, "--run-id", RUN_ID]
        done = command.run([*words, *options], folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hold(self, is_held: bool) -> None:
        """Let it scrape nothing, or go on."""
        self._process.send_signal(signal.SIGSTOP if is_held else signal.SIGCONT)


def _at(address: str) -> str:
    return f'{ENERGY}{{run_id="{RUN_ID}",instance="{address}"}}'


class Node:
    """A simulated machine and the monitors of one run on it, each a process with a port of its own."""

    def __init__(self, folder: Path, uuid: str, watts: float) -> None:
        self.folder = folder
        folder.mkdir()
        self.machine = Simulator(
            gpus=[Gpu(uuid=uuid, profile=Constant(watts))], packages=[Package(profile=Constant(watts / 4))]
        )
        self.job = subprocess.Popen(["sleep", "300"])

    def monitor(self, address: str, *options: str) -> subprocess.Popen[str]:
        words = [
            *MEASURED,
            "--sysfs",
            str(self.machine.sysfs),
            "--listen",
            address,
            "--attach",
            f"{self.job.pid}",
            "--retain",
            "0",
        ]
        return command.start(
            [*words, *options], self.folder, env=self.machine.environ, stderr=subprocess.DEVNULL
        )

    def draw(self, joules: float) -> None:
        """Wait until it has drawn so much more."""
        begin_s = self.machine.now_s()
        command.wait_for(lambda: self.drawn_j(begin_s, self.machine.now_s()) >= joules, f"{joules} J")

    def rest(self) -> None:
        """Draw nothing any more."""
        for device in (*self.machine.gpus, *self.machine.zones.values()):
            device.set_profile(Constant(0.0))

    def truth_j(self, summary: Mapping[str, Any]) -> float:
        """What the machine drew from the start of a summary's run to its end."""
        start_s, end_s = (
            datetime.fromisoformat(summary["run"][key].replace("Z", "+00:00")).timestamp()
            for key in ("started_at", "ended_at")
        )
        clock = self.machine.clock
        return self.drawn_j(clock.from_wall(start_s), clock.from_wall(end_s))

    def drawn_j(self, start_s: float, end_s: float) -> float:
        """The same between two times of the machine's clock."""
        devices = (*self.machine.gpus, *self.machine.zones.values())
        return sum(device.energy_j(start_s, end_s) for device in devices)


@contextmanager
def a_node(folder: Path, uuid: str, watts: float) -> Iterator[Node]:
    node = Node(folder, uuid, watts)
    try:
        yield node
    finally:
        node.job.kill()
        node.job.wait()
        node.machine.close()


def end(monitor: subprocess.Popen[str]) -> None:
    monitor.terminate()
    monitor.communicate(timeout=command.DEADLINE_S)


def test_the_machine_s_meter_and_the_charge_by_the_node_are_those_of_the_run_s_own_summary(tmp_path: Path):
    address = f"127.0.0.1:{prometheus.free_port()}"
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path, [address], 0.4))
        node = stack.enter_context(a_node(tmp_path / "one", "GPU-one", 400.0))
        stack.enter_context(Firmware([AcpiTree(node.machine.sysfs, Constant(ACPI_W))]))
        monitor = node.monitor(address, "--run-id", RUN_ID, "--charge", "node")
        server.wait_for(address, 1500.0)
        end(monitor)
        command.wait_for(lambda: not server.query("up == 1"), "the end of the target")
        scraped = json.loads(server.report(tmp_path, "--format", "json"))
        text = server.report(tmp_path)
        own = command.summary(node.folder)
    (seen,), (meter,) = scraped["node_meters"], own["node_meters"]
    unseen_j = ACPI_W * (own["run"]["duration_s"] - scraped["run"]["duration_s"])
    # The meter is asked once a second: at the last scrape its newest second was on its way.
    a_period_j = AcpiMeter.period_s * ACPI_W
    assert meter["meter"] == seen["meter"] == "acpi"
    assert -0.1 * a_period_j <= meter["energy_j"] - unseen_j - seen["energy_j"] <= 1.1 * a_period_j
    assert seen["coverage_ratio"] == pytest.approx(meter["coverage_ratio"], abs=0.05)
    assert seen["methods"] == {"counter": 0.0, "power": pytest.approx(seen["energy_j"])}
    assert scraped["charge"]["by"] == own["charge"]["by"] == "node"
    charged_j = own["charge"]["energy_j"] - unseen_j  # nobody else draws anything: all of it is the run's
    assert -0.1 * a_period_j <= charged_j - scraped["charge"]["energy_j"] <= 1.1 * a_period_j
    assert "(meter acpi)" in text or "charged" in text


def test_the_sum_over_nodes_restarts_and_ports_is_that_of_the_summaries_and_of_the_truth(tmp_path: Path):
    addresses = [f"127.0.0.1:{prometheus.free_port()}" for _ in range(3)]
    with ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path, addresses, 0.4))
        one = stack.enter_context(a_node(tmp_path / "one", "GPU-one", 400.0))
        two = stack.enter_context(a_node(tmp_path / "two", "GPU-two", 200.0))
        killed = one.monitor(addresses[0], "--run-id", RUN_ID)
        first = two.monitor(addresses[2], "--run-id", RUN_ID)
        server.wait_for(addresses[0], 600.0)
        psutil.Process(killed.pid).kill()
        killed.communicate()
        # It goes on at another port: another target with the same totals.
        resumed = one.monitor(addresses[1], "--resume", RUN_ID)
        server.wait_for(addresses[1], 900.0)
        server.wait_for(addresses[2], 400.0)
        two.rest()
        server.wait_for_standstill(addresses[2])
        end(first)
        # Another boot of it begins again from zero at the same port: the same target with other totals.
        again = stack.enter_context(a_node(tmp_path / "again", "GPU-two", 200.0))
        anew = again.monitor(addresses[2], "--run-id", RUN_ID)
        server.wait_for(addresses[2], 100.0)
        running = json.loads(server.report(tmp_path, "--format", "json"))
        server.hold(True)
        one.draw(1500.0)  # 3 s of it, which are more than seven scrapes
        server.hold(False)
        for node, address in ((one, addresses[1]), (again, addresses[2])):
            node.rest()
            server.wait_for_standstill(address)
        end(resumed)
        end(anew)
        # What was shown last with its times has no stale marker: the series outlive the targets.
        command.wait_for(lambda: not server.query("up == 1"), "the end of the targets")
        scraped = json.loads(server.report(tmp_path, "--format", "json"))
        text = server.report(tmp_path)

        machines = (one, two, again)
        parts = [command.summary(node.folder) for node in machines]
        truth_j = sum(node.truth_j(part) for node, part in zip(machines, parts, strict=True))
        copies = []
        for host, part in zip(("one", "two", "two"), parts, strict=True):
            part["run"]["host"] = host  # all of them are this machine
            copies.append(tmp_path / f"{len(copies)}.json")
            copies[-1].write_text(json.dumps(part))
        done = command.run(["report", "--merge", "--format", "json", *map(str, copies)], tmp_path)
        assert done.returncode == 0, done.stderr
        merged = json.loads(done.stdout)
    energy = scraped["energy"]
    assert energy["total_j"] == pytest.approx(truth_j, rel=0.01)
    assert energy["total_j"] == pytest.approx(merged["energy"]["total_j"], rel=0.01)
    for component, part in merged["energy"]["components"].items():
        assert energy["components"][component]["energy_j"] == pytest.approx(part["energy_j"], rel=0.01)
    for bound in ("emissions_g", "low_g", "high_g"):
        assert scraped["carbon"][bound] == pytest.approx(merged["carbon"][bound], rel=0.01)
    assert len(energy["devices"]) == 4
    assert scraped["run"]["started_at"] == merged["run"]["started_at"]
    assert (running["state"], scraped["state"]) == ("running", "recovered")
    reason = scraped["monitor"]["sources"][0]["reason"]
    assert "Restarted from zero" in reason
    assert "Not scraped for" in reason
    assert "after the last scrape is not in the sum" in " ".join(text.split())


def test_a_daemon_s_run_whose_end_was_scraped_is_final_and_has_the_figures_of_its_summary(tmp_path: Path):
    address = f"127.0.0.1:{prometheus.free_port()}"
    options = ["--listen", address, "--intensity", "300", "--pue", "1.4", "--wue", "2", "--price", "0.25"]
    with (
        a_node(tmp_path / "one", "GPU-one", 300.0) as node,
        daemon(node.machine, node.folder, *options, "--currency", "EUR") as running,
        Server(tmp_path, [address], 0.4) as server,
    ):
        running.register(
            RUN_ID, "--pid", f"{node.job.pid}", "--name", "größe", "--label", "team=b", "--idle", "exclusive"
        )
        server.wait_for(address, 300.0)
        wanted = running.unregister(RUN_ID)
        command.wait_for(lambda: server.query("carbonmon_run_end_time_seconds"), "the end")
        scraped = json.loads(server.report(tmp_path, "--format", "json"))
    assert scraped["state"] == "final"
    for key in ("name", "started_at", "ended_at", "scheduler", "idle_policy", "uid", "labels"):
        assert scraped["run"][key] == wanted["run"][key]
    assert scraped["run"]["duration_s"] == pytest.approx(wanted["run"]["duration_s"], abs=0.1)
    for part in ("energy", "carbon", "water"):
        assert unlike(scraped[part], wanted[part]) == []
    assert scraped["costs"][0]["amount"] == pytest.approx(wanted["costs"][0]["amount"])


def unlike(found: Any, wanted: Any, place: str = "") -> list[str]:
    """Where a value that is known differs from the wanted one; who says so and in what words may differ."""
    if found is None or place.endswith(("note", "source", "sources")):
        return []
    if isinstance(found, dict):
        return [odd for key, value in found.items() for odd in unlike(value, wanted[key], f"{place}.{key}")]
    if isinstance(found, list):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [odd for number, pair in pairs for odd in unlike(*pair, f"{place}[{number}]")]
    is_like = found == pytest.approx(wanted, rel=1e-6) if isinstance(found, float) else found == wanted
    return [] if is_like else [f"{place}: {found}, not {wanted}"]
