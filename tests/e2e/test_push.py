"""Real runs whose results wait somewhere else to be scraped: on a gateway, in a file, at a collector."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, prometheus, pushgateway
from tests.support.otlp import parsed
from tests.support.receivers import Receiver

pytestmark = pytest.mark.e2e

needs_servers = pytest.mark.skipif(
    not pushgateway.are_here(), reason="no Prometheus, Pushgateway or node_exporter, and no apt-get"
)

ENERGY = "carbonmon_run_energy_joules_total"
JOB = ("sh", "-c", "sleep 1; exit 3")


def on_host(host: str, arguments: list[str], folder: Path, machine: Simulator) -> subprocess.Popen[str]:
    """`carbonmon` as on a machine of this name."""
    program = (
        f"import os; own = os.uname(); named = os.uname_result((own[0], {host!r}, *own[2:])); "
        "os.uname = lambda: named; "
        "from carbonmon.cli import main; main()"
    )
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=command.environ(**machine.environ, CARBONMON_LISTEN="127.0.0.1:0"),
        stderr=subprocess.PIPE,
        text=True,
    )


def options(machine: Simulator, exporters: str, run_id: str) -> list[str]:
    measuring = ["--idle", "exclusive", "--interval", "0.1", "--sensor", "nvml,rapl", "--own-monitor"]
    where = ["--sysfs", str(machine.sysfs), "--exporter", exporters, "--run-id", run_id]
    return ["run", *measuring, *where, "--", *JOB]


def total_j(folder: Path, run_id: str) -> float:
    document = json.loads((folder / "carbonmon-runs" / run_id / "summary.json").read_text())
    joules: float = document["energy"]["total_j"]
    assert joules > 0.0
    return joules


def machine() -> Simulator:
    return Simulator(
        gpus=[Gpu(profile=Constant(300.0))],
        packages=[Package(profile=Constant(100.0), dram=Constant(20.0))],
    )


@needs_servers
def test_runs_and_nodes_stand_side_by_side_on_a_gateway_and_prometheus_has_their_energy(tmp_path: Path):
    with (
        machine() as simulated,
        pushgateway.Pushgateway() as gateway,
        prometheus.Prometheus(tmp_path, gateway.target, 0.2, honors_labels=True) as server,
    ):
        command.wait_for(lambda: server.number("up") == 1.0, "the first scrape")
        exporters = f"summary,pushgateway:{gateway.url}"
        nodes = [("node-a", "both"), ("node-b", "both"), ("node-a", "other")]
        started = [
            on_host(host, options(simulated, exporters, run_id), tmp_path / f"{host}-{run_id}", simulated)
            for host, run_id in nodes
        ]
        for process in started:
            _, errors = process.communicate(timeout=command.DEADLINE_S)
            assert process.returncode == 3
            assert "pushgateway failed" not in errors
        truth = {(host, run_id): total_j(tmp_path / f"{host}-{run_id}", run_id) for host, run_id in nodes}
        found: dict[tuple[str, str], float] = {}
        for sample in gateway.samples(ENERGY):
            assert sample.labels["job"] == "carbonmon"
            key = sample.labels["instance"], sample.labels["run_id"]
            found[key] = found.get(key, 0.0) + sample.value
        assert found == pytest.approx(truth)
        assert not gateway.samples("carbonmon_run_power"), "nothing of the moment stays for ever"

        every_j = sum(truth.values())

        def has_all() -> bool:
            return server.number(f'sum({ENERGY}{{job="carbonmon"}})') == pytest.approx(every_j)

        command.wait_for(has_all, "the energy in Prometheus")
        by_node = server.query(f"sum by (instance) ({ENERGY})")
        assert {row["metric"]["instance"] for row in by_node} == {"node-a", "node-b"}
        assert server.number(f"sum(min_over_time({ENERGY}[5m]))") == 0.0, "each series is born at 0"


@needs_servers
def test_node_exporter_shows_the_files_of_two_runs_after_their_end(tmp_path: Path):
    textfiles = tmp_path / "textfiles"
    textfiles.mkdir()
    with machine() as simulated, pushgateway.NodeExporter(textfiles) as exporter:
        for run_id in ("first", "second"):
            ended = command.run(
                options(simulated, f"summary,textfile:{textfiles}", run_id), tmp_path, env=simulated.environ
            )
            assert ended.returncode == 3, ended.stderr
            assert str(textfiles / f"carbonmon-{run_id}.prom") in ended.stderr
        (error,) = exporter.samples("node_textfile_scrape_error")
        assert error.value == 0.0
        found: dict[str, float] = {}
        for sample in exporter.samples(ENERGY):
            found[sample.labels["run_id"]] = found.get(sample.labels["run_id"], 0.0) + sample.value
        assert found == pytest.approx({run_id: total_j(tmp_path, run_id) for run_id in ("first", "second")})


def test_a_collector_gets_the_totals_of_a_run(tmp_path: Path):
    with machine() as simulated, Receiver() as collector:
        arguments = options(simulated, f"summary,otlp:{collector.url}", "mine")
        ended = command.run(arguments, tmp_path, env=simulated.environ)
        assert ended.returncode == 3, ended.stderr
        requests = [parsed(request) for request in collector.received]
        energy = [point for request in requests for point in request.now.get("carbonmon.run.energy", ())]
        zeros = [zero for request in requests for zero in request.zeros.get("carbonmon.run.energy", ())]
        zeros += [point for point in energy if point.value == 0.0]
        series = {tuple(point.labels.values()) for point in energy}
        assert {tuple(zero.labels.values()) for zero in zeros} == series, "each begins at 0"
        last = requests[-1]
        assert sum(point.value for point in last.now["carbonmon.run.energy"]) == pytest.approx(
            total_j(tmp_path, "mine")
        )
        assert sum(point.value for point in last.now["hw.energy"]) > 0.0
        assert "hw.power" not in last.now


@pytest.mark.parametrize("fault", ["it hangs", "it fails", "nobody is there"])
def test_a_server_that_does_not_work_harms_nothing(tmp_path: Path, fault: str):
    with machine() as simulated, Receiver() as receiver:
        if fault == "it hangs":
            receiver.open.clear()
        elif fault == "it fails":
            receiver.status = 503
        else:
            receiver.close()
        exporters = f"summary,pushgateway:{receiver.url},otlp:{receiver.url}"
        arguments = options(simulated, exporters, "mine")
        ended = command.run(["run", "--checkpoint", "0.2", *arguments[1:]], tmp_path, env=simulated.environ)
        receiver.open.set()
        assert ended.returncode == 3, ended.stderr
        document: dict[str, Any] = command.summary(tmp_path)
        assert document["state"] == "final"
        assert document["energy"]["total_j"] > 0.0
        about = [line for line in ended.stderr.splitlines() if line.startswith("carbonmon: ")]
        for exporter in ("pushgateway", "otlp"):
            trouble = [line for line in about if line.startswith(f"carbonmon: {exporter} failed: ")]
            assert trouble, ended.stderr
            assert len(trouble) == len(set(trouble)), "each state is told once"
        assert not any("works again" in line for line in about)
        assert "Traceback" not in ended.stderr
        assert "Failed to export" not in ended.stderr, "the SDK's own log"
