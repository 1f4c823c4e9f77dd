"""The cost of scrapes in TLS with a password while many idle and slow clients are connected."""

from __future__ import annotations

import gzip
import re
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from tests.bench import node
from tests.bench.table import Row, megabytes, spread
from tests.simulator import Simulator
from tests.support import command
from tests.support.metrics_endpoint import Authority, basic, hashed

RATE_HZ = 50.0
INTERVAL_S = 0.2
IDLE, SLOW = 200, 20
IDLE_HOST, SLOW_HOST, GUESSING_HOST = "127.0.0.2", "127.0.0.3", "127.0.0.4"
"""Strangers come from other addresses of the loopback than the scraper, as they would on a network."""

SETTLE_S = 3.0
_SAMPLED = re.compile(rb"^carbonmon_last_sample_timestamp_seconds (\S+)$", re.MULTILINE)
_PLACE = re.compile(r"https://127\.0\.0\.1:(\d+)/metrics")


class Seen(NamedTuple):
    """What a scraper saw: the seconds of each scrape, the times of the samples, what failed; and the
    monitor's CPU time against one CPU's."""

    scrape_s: list[float]
    sampled_s: list[float]
    failed: int
    cpu_ratio: float

    def late_s(self) -> list[float]:
        """How late each sample was on the sampler's grid; the earliest is taken for punctual."""
        first_s = self.sampled_s[0]
        half_s = INTERVAL_S / 2
        off_s = [(at_s - first_s + half_s) % INTERVAL_S - half_s for at_s in self.sampled_s]
        return [one_s - min(off_s) for one_s in off_s]


def rows(quick: bool) -> Iterator[Row]:
    duration_s = 6.0 if quick else 30.0
    with node.machine() as sim, Locked(sim) as monitor:
        time.sleep(SETTLE_S)
        alone = monitor.scraped(duration_s)
        peak_before = monitor.peak_bytes()
        with monitor.crowd("idle", IDLE), monitor.crowd("slow", SLOW):
            time.sleep(1.0)
            crowded = monitor.scraped(duration_s)
        peak = monitor.peak_bytes()
        crowd = f"{IDLE} idle clients and {SLOW} in handshakes of single bytes, who come again when cut"
        for seen, who in ((alone, "nobody else"), (crowded, crowd)):
            yield Row(
                f"one scrape in TLS with a password at {RATE_HZ:.0f} a second, 8 GPUs and 2 packages; {who}",
                "≤ 10 ms" if seen is crowded else "",
                f"{spread(seen.scrape_s, 'ms', 1e3, 2)}; {seen.failed} of "
                f"{len(seen.scrape_s) + seen.failed} failed",
                f"connect to end of answer, median (quartiles) over {duration_s:.0f} s on loopback, each "
                f"with a handshake of its own; the slowest {max(seen.scrape_s) * 1e3:.1f} ms",
            )
        yield Row(
            "the sampler's grid meanwhile",
            "within 5 ms",
            f"{_late(crowded)}; with nobody else {_late(alone)}",
            f"start of a tick against its place on the grid of {INTERVAL_S} s, by the times of the samples "
            f"in /metrics; {len(crowded.sampled_s)} ticks",
        )
        yield Row(
            "the monitor's peak memory meanwhile",
            "",
            f"{megabytes(peak)}; {megabytes(peak_before)} before the crowd",
            "VmHWM of /proc/PID/status",
        )
        with monitor.crowd("guessing", 1):
            guessed = monitor.scraped(duration_s)
        yield Row(
            "the same scrapes beside one who guesses passwords as fast as he is answered",
            "",
            f"{spread(guessed.scrape_s, 'ms', 1e3, 2)}, {guessed.failed} failed; grid {_late(guessed)}; the "
            f"monitor's CPU {guessed.cpu_ratio:.0%} of one, {alone.cpu_ratio:.0%} with the scrapes alone",
            f"bcrypt at cost 10, over {duration_s:.0f} s; {crowded.cpu_ratio:.0%} beside the crowd above",
        )


def _late(seen: Seen) -> str:
    late_s = seen.late_s()
    high_s = statistics.quantiles(late_s, n=100, method="inclusive")[98]
    return (
        f"median {statistics.median(late_s) * 1e3:.2f} ms late, 99 % {high_s * 1e3:.2f}, "
        f"at most {max(late_s) * 1e3:.2f}"
    )


class Locked(node.Monitored):
    """`carbonmon run` with TLS and a password."""

    def __init__(self, sim: Simulator) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="carbonmon-bench-")))
        authority = Authority(self.folder)
        authority.issue("server")
        (self.folder / "web-config.yml").write_text(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
            f"basic_auth_users:\n  prometheus: {hashed(cost=10)}\n"
        )
        self._client = authority.client()
        options = ["--web-config", "web-config.yml", "--sysfs", node.sysfs(sim), "--idle", "exclusive"]
        options += ["--interval", str(INTERVAL_S), "--checkpoint", str(INTERVAL_S)]
        self.process = subprocess.Popen(
            node.inside(sim, [command.CARBONMON, "run", *options, "--", "cat"]),
            cwd=self.folder,
            env=node.environ(sim.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(self._stop)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        place = _PLACE.search(line)
        if place is None:
            raise RuntimeError(line)
        self.url, self._port = place[0], int(place[1])
        headers = {**node.AS_PROMETHEUS_ASKS, **basic("prometheus"), "Connection": "close"}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._request = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode()

    def scraped(self, duration_s: float) -> Seen:
        """Scrape at a fixed rate, one at a time."""
        times: list[float] = []
        sampled: dict[float, None] = {}
        failed = 0
        begin_s, before_s = time.monotonic(), self.cpu_s()
        for number in range(int(duration_s * RATE_HZ)):
            time.sleep(max(0.0, begin_s + number / RATE_HZ - time.monotonic()))
            one_s = time.perf_counter()
            try:
                body = self._get()
            except OSError:
                failed += 1
                continue
            times.append(time.perf_counter() - one_s)
            found = _SAMPLED.search(gzip.decompress(body))
            if found:
                sampled[float(found[1])] = None
        spent_s = self.cpu_s() - before_s
        return Seen(times, list(sampled), failed, spent_s / (time.monotonic() - begin_s))

    def _get(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self._port), timeout=node.PATIENCE_S) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._client.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(self._request)
                chunks = []
                while chunk := connection.recv(65536):
                    chunks.append(chunk)
        head, _, body = b"".join(chunks).partition(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise OSError(head.decode())
        return body

    def crowd(self, kind: str, count: int) -> Crowd:
        return Crowd([sys.executable, "-m", "tests.bench.endpoint", kind, str(self._port), str(count)])


class Crowd:
    """Clients in a process of their own, which ends with this one at the latest."""

    def __init__(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            arguments, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, env=command.environ()
        )

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its stdin, which ends it


def main(kind: str, port: int, count: int) -> None:
    """In the child: be a crowd until stdin is closed."""
    if kind == "guessing":
        guess(port)
    else:
        throng(kind, port, count)


def throng(kind: str, port: int, count: int) -> None:
    """Connect and say nothing, or one byte of a handshake in 50 ms; who is cut comes again after a second."""
    host = IDLE_HOST if kind == "idle" else SLOW_HOST
    hello = _client_hello()
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    said: dict[socket.socket, int] = {}
    due_s = [time.monotonic() + number / count for number in range(count)]
    said_s = time.monotonic()
    while True:
        for key, _ in waiting.select(0.02):
            if key.fileobj is sys.stdin:
                return
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            _end(waiting, connection, said)
            due_s.append(time.monotonic() + 1.0)
        now_s = time.monotonic()
        for _ in [one_s for one_s in due_s if one_s <= now_s]:
            connection = socket.create_connection(("127.0.0.1", port), source_address=(host, 0))
            connection.setblocking(False)
            waiting.register(connection, selectors.EVENT_READ)
            said[connection] = 0
        due_s = [one_s for one_s in due_s if one_s > now_s]
        if kind == "slow" and now_s - said_s >= 0.05:
            said_s = now_s
            for connection in list(said):
                place = said[connection]
                said[connection] += 1
                with suppress(OSError):
                    connection.send(hello[place : place + 1])


def _end(waiting: selectors.BaseSelector, connection: socket.socket, said: dict[socket.socket, int]) -> None:
    waiting.unregister(connection)
    said.pop(connection, None)
    connection.close()


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def guess(port: int) -> None:
    """One wrong password after another."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stopped = selectors.DefaultSelector()
    stopped.register(sys.stdin, selectors.EVENT_READ)
    number = 0
    while not stopped.select(0):
        number += 1
        header = basic("prometheus", f"guess {number}")["Authorization"]
        with suppress(OSError):
            plain = socket.create_connection(("127.0.0.1", port), 5.0, (GUESSING_HOST, 0))
            with context.wrap_socket(plain) as connection:
                connection.sendall(f"GET / HTTP/1.0\r\nAuthorization: {header}\r\n\r\n".encode())
                while connection.recv(65536):
                    pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
