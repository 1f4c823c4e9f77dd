"""Who scrapes: each scrape with its program, address and connection, and which scrapers came lately."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from carbonmon_exporters.births import SCRAPER_HEADER
from carbonmon_exporters.endpoint.request import CONNECTION, Connection

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

RECENT_S = 300.0
"""Prometheus looks at no target more rarely, for it forgets a series that is 5 minutes old."""

MAX_PROGRAMS = 16


class Scrape(NamedTuple):
    """One scrape. `program` is what the scraper says that it is, and its address. `at_s` is Unix time.

    `is_text`: the answer is in the text format, not in OpenMetrics.
    """

    program: str
    connection: Connection
    is_text: bool
    at_s: float

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Scrape | None:
        """The scrape that a request is; None for one of anybody who names no scrape time-out."""
        if SCRAPER_HEADER not in environ or environ["REQUEST_METHOD"] != "GET":
            return None
        program = f"{environ.get('REMOTE_ADDR')} {environ.get('HTTP_USER_AGENT')}"
        is_text = "application/openmetrics-text" not in environ.get("HTTP_ACCEPT", "")
        return cls(program, environ.get(CONNECTION) or Connection(), is_text, time.time())


present: ContextVar[Scrape | None] = ContextVar("present", default=None)
"""The scrape that is answered in this thread, None for anybody else."""


class _Program:
    def __init__(self) -> None:
        self.last_s = 0.0
        self.seen_s = 0.0
        self.connections: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()


class Recent(NamedTuple):
    """The scrapers of one program: how many there are, and until when (Unix time) all have seen all."""

    scrapers: int
    seen_s: float


class RecentScrapers:
    """The scrapers of one monitor. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._programs: OrderedDict[str, _Program] = OrderedDict()

    def came(self, scrape: Scrape, seen_s: float) -> None:
        """A scraper was shown all that was known at `seen_s` (Unix time)."""
        with self._lock:
            known = self._programs.pop(scrape.program, None) or _Program()
            known.last_s, known.seen_s = self._clock(), seen_s
            known.connections[scrape.connection] = seen_s
            self._programs[scrape.program] = known
            if len(self._programs) > MAX_PROGRAMS:
                self._programs.popitem(last=False)

    def recent(self) -> dict[str, Recent]:
        """The programs that came within the last `RECENT_S`.

        Of each there are as many scrapers as open connections, and one where no connection is kept open.
        """
        with self._lock:
            now_s = self._clock()
            return {
                program: Recent(
                    max(1, len(known.connections)), min(known.connections.values(), default=known.seen_s)
                )
                for program, known in self._programs.items()
                if now_s - known.last_s <= RECENT_S
            }
