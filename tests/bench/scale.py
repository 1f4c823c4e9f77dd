"""One real Prometheus that scrapes a thousand nodes' worth of real carbonmon output on this machine.

Each node is a snapshot of 8 GPUs, 2 packages with memory and a run, rendered by carbonmon's own collector at
every scrape with totals that grow; what is simulated is that one process serves them all.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from carbonmon_exporters.collector import OwnProcessCollector, SnapshotCollector
from prometheus_client import CollectorRegistry, generate_latest

from carbonmon.core.model import Device, NodeTotal, RunInfo, RunTotal, Snapshot
from tests.bench.table import Row, megabytes
from tests.support import prometheus
from tests.support.records import device_state, dram, gpu, intensity, package, run_state, snapshot

INTERVAL_S = 15.0
PHASES = ("main", "train", "eval")
NODES_A_RUN = 8
DEVICES: tuple[Device, ...] = (*map(gpu, range(8)), *map(package, range(2)), *map(dram, range(2)))


def rows(quick: bool) -> Iterator[Row]:
    nodes, seconds = (200, 90.0) if quick else (1000, 600.0)
    yield from _measured(nodes, seconds)


def node_snapshot(number: int, at_s: float, since_s: float) -> Snapshot:
    """What node `number` shows: a run that it shares with seven others, in three phases."""
    age_s = at_s - since_s
    run_id = f"slurm-{1000 + number // NODES_A_RUN}"
    rows, states, power = [], [], []
    for place, device in enumerate(DEVICES):
        watts = {"gpu": 320.0, "cpu": 180.0, "dram": 25.0}[device.component]
        watts *= 1.0 + 0.2 * math.sin(0.1 * at_s + number + place)
        own, method = _own(device, number), device.methods[0]
        joules = watts * age_s
        states.append(device_state(own, counter_j=joules, power_w=watts))
        power.append((own.id, watts))
        for share, phase in zip((0.1, 0.7, 0.2), PHASES, strict=True):
            grams = share * joules * 1e-4
            rows.append(
                RunTotal(phase, device.component, own.id, method, share * joules, grams, grams, grams)
            )
    info = RunInfo(
        run_id, "train", ("train",), (("user", "ada"),), f"node{number}", since_s, "slurm", run_id[6:]
    )
    run = run_state(info, tuple(rows), power_w=tuple(power), cpu_s=age_s * 40.0, processes=17)
    run = run._replace(
        unobserved_s=tuple((device_id, 0.0) for device_id, _ in power),
        node=tuple(NodeTotal(device_id, watts * age_s, 0.0, 0.0, 0.0) for device_id, watts in power),
    )
    return snapshot((run,), tuple(states), now=intensity(360.0, timestamp_s=at_s))._replace(at_s=at_s)


def _own(device: Device, number: int) -> Device:
    """The same device with an id of its own on each node, as GPUs have."""
    if device.component != "gpu":
        return device
    return gpu(number * 8 + (device.index or 0))


class _Handler(BaseHTTPRequestHandler):
    """`/N/metrics` is node N."""

    protocol_version = "HTTP/1.1"
    since_s = 0.0
    served = 0
    bytes_served = 0
    lock = threading.Lock()
    own = OwnProcessCollector(Path("/proc"))

    def do_GET(self) -> None:
        number = int(self.path.split("/")[1])
        registry = CollectorRegistry()
        shown = node_snapshot(number, time.time(), self.since_s)
        registry.register(SnapshotCollector(lambda: shown))
        registry.register(self.own)
        body = generate_latest(registry)
        with self.lock:
            _Handler.served += 1
            _Handler.bytes_served += len(body)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _measured(nodes: int, seconds: float) -> Iterator[Row]:
    _Handler.since_s = time.time()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory(prefix="carbonmon-bench-") as name:
        folder = Path(name)
        entries = [
            {
                "targets": [address],
                "labels": {"__metrics_path__": f"/{number}/metrics", "instance": f"node{number}"},
            }
            for number in range(nodes)
        ]
        (folder / "targets.json").write_text(json.dumps(entries))
        rules = Path(__file__).parents[2] / "deploy" / "prometheus" / "carbonmon.rules.yml"
        config = (
            f"global: {{scrape_interval: {INTERVAL_S:.0f}s, evaluation_interval: 30s}}\n"
            f"rule_files: [{rules}]\n"
            "scrape_configs:\n"
            f"  - {{job_name: carbonmon, file_sd_configs: [{{files: [{folder / 'targets.json'}]}}]}}\n"
            f"  - {{job_name: self, static_configs: [{{targets: ['SELF']}}]}}\n"
        )
        with _Database(folder, config) as database:
            deadline_s = time.monotonic() + seconds
            while time.monotonic() < deadline_s:
                time.sleep(5.0)
            yield from _figures(database, nodes, seconds, folder)
    server.shutdown()


class _Database(prometheus.Prometheus):
    """A Prometheus with a configuration of its own, in which SELF is its own address."""

    def __init__(self, folder: Path, config: str) -> None:
        program = prometheus.binary()
        assert program is not None, "no Prometheus, and no apt-get to fetch it"
        self._port = prometheus.free_port()
        path = folder / "prometheus.yml"
        path.write_text(config.replace("SELF", f"127.0.0.1:{self._port}"))
        arguments = [
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def _figures(database: _Database, nodes: int, seconds: float, folder: Path) -> Iterator[Row]:
    def number(query: str) -> float:
        found = database.number(query)
        assert found is not None, query
        return found

    up = number('sum(up{job="carbonmon"})')
    series = number('avg(scrape_samples_scraped{job="carbonmon"})')
    head = number("prometheus_tsdb_head_series")
    resident = number('process_resident_memory_bytes{job="self"}')
    cpu = number('rate(process_cpu_seconds_total{job="self"}[2m])')
    rate = number("rate(prometheus_tsdb_head_samples_appended_total[2m])")
    slowest = number('max(scrape_duration_seconds{job="carbonmon"})')
    rules_s = number("max(prometheus_rule_group_last_duration_seconds)")
    scrape_bytes = _Handler.bytes_served / max(1, _Handler.served)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    how = (
        f"Debian's Prometheus, {nodes} targets every {INTERVAL_S:.0f} s for {seconds:.0f} s; 8 GPUs and 2 "
        f"packages with memory, a run of {len(PHASES)} phases, {NODES_A_RUN} nodes a run; our recording rules"
    )
    yield Row(f"series of a node with one run, {len(PHASES)} phases", "", f"{series:.0f}", how)
    yield Row("size of a scrape, uncompressed", "", f"{scrape_bytes / 1e3:.1f} kB", how)
    yield Row(
        f"one Prometheus with {nodes} nodes",
        "",
        f"{up:.0f} up, {head:.0f} series, {rate:.0f} samples/s ({rate * 86400 / 1e6:.0f} million a day), "
        f"{megabytes(resident)} resident ({resident / head / 1e3:.1f} kB a series), {cpu:.2f} of a core",
        how,
    )
    yield Row(
        "slowest scrape; slowest group of rules", "", f"{slowest * 1e3:.0f} ms; {rules_s * 1e3:.0f} ms", how
    )
    yield Row("on disk after the run, write-ahead log included", "", megabytes(disk), how)
