"""The process that serves ended runs, which only a monitor starts (`start.py`).

It waits for scrapes and wakes for nothing else. It ends when each scraper has come, when the time is over,
when a monitor has taken its port, or with SIGTERM; in any case when its alarm rings.
"""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from carbonmon.core.errors import ConfigError
from carbonmon.core.metrics import FAMILIES
from carbonmon_exporters.ended import answer, channel
from carbonmon_exporters.ended.bundle import Bundle
from carbonmon_exporters.ended.page import ended_page
from carbonmon_exporters.ended.runs import EndedRuns
from carbonmon_exporters.ended.visits import Visit, visiting
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.routes import Routes
from carbonmon_exporters.endpoint.server import READ_TIMEOUT_S, MetricsServer
from carbonmon_exporters.exposition import metrics_app
from carbonmon_exporters.families import empty

GRACE_S = 10.0
"""How long after its time it is ended by the kernel, should anything hang."""

NICENESS = 5
OOM_SCORE = 1000
"""The highest: where memory is short it goes before any process that does something."""


class EndedCollector(Collector):
    """The metrics of ended runs: all that the newest monitor showed last, and the runs of those before it."""

    def __init__(self, ended: EndedRuns) -> None:
        self._ended = ended

    def describe(self) -> list[Metric]:
        """All families without samples, so that `?name[]=` finds them."""
        return [empty(family) for family in FAMILIES]

    def collect(self) -> Iterable[Metric]:
        families: list[Metric] = []
        for number, ended in enumerate(reversed(self._ended.shown())):
            answer.add(families, ended.families(visiting.get(), only_runs=number > 0))
        return families


class Process:
    """Serves a bundle on a listening socket until that is over. `waiting` is the channel, if there is one."""

    def __init__(self, listening: socket.socket, bundle: Bundle, waiting: socket.socket | None) -> None:
        self._listening = listening
        self._bundle = bundle
        self._waiting = waiting
        self._ended = EndedRuns()
        self._changed = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def serve(self) -> None:
        """Return when each scraper has come, when the time is over, or when a monitor has taken the port.

        Raises ConfigError for a web config that is gone or bad, and for one that protects less.
        """
        self._ended.take(self._ended.read(self._bundle.ended))
        # It counts real time, and nothing in this process can hold it back.
        signal.alarm(math.ceil(self._ended.left_s() + GRACE_S))
        server = self._open()
        ready = select.poll()
        ready.register(self._changed, select.POLLIN)
        if self._waiting is not None:
            self._waiting.setblocking(False)
            ready.register(self._waiting, select.POLLIN)
        server.start()
        try:
            while left_s := self._ended.left_s():
                if any(fd != self._changed for fd, _ in ready.poll(left_s * 1000.0)):
                    if self._give_away(server):
                        break
                else:
                    with suppress(BlockingIOError):  # the time is over
                        os.eventfd_read(self._changed)
        finally:
            server.close(READ_TIMEOUT_S)

    def _open(self) -> MetricsServer:
        policy = AccessPolicy(self._bundle.web_config)
        if self._bundle.protects_less(policy):
            raise ConfigError("the web config protects less than the one with which the runs were served")
        registry = CollectorRegistry()
        registry.register(EndedCollector(self._ended))
        app = Routes(
            metrics_app(registry), lambda: True, came=self._came, pages=partial(ended_page, self._ended)
        )
        return MetricsServer(
            self._listening.getsockname()[:2], lambda: app, policy, listening=self._listening
        )

    def remove_target(self) -> None:
        if self._bundle.target is not None:
            with suppress(OSError):
                self._bundle.target.unlink()

    def _came(self, visit: Visit) -> None:
        self._ended.came(visit)
        os.eventfd_write(self._changed, 1)

    def _give_away(self, server: MetricsServer) -> bool:
        """Give port and runs to the monitor that has connected; False if it did not take them."""
        assert self._waiting is not None
        try:
            connection, _ = self._waiting.accept()
        except OSError:  # it has gone
            return False
        with connection:
            data = replace(self._bundle, ended=self._ended.to_json()).to_bytes()
            said = channel.offer(connection, data, server.socket)
            if said not in (channel.TAKEN, channel.TAKEN_WITH_TARGET):
                return False
            server.stop_accepting()
            if said == channel.TAKEN:
                self.remove_target()
            self._bundle = replace(self._bundle, target=None)
            return True


def main(listening: int, data: int, waiting: int | None = None) -> None:
    """Serve what the descriptors give: a listening socket, a memory file with the bundle, and the channel."""
    with suppress(OSError):
        os.nice(NICENESS)
        Path("/proc/self/oom_score_adj").write_text(f"{OOM_SCORE}\n")
    with open(data, "rb") as file:
        file.seek(0)
        bundle = Bundle.from_bytes(file.read())
    if bundle is None:
        return
    process = Process(
        socket.socket(fileno=listening), bundle, None if waiting is None else socket.socket(fileno=waiting)
    )
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        process.serve()
    finally:
        process.remove_target()
