"""Real runs of known power, and the real stores that get them by each way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.store_servers import PrometheusStore, VictoriaStore, document
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, prometheus, pushgateway

LATE_S = 10.0
NODES, POOLS = 5, 10
"""So many scrape pools of one Prometheus look at each node: 50, each with an offset of its own."""

SHAPES = ((20, 1), (60, 5), (180, 20))
"""Seconds of a run, and of each of its phases."""

NODE_W = 2 * 300.0 + 120.0 + 15.0
PUE, INTENSITY = 1.25, 400.0
GRAMS_AN_HOUR = NODE_W / 1000.0 * PUE * INTENSITY
END_S = 75.0
"""What is scraped shows the end for 60 s."""

JOB = """
import sys, time, carbonmon
seconds, phase_s = map(int, sys.argv[1:])
begin_s = time.monotonic()
with carbonmon.track() as run:
    for number in range(seconds // phase_s):
        with run.phase(f"p{number}"):
            time.sleep(max(0.0, begin_s + (number + 1) * phase_s - time.monotonic()))
"""


class Run(NamedTuple):
    """What a run's summary says: joules by phase, and when it was (Unix times)."""

    node: int
    shape: tuple[int, int]
    joules: dict[str, float]
    start_s: float
    end_s: float


Store = PrometheusStore | VictoriaStore


@dataclass
class Seen:
    """The runs, and who has them: by store and way, with the scrape pools of each node."""

    runs: dict[str, Run] = field(default_factory=dict)
    stores: list[tuple[Store, str, int]] = field(default_factory=list)
    late: Store | None = None
    """It begins `LATE_S` after the runs, without the shortest, which may end before it comes."""


def _pools(name: str, targets: Sequence[Sequence[str]], each: int) -> list[dict[str, Any]]:
    """`each` scrape pools for each node, told apart by a label of their own."""
    return [
        {
            "job_name": f"{name}-{node}-{number}",
            "honor_labels": name == "gateway",
            "static_configs": [{"targets": list(where), "labels": {"pool": f"{node}-{number}"}}],
        }
        for node, where in enumerate(targets)
        for number in range(each)
    ]


@contextmanager
def stores_and_runs(folder: Path, shapes: Sequence[tuple[int, int]] = SHAPES) -> Iterator[Seen]:
    """Play all runs at once, wait for their ends to be scraped, and leave the stores up."""
    seen = Seen()
    with ExitStack() as stack:
        machine = stack.enter_context(
            Simulator(
                gpus=[Gpu(profile=Constant(300.0)), Gpu(profile=Constant(300.0))],
                packages=[Package(profile=Constant(120.0), dram=Constant(15.0))],
            )
        )
        ports = [[f"127.0.0.1:{prometheus.free_port()}" for _ in shapes] for _ in range(NODES)]
        textfiles = [folder / f"textfiles-{node}" for node in range(NODES)]
        for place in textfiles:
            place.mkdir()
        node_exporters = [stack.enter_context(pushgateway.NodeExporter(place)) for place in textfiles]
        gateways = [stack.enter_context(pushgateway.Pushgateway()) for _ in range(NODES)]

        def add(store: Store, way: str, pools: int) -> Store:
            stack.enter_context(store)
            seen.stores.append((store, way, pools))
            return store

        files = _pools("textfile", [[server.target] for server in node_exporters], POOLS)
        groups = _pools("gateway", [[server.target] for server in gateways], POOLS)
        receives = ["--web.enable-remote-write-receiver"]
        add(PrometheusStore(folder / "p-scrape", _pools("scrape", ports, POOLS)), "scrape", POOLS)
        add(PrometheusStore(folder / "p-textfile", files), "textfile", POOLS)
        add(PrometheusStore(folder / "p-gateway", groups), "Pushgateway", POOLS)
        written = [add(PrometheusStore(folder / "p-agent", (), receives), "remote write by an agent", 2)]
        add(VictoriaStore(folder / "v-scrape", _pools("scrape", ports, 1)), "scrape", 1)
        add(VictoriaStore(folder / "v-textfile", files), "textfile", POOLS)
        add(VictoriaStore(folder / "v-gateway", groups), "Pushgateway", POOLS)
        written.append(add(VictoriaStore(folder / "v-agent", ()), "remote write by an agent", 2))
        agent = document(_pools("agent", ports, 2))
        agent["remote_write"] = [{"url": f"{store.url}/api/v1/write"} for store in written]
        stack.enter_context(prometheus.Agent(folder, json.dumps(agent)))
        otlp = []
        if PrometheusStore.takes_otlp():
            store = PrometheusStore(folder / "p-otlp", (), ["--web.enable-otlp-receiver"])
            add(store, "OTLP", 0)
            otlp.append(f"otlp:{store.url}/api/v1/otlp")
        receiver = VictoriaStore(folder / "v-otlp", (), _like_prometheus(folder))
        stack.enter_context(receiver)
        if receiver.takes_otlp():
            seen.stores.append((receiver, "OTLP", 0))
            otlp.append(f"otlp:{receiver.url}/opentelemetry")

        processes = {}
        for shape, places in zip(shapes, zip(*ports, strict=True), strict=True):
            for node, place in enumerate(places):
                run_id = f"run-{shape[0]}-{node}"
                (folder / run_id).mkdir()
                exporters = ["prometheus", "summary", f"textfile:{textfiles[node]}"]
                exporters += [f"pushgateway:{gateways[node].url}", *otlp]
                processes[run_id] = (
                    node,
                    shape,
                    _start(machine, folder / run_id, run_id, place, exporters, shape),
                )
        time.sleep(LATE_S)
        seen.late = late = PrometheusStore(
            folder / "p-late", _pools("late", [places[1:] for places in ports], 2)
        )
        stack.enter_context(late)
        seen.stores.insert(1, (late, "scrape by a server that comes late", 2))
        for run_id, (node, shape, process) in processes.items():
            _, errors = process.communicate(timeout=shape[0] + 10 * command.DEADLINE_S)
            if process.returncode:
                raise RuntimeError(f"{run_id}: {errors}")
            sys.stderr.writelines(line for line in errors.splitlines(keepends=True) if "failed" in line)
            seen.runs[run_id] = _told(folder / run_id, node, shape)
        time.sleep(END_S)
        yield seen


def _like_prometheus(folder: Path) -> list[str]:
    """Options of VictoriaMetrics, as far as it has them, for the names and labels of a scrape."""
    path = folder / "relabel.yml"
    rules = [
        {"source_labels": [source], "regex": "(.+)", "target_label": target}
        for source, target in (("service_name", "job"), ("service_instance_id", "instance"))
    ]
    path.write_text(json.dumps(rules))
    naming = "-opentelemetry.usePrometheusNaming"
    return [*([naming] if naming in VictoriaStore.options() else []), f"-relabelConfig={path}"]


def _start(
    machine: Simulator,
    folder: Path,
    run_id: str,
    place: str,
    exporters: Sequence[str],
    shape: tuple[int, int],
) -> subprocess.Popen[str]:
    words = ["run", "--own-monitor", "--run-id", run_id, "--gpus", "0,1", "--idle", "exclusive"]
    words += ["--sysfs", str(machine.sysfs), "--sensor", "nvml,rapl", "--listen", place]
    words += ["--pue", f"{PUE}", "--intensity", f"{INTENSITY}", "--exporter", ",".join(exporters)]
    job = [sys.executable, "-c", JOB, *map(str, shape)]
    return command.start([*words, "--", *job], folder, env=machine.environ, stdout=subprocess.DEVNULL)


def _told(folder: Path, node: int, shape: tuple[int, int]) -> Run:
    summary = command.summary(folder)
    start_s, end_s = (
        datetime.fromisoformat(summary["run"][key]).timestamp() for key in ("started_at", "ended_at")
    )
    phases = {name: phase["energy_j"] for name, phase in summary["energy"]["phases"].items()}
    return Run(node, shape, phases, start_s, end_s)
