"""Who scrapes: how many scrapers of each program and address came lately, told apart by their connections."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakSet

RECENT_S = 300.0
"""Prometheus looks at no target more rarely, for it forgets a series that is 5 minutes old."""

MAX_PROGRAMS = 16


class Connection:
    """One connection of a scraper; it counts while somebody else holds on to it."""

    __slots__ = ("__weakref__",)


class _Program(NamedTuple):
    last_s: float
    connections: WeakSet[Connection]


class Scrapers:
    """The scrapers of one monitor. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._programs: OrderedDict[str, _Program] = OrderedDict()

    def came(self, program: str, connection: Connection) -> None:
        """A scraper was answered: `program` is what it says that it is, and its address."""
        with self._lock:
            known = self._programs.pop(program, None)
            connections = WeakSet() if known is None else known.connections
            connections.add(connection)
            self._programs[program] = _Program(self._clock(), connections)
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)

    def recent(self) -> dict[str, int]:
        """How many scrapers of each program came within the last `RECENT_S`.

        They are as many as their open connections, and one where no connection is kept open.
        """
        with self._lock:
            now_s = self._clock()
            return {
                program: max(1, len(known.connections))
                for program, known in self._programs.items()
                if now_s - known.last_s <= RECENT_S
            }
