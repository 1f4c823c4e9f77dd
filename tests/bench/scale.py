"""One real Prometheus, and after it one real VictoriaMetrics, that scrape a thousand nodes on this machine.

Each node is a snapshot of 8 GPUs, 2 packages with memory and its runs, answered as carbonmon's own endpoint
does, with totals that grow, and runs and phases that begin and end. What is simulated is that one process
serves them all, and that each server keeps a connection to each node.
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from carbonmon_exporters.collector import OwnProcessCollector, SnapshotCollector
from carbonmon_exporters.endpoint.request import MEMORY
from carbonmon_exporters.endpoint.routes import Routes
from carbonmon_exporters.endpoint.scrapers import HEADER, Scrapers
from carbonmon_exporters.exposition import metrics_app
from prometheus_client import CollectorRegistry

from carbonmon.core.model import Device, NodeTotal, RunInfo, RunState, RunTotal, Snapshot
from tests.bench.store_servers import PrometheusStore, VictoriaStore
from tests.bench.table import Row, megabytes
from tests.support.records import device_state, dram, gpu, intensity, package, run_state, snapshot

INTERVAL_S = 15.0
PHASES = ("main", "train", "eval")
NODES_A_RUN = 8
DEVICES: tuple[Device, ...] = (*map(gpu, range(8)), *map(package, range(2)), *map(dram, range(2)))


RUNS_A_DAY = 10_000
RETAIN_S = 900.0


def rows(quick: bool) -> Iterator[Row]:
    nodes, seconds = (200, 90.0) if quick else (1000, 600.0)
    for kind in (PrometheusStore, VictoriaStore):
        yield from _measured(kind, nodes, seconds)


def node_snapshot(number: int, at_s: float, since_s: float) -> Snapshot:
    """What node `number` shows of runs that it shares with seven others, one after the other.

    The fleet of 1,000 nodes has `RUNS_A_DAY`. A run has three phases; the one before is shown for `RETAIN_S`.
    """
    group = number // NODES_A_RUN
    lasts_s = 86_400.0 / RUNS_A_DAY * 1000 / NODES_A_RUN
    shift_s = lasts_s * (group * 0.618 % 1.0)  # each group begins at another time
    place = math.floor((at_s - since_s + shift_s) / lasts_s)
    runs = []
    for run_number in (place - 1, place):
        begin_s = max(since_s, since_s - shift_s + run_number * lasts_s)
        end_s = since_s - shift_s + (run_number + 1) * lasts_s
        if since_s < end_s and at_s < end_s + RETAIN_S:
            runs.append(_run(number, f"slurm-{group}-{run_number}", begin_s, end_s, at_s))
    states = []
    for index, device in enumerate(DEVICES):
        watts = _watts(device, number, index)
        states.append(device_state(_own(device, number), counter_j=watts * (at_s - since_s), power_w=watts))
    shown = snapshot(tuple(runs), tuple(states), now=intensity(360.0, timestamp_s=at_s))
    return shown._replace(at_s=at_s, clock_s=at_s, start_s=since_s)


def _watts(device: Device, number: int, index: int) -> float:
    base = {"gpu": 320.0, "cpu": 180.0, "dram": 25.0}[device.component]
    return base * (1.0 + 0.2 * math.sin(number + index))


def _run(number: int, run_id: str, begin_s: float, end_s: float, at_s: float) -> RunState:
    until_s = min(at_s, end_s)
    has_ended = at_s >= end_s
    rows, power, unobserved, node = [], [], [], []
    for index, device in enumerate(DEVICES):
        own, method, watts = _own(device, number), device.methods[0], _watts(device, number, index)
        power.append((own.id, watts))
        unobserved.append((own.id, 0.0))
        node.append(NodeTotal(own.id, watts * (until_s - begin_s), 0.0, 0.0, 0.0))
        for order, phase in enumerate(PHASES):
            start_s = begin_s + order * (end_s - begin_s) / len(PHASES)
            joules = watts * min(until_s - start_s, (end_s - begin_s) / len(PHASES))
            if joules > 0.0:
                grams = joules * 1e-4
                rows.append(
                    RunTotal(
                        phase, device.component, own.id, method, joules, grams, grams, grams, start_s=start_s
                    )
                )
    host, labels = f"node{number}", (("user", "ada"),)
    info = RunInfo(run_id, "train", ("train",), labels, host, begin_s, "slurm", run_id[6:])
    run = run_state(
        info,
        tuple(rows),
        power_w=() if has_ended else tuple(power),
        cpu_s=(until_s - begin_s) * 40.0,
        processes=0 if has_ended else 17,
        ended_at_s=end_s if has_ended else None,
        exit_code=0 if has_ended else None,
    )
    return run._replace(unobserved_s=tuple(unobserved), node=tuple(node))


def _own(device: Device, number: int) -> Device:
    """The same device with an id of its own on each node, as GPUs have."""
    if device.component != "gpu":
        return device
    return gpu(number * 8 + (device.index or 0))


class _Nodes:
    """The endpoints of all nodes: what each server has seen of each is kept as over an open connection."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.served = self.bytes_served = 0
        self._own = OwnProcessCollector(Path("/proc"))
        self._apps: dict[int, Routes] = {}
        self._memories: defaultdict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self._lock = threading.Lock()

    def answer(self, number: int, headers: Any) -> tuple[str, bytes]:
        """(content type, body) for a scrape of a node."""
        with self._lock:
            app = (
                self._apps.setdefault(number, self._app(number))
                if number not in self._apps
                else self._apps[number]
            )
            memory = self._memories[headers.get("User-Agent", ""), number]
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": "",
            "HTTP_ACCEPT": headers.get("Accept", ""),
            "HTTP_USER_AGENT": headers.get("User-Agent", ""),
            HEADER: headers.get("X-Prometheus-Scrape-Timeout-Seconds", ""),
            MEMORY: memory,
        }
        types: list[str] = []

        def start_response(status: str, fields: list[tuple[str, str]], _: Any = None) -> Any:
            assert status.startswith("200"), status
            types.append(dict(fields)["Content-Type"])

        body = b"".join(app(environ, start_response))
        with self._lock:
            self.served += 1
            self.bytes_served += len(body)
        return types[0], body

    def _app(self, number: int) -> Routes:
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(lambda: node_snapshot(number, time.time(), self.since_s)))
        registry.register(self._own)
        return Routes(metrics_app(registry), lambda: True, Scrapers(lambda: False))


class _Handler(BaseHTTPRequestHandler):
    """`/N/metrics` is node N."""

    protocol_version = "HTTP/1.1"
    nodes: _Nodes

    def do_GET(self) -> None:
        content_type, body = self.nodes.answer(int(self.path.split("/")[1]), self.headers)
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024


Store = PrometheusStore | VictoriaStore
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "carbonmon.rules.yml"


def _measured(kind: type[PrometheusStore] | type[VictoriaStore], nodes: int, seconds: float) -> Iterator[Row]:
    _Handler.nodes = _Nodes(time.time())
    server = _HttpServer(("127.0.0.1", 0), _Handler)
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
        scrapes = [{"job_name": "carbonmon", "file_sd_configs": [{"files": [str(folder / "targets.json")]}]}]
        place = folder / "server"
        store: Store
        if issubclass(kind, PrometheusStore):
            store = kind(place, scrapes, (), [RULES])
        else:
            store = kind(place, scrapes)
        with store:
            time.sleep(seconds)
            yield from _figures(store, nodes, seconds, place)
    server.shutdown()


PROMETHEUS = {
    "series": "prometheus_tsdb_head_series",
    "memory": "process_resident_memory_bytes",
    "cpu": "process_cpu_seconds_total",
    "samples": "prometheus_tsdb_head_samples_appended_total",
    "refused": "prometheus_target_scrapes_sample_out_of_order_total",
    "doubled": "prometheus_target_scrapes_sample_duplicate_timestamp_total",
    "old": "prometheus_target_scrapes_sample_out_of_bounds_total",
}
VICTORIA = {
    "series": "vm_new_timeseries_created_total",
    "memory": "process_resident_memory_bytes",
    "cpu": "process_cpu_seconds_total",
    "samples": 'vm_rows_inserted_total{type="promscrape"}',
}


def _figures(store: Store, nodes: int, seconds: float, folder: Path) -> Iterator[Row]:
    def number(query: str) -> float:
        found = store.number(query)
        assert found is not None, query
        return found

    own = store.own(PROMETHEUS if isinstance(store, PrometheusStore) else VICTORIA)
    up = number('sum(up{job="carbonmon"})')
    series = number('avg(scrape_samples_scraped{job="carbonmon"})')
    failed = number('sum(count_over_time((up{job="carbonmon"} == 0)[15m:15s])) or vector(0)')
    slowest = number('max(scrape_duration_seconds{job="carbonmon"})')
    runs = number("count(count by (run_id) (last_over_time(carbonmon_run_start_time_seconds[15m])))")
    scrape_bytes = _Handler.nodes.bytes_served / max(1, _Handler.nodes.served)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    how = (
        f"{nodes} targets every {INTERVAL_S:.0f} s for {seconds:.0f} s; 8 GPUs and 2 packages with memory, "
        f"{RUNS_A_DAY} runs a day of {len(PHASES)} phases on 1,000 nodes, {NODES_A_RUN} nodes a run"
    )
    yield Row(
        f"{store.kind}: series of a node; size of a scrape, uncompressed",
        "",
        f"{series:.0f}; {scrape_bytes / 1e3:.1f} kB",
        how,
    )
    refused = ", ".join(f"{name} {own[name]:.0f}" for name in ("refused", "doubled", "old") if name in own)
    yield Row(
        f"{store.kind} with {nodes} nodes",
        "",
        f"{up:.0f} up, {runs:.0f} runs, {own['series']:.0f} series, "
        f"{own['samples'] / seconds:.0f} samples/s, "
        f"{megabytes(own['memory'])} resident ({own['memory'] / own['series'] / 1e3:.1f} kB a series), "
        f"{own['cpu'] / seconds:.2f} of a core; slowest scrape {slowest * 1e3:.0f} ms, {failed:.0f} failed; "
        f"samples refused: {refused or 'not told'}; on disk {megabytes(disk)}",
        how,
    )
    if isinstance(store, PrometheusStore):
        rules_s = max(store.own({"rules": "prometheus_rule_group_last_duration_seconds"}).values())
        measured = f"{rules_s * 1e3:.0f} ms; {store.warnings()}"
        yield Row("slowest group of rules; warnings in its log", "", measured, how)
