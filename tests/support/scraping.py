"""A metrics endpoint of a snapshot, and clients of it."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator
from typing import Any

from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.core.model import Snapshot
from carbonmon.core.ports import ExporterSettings

DEADLINE_S = 10.0
"""How long a test waits for what should come at once; only a failure takes that long."""


Address = tuple[str, int]


@contextlib.contextmanager
def serving(shown: Snapshot | Callable[[], Snapshot], **options: Any) -> Iterator[Address]:
    """Serve a snapshot on a free port of the loopback."""
    latest = shown if callable(shown) else lambda: shown
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)), **options)
    place = exporter.start(latest)
    try:
        yield "127.0.0.1", int(place.removeprefix("http://127.0.0.1:").removesuffix("/metrics"))
    finally:
        exporter.close()


def ask(
    address: Address, path: str = "/metrics", method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer, answer.read()
