"""Every query of every panel against a real Prometheus that scrapes a run and a daemon.

No panel is exempt: what counts faults says 0 where there are none, and is seen to count in the end.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.simulator import Constant, Gpu, Package, Simulator, Square
from tests.simulator.node import AcpiTree
from tests.support import command, grafana, prometheus
from tests.support.daemon import Daemon, daemon

RULES = [
    grafana.FOLDER.parent / "prometheus" / name for name in ("carbonmon.rules.yml", "carbonmon.alerts.yml")
]
SPAN_S = 300.0
GLOBALS = {"__range": f"{SPAN_S:.0f}s", "__rate_interval": "10s", "label": "user"}
RUN, SERVED = "20260101-000000-train", "served"

JOB = """
import sys, time
from pathlib import Path
import carbonmon

with carbonmon.track() as run:
    with run.phase("load"):
        time.sleep(2)
    with run.phase("train"):
        step = 0
        while not Path(sys.argv[1]).exists():
            run.progress(step, 1000, tokens=64 * step, flops=1e9 * step)
            step += 1
            sum(range(300_000))
            time.sleep(0.02)
"""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"),
]


@dataclass
class World:
    """What is scraped: a run with a monitor of its own, and a daemon with a run of its own."""

    server: prometheus.Prometheus
    run: subprocess.Popen[str]
    run_target: str
    node: Daemon
    node_target: str
    machine: Simulator
    folder: Path

    def values(self, target: str) -> dict[str, str]:
        return {**GLOBALS, "run_id": RUN, "job": "carbonmon", "instance": target}

    def ask(self, target: grafana.Target, values: Mapping[str, str]) -> list[Any]:
        """The series of a query as its panel would get them, without values that are no number."""
        expr = grafana.filled(target.expr, values)
        if target.instant:
            found = [(each["metric"], [each["value"]]) for each in self.server.query(expr)]
        else:
            found = [(each["metric"], each["values"]) for each in self.server.query_range(expr, 30.0, 1.0)]
        return [(labels, numbers) for labels, points in found if (numbers := _numbers(points))]

    def figure(self, board: str, panel: str, ref: str = "A", **values: str) -> float | None:
        """The one value of a panel's instant query; None without one."""
        (target,) = [
            each for each in grafana.targets(grafana.BOARDS[board]) if (each.panel, each.ref) == (panel, ref)
        ]
        found = self.ask(target, self.values(self.node_target) | values)
        return found[0][1][0] if found else None

    def rows(self, board: str, panel: str, ref: str = "A") -> dict[str, float]:
        """The rows of a table's query by the values of their labels, joined."""
        (target,) = [
            each for each in grafana.targets(grafana.BOARDS[board]) if (each.panel, each.ref) == (panel, ref)
        ]
        found = self.ask(target, self.values(self.node_target))
        return {" ".join(labels.values()): numbers[0] for labels, numbers in found}


def _numbers(points: list[Any]) -> list[float]:
    return [number for _, text in points if not math.isnan(number := float(text))]


def intensities(folder: Path) -> list[str]:
    """Hourly figures around now, and what makes a node use them."""
    path = folder / "intensity.csv"
    hour = int(time.time()) // 3600 * 3600
    lines = [
        f"{datetime.fromtimestamp(hour + 3600 * i, timezone.utc).isoformat()},{200 + i}" for i in range(3)
    ]
    path.write_text("\n".join(["start,intensity", *lines]) + "\n")
    return ["--intensity-file", str(path)]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    prices = ["--wue", "1.8", "--price", "0.3", "--currency", "EUR"]
    rules = [folder / path.name for path in RULES]
    for path, copy in zip(RULES, rules, strict=True):
        copy.write_text(path.read_text().replace("interval: 1m", "interval: 1s"))
    with ExitStack() as stack:
        run_folder, node_folder = folder / "run", folder / "node"
        run_folder.mkdir()
        node_folder.mkdir()
        # No memory counter: its energy is estimated.
        own = stack.enter_context(
            Simulator(
                gpus=[Gpu(profile=Square(100, 300, 0.7)), Gpu(profile=Constant(150.0))],
                packages=[Package(profile=Constant(90.0))],
            )
        )
        shared = stack.enter_context(
            Simulator(
                gpus=[Gpu(profile=Constant(200.0))],
                packages=[Package(profile=Constant(100.0), dram=Constant(20.0))],
            )
        )
        for machine, power_w in ((own, 800.0), (shared, 500.0)):
            AcpiTree(machine.sysfs, Constant(power_w))
        (run_folder / "job.py").write_text(JOB)
        run = command.start(
            [
                *("run", "--own-monitor", "--run-id", RUN, "--name", "train", "--label", "user=ada"),
                *("--sysfs", str(own.sysfs), "--gpus", "0,1", "--interval", "0.2", "--checkpoint", "0.2"),
                *("--region", "FR", "--pue", "1.25", *intensities(run_folder), *prices),
                *("--", sys.executable, "job.py", "stop"),
            ],
            run_folder,
            env=own.environ,
        )
        stack.callback(run.communicate)
        stack.callback(run.kill)
        stack.callback((run_folder / "stop").touch)  # the job outlives a monitor that was killed
        run_target = target_of(command.metrics_address(run))
        node = stack.enter_context(
            daemon(shared, node_folder, "--region", "DE", *intensities(node_folder), *prices)
        )
        node_target = target_of(node.address)
        node.register(SERVED, "--name", "eval", "--label", "user=bob", "--idle", "exclusive")
        server = stack.enter_context(prometheus.Prometheus(folder, [run_target, node_target], 1.0, rules))
        yield World(server, run, run_target, node, node_target, shared, run_folder)


def target_of(address: str) -> str:
    match = re.fullmatch(r"http://(\S+)/metrics", address)
    assert match
    return match[1]


def test_every_query_of_every_panel_returns_data(tmp_path: Path) -> None:
    with world(tmp_path) as here:
        every_query_returns_data(here)
        variables_find_the_runs_and_the_nodes(here)
        figures_agree_with_one_another(here)
        faults_are_counted(here)
        the_end_of_a_run_keeps_its_totals(here)


def every_query_returns_data(here: World) -> None:
    pending = [
        (target, here.values(node))
        for board in grafana.BOARDS.values()
        for target in grafana.targets(board)
        for node in (here.run_target, here.node_target)
    ]
    assert len(pending) > 150

    def all_answered() -> bool:
        pending[:] = [(target, values) for target, values in pending if not here.ask(target, values)]
        return not pending

    try:
        command.wait_for(all_answered, "data of every panel")
    except AssertionError:
        missing = [f"{target}, {values['instance']}: {target.expr}" for target, values in pending]
        raise AssertionError("no data:\n" + "\n".join(missing)) from None


def variables_find_the_runs_and_the_nodes(here: World) -> None:
    found: dict[str, set[tuple[str, str]]] = {}
    for board in grafana.BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found[variable["name"]] = set(options(here, variable))
    assert found["run_id"] == {(f"{RUN} · train", RUN), (f"{SERVED} · eval", SERVED)}
    assert found["job"] == {("carbonmon", "carbonmon")}
    assert found["instance"] == {(target, target) for target in (here.run_target, here.node_target)}


def options(here: World, variable: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(text, value) of a variable's options, as Grafana finds them."""
    query = grafana.filled(variable["query"]["query"], here.values(here.node_target))
    labels = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    if labels:
        yield from ((value, value) for value in here.server.label_values(labels[2], labels[1]))
        return
    result = re.fullmatch(r"query_result\((.+)\)", query)
    assert result
    pattern, flag = variable["regex"].strip("/").rsplit("/", 1)
    assert flag == "g"
    for series in here.server.query(result[1]):
        text = ",".join(f'{name}="{value}"' for name, value in series["metric"].items())
        groups: dict[str, str] = {}
        for match in re.finditer(pattern.replace("(?<", "(?P<"), text):
            groups |= {name: value for name, value in match.groupdict().items() if value is not None}
        yield groups["text"], groups["value"]


def figures_agree_with_one_another(here: World) -> None:
    board = "carbonmon-run"
    share = here.figure(board, "Measured share")
    energy_j, low_j, high_j = (here.figure(board, "Energy", ref) for ref in "ABC")
    assert share is not None
    assert 0.0 < share < 1.0, "counters of GPUs and package, an estimate of memory"
    assert energy_j is not None
    assert low_j is not None
    assert high_j is not None
    assert 0.1 * energy_j < low_j < 0.97 * energy_j
    assert 1.03 * energy_j < high_j < 2.2 * energy_j
    facility_kwh = here.server.number(
        f'1.25 / 3.6e6 * sum(last_over_time(carbonmon_run_energy_joules_total{{run_id="{RUN}"}}[5m]))'
    )
    assert here.figure(board, "Site's meter") == pytest.approx(facility_kwh, rel=0.2)
    elsewhere = here.rows(board, "The same energy elsewhere", "B")
    assert elsewhere["lifecycle, production, 2024, FR France (FR)"] == pytest.approx(44.18)
    own = [g_per_kwh for place, g_per_kwh in elsewhere.items() if "as it ran" in place]
    assert own == [pytest.approx(200.0, abs=3.0)], "the file's figure"
    of_label = here.rows("carbonmon-fleet", "By $label", "A")
    assert of_label == {"ada": 1.0, "bob": 1.0}
    assert here.figure("carbonmon-fleet", "Nodes up") == 2.0
    assert here.figure("carbonmon-fleet", "Runs now") == 2.0
    phases = here.rows(board, "Phases")
    assert phases.keys() >= {"load", "train"}
    assert sum(here.rows(board, "Phases", "D").values()) == pytest.approx(1.0)


def faults_are_counted(here: World) -> None:
    """A GPU falls off the bus: the figures that were 0 are so no more."""
    assert here.figure("carbonmon-node", "Sensors down") == 0.0
    assert here.rows("carbonmon-fleet", "Alerts") == {"none": 0.0}
    here.machine.gpus[0].fault(lost=True)
    command.wait_for(lambda: here.figure("carbonmon-node", "Sensors down") == 1.0, "a sensor that is down")
    command.wait_for(lambda: here.rows("carbonmon-node", "Sensors", "C").get("nvml"), "failed reads")

    def alerted() -> bool:
        return any("CarbonmonSensorDown" in row for row in here.rows("carbonmon-fleet", "Alerts"))

    command.wait_for(alerted, "the alert")


def the_end_of_a_run_keeps_its_totals(here: World) -> None:
    """The run's own monitor goes with it; that of the daemon shows the end for a while."""
    before_j = here.figure("carbonmon-run", "Energy")
    (here.folder / "stop").touch()
    _, said = here.run.communicate(timeout=command.DEADLINE_S)
    assert here.run.returncode == 0, said
    command.wait_for(lambda: here.figure("carbonmon-fleet", "Nodes down") == 1.0, "a node that is down")
    after_j = here.figure("carbonmon-run", "Energy")
    assert before_j is not None
    assert after_j is not None
    assert before_j <= after_j <= command.summary(here.folder)["energy"]["total_j"] * 1.0001
    assert here.figure("carbonmon-run", "Power now") is None, "not running"
    assert here.figure("carbonmon-fleet", "Runs") == 2.0
    ended = here.node.unregister(SERVED)["run"]
    command.wait_for(lambda: here.figure("carbonmon-fleet", "Runs now") == 0.0, "the end of the other run")
    assert here.figure("carbonmon-run", "Duration", run_id=SERVED) == pytest.approx(
        ended["duration_s"], abs=1.0
    )
    assert here.figure("carbonmon-node", "Runs now") == 0.0
