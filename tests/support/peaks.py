"""How far clients of ours grow in memory: a process that asks servers, and tells its peak after each of them.

    python -m tests.support.peaks CLIENT URL...

prints a line of JSON for each URL: VmHWM in bytes, the seconds that it took, and how it ended. The first
server should be one that works: its peak is the normal one.
"""

from __future__ import annotations

import atexit
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOST_BYTES = 1 << 30
"""No client of the tests may take the machine's memory."""

Ask = Callable[[str], object]


class Peak(NamedTuple):
    """`peak_bytes` is VmHWM after asking, `error` the text of what was raised, "" for nothing."""

    peak_bytes: int
    seconds: float
    error: str


def grid(time_limit_s: float) -> Ask:
    from carbonmon.grid.http import LiveHttp

    return LiveHttp(time_limit_s).get_json


def prometheus(time_limit_s: float) -> Ask:
    from carbonmon.analysis.prometheus.client import Api

    return lambda url: Api(url, {}, time_limit_s, limit_bytes=1 << 20).now_s()


def kubernetes(time_limit_s: float) -> Ask:
    from carbonmon.service.kubernetes.api import ApiServer

    account = tempfile.TemporaryDirectory()
    atexit.register(account.cleanup)

    def ask(url: str) -> None:
        server = ApiServer(url, "node-1", Path(account.name), time_limit_s, 1 << 20, 1 << 20)
        try:
            server.pods()
        finally:
            list(server.watch("1"))

    return ask


def pushgateway(time_limit_s: float) -> Ask:
    from carbonmon_exporters.push.pusher import Parcel
    from carbonmon_exporters.pushgateway import PushgatewayExporter

    from tests.support.records import node

    return lambda url: PushgatewayExporter(url, timeout_s=time_limit_s)._send(Parcel(node(1, 1, 1), True))


def otlp(time_limit_s: float) -> Ask:
    from carbonmon_exporters.otlp import OtlpExporter
    from carbonmon_exporters.push.pusher import Parcel

    from tests.support.records import node

    def ask(url: str) -> None:
        exporter = OtlpExporter(url, time_limit_s)
        exporter._send(Parcel(node(1, 1, 1), True))
        exporter.close()

    return ask


CLIENTS: dict[str, Callable[[float], Ask]] = {
    "grid": grid,
    "prometheus": prometheus,
    "kubernetes": kubernetes,
    "pushgateway": pushgateway,
    "otlp": otlp,
}


def peaks(client: str, urls: Sequence[str], time_limit_s: float, timeout_s: float = 120.0) -> list[Peak]:
    """The peaks of a new process that asks the servers one after another."""
    words = [sys.executable, "-m", "tests.support.peaks", client, str(time_limit_s), *urls]
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=True)
    return [Peak(**json.loads(line)) for line in done.stdout.splitlines()]


def own_peak_bytes() -> int:
    # ru_maxrss is inherited through fork and exec from a bigger parent.
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+)", status)
    assert found is not None
    return int(found[1]) * 1024


def main(client: str, time_limit_s: str, *urls: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    ask = CLIENTS[client](float(time_limit_s))
    for place, url in enumerate(urls):
        if place == 0:  # what the first one leaves behind is normal as well
            with suppress(Exception):
                ask(url)
        began_s, error = time.monotonic(), ""
        try:
            ask(url)
        except Exception as caught:  # noqa: BLE001  # whatever it is, the peak counts
            error = f"{type(caught).__name__}: {caught}"
        print(json.dumps(Peak(own_peak_bytes(), time.monotonic() - began_s, error)._asdict()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
