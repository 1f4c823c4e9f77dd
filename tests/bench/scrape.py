"""How long a scrape of a working monitor takes, as its client sees it on loopback, and one of many runs."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from carbonmon_exporters.collector import SnapshotCollector
from carbonmon_exporters.exposition import encoded
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from tests.bench import node
from tests.bench.table import Row, spread
from tests.support.records import crowd

TARGET = "≤ 5 ms"
MANY_RUNS = 100
SETTLE_S = 8.0  # what is shown is the newest checkpoint: every series is there after one and two ticks


def rows(quick: bool) -> Iterator[Row]:
    count = 200 if quick else 500
    with node.machine() as sim, node.Monitored(sim) as monitored:
        time.sleep(SETTLE_S)
        asked = {
            "in plain text": "",
            "as Prometheus asks (OpenMetrics, gzip)": "".join(
                f"{name}: {value}\r\n" for name, value in node.AS_PROMETHEUS_ASKS.items()
            ),
        }
        for name, headers in asked.items():
            get(monitored.url, headers)
            times, body = [], b""
            for _ in range(count):
                elapsed_s, body = get(monitored.url, headers)
                times.append(elapsed_s)
                time.sleep(0.005)
            plain = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            series = sum(not text.startswith(b"#") for text in plain.splitlines())
            yield Row(
                f"one scrape {name}, 8 GPUs and 2 packages with dram, one run",
                TARGET,
                f"{spread(times, 'ms', 1e3, 2)}; {series} series in {len(body):,} bytes",
                f"connect to end of answer, median (quartiles) of {count} GETs on loopback; "
                f"the slowest of them {max(times) * 1e3:.1f} ms",
            )
        monitored.end()
    yield from many_runs(count // 10)


def many_runs(count: int) -> Iterator[Row]:
    """What a node's service spends on a scrape of many runs that share all of its devices."""
    snapshot = crowd(MANY_RUNS)
    collector = SnapshotCollector(lambda: snapshot)
    registry = CollectorRegistry()
    registry.register(collector)
    series = sum(len(family.samples) for family in collector.collect())
    encoder, content_type = choose_encoder("application/openmetrics-text;version=1.0.0")
    calls: dict[str, Callable[[], object]] = {
        "families of": lambda: list(collector.collect()),
        "OpenMetrics text of": lambda: encoded(list(registry.collect()), content_type, encoder),
        "the same by the library's encoder, of": lambda: encoder(registry),
    }
    for what, call in calls.items():
        call()
        times = []
        for _ in range(count):
            begin_s = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin_s)
        yield Row(
            f"{what} {MANY_RUNS} runs on {len(snapshot.devices)} devices",
            "",
            f"{spread(times, 'ms', 1e3, 2)}; {series} series",
            f"in the process itself, median (quartiles) of {count}",
        )


def get(url: str, headers: str) -> tuple[float, bytes]:
    """(seconds, body) of one GET with next to no client around it."""
    place = urlsplit(url)
    address = place.hostname or "", place.port or 0
    request = f"GET {place.path} HTTP/1.0\r\nHost: {place.netloc}\r\n{headers}\r\n".encode()
    begin_s = time.perf_counter()
    with socket.create_connection(address, timeout=node.PATIENCE_S) as connection:
        connection.sendall(request)
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    elapsed_s = time.perf_counter() - begin_s
    head, _, body = b"".join(chunks).partition(b"\r\n\r\n")
    if b" 200 " not in head.splitlines()[0]:
        raise RuntimeError(head.decode())
    return elapsed_s, body
