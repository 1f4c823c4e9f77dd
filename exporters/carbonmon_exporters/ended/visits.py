"""Who scrapes: each scrape with its program, address and connection, and which scrapers came lately."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from carbonmon.core.records import NamedTuple
from carbonmon_exporters.endpoint.request import CONNECTION, Connection
from carbonmon_exporters.endpoint.scrapers import is_scrape, is_text

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

RECENT_S = 300.0
"""Prometheus looks at no target more rarely, for it forgets a series that is 5 minutes old."""

MAX_PROGRAMS = 16


class Visit(NamedTuple):
    """One scrape. `program` is what the scraper says that it is, and its address. `at_s` is Unix time.

    `is_text`: the answer is in the text format, not in OpenMetrics.
    """

    program: str
    connection: Connection
    is_text: bool
    at_s: float

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Visit | None:
        """The scrape that a request is; None for one of anybody who names no scrape time-out."""
        if not is_scrape(environ):
            return None
        program = f"{environ.get('REMOTE_ADDR')} {environ.get('HTTP_USER_AGENT')}"
        return cls(program, environ.get(CONNECTION) or Connection(), is_text(environ), time.time())


visiting: ContextVar[Visit | None] = ContextVar("visiting", default=None)
"""The scrape that is answered in this thread, None for anybody else."""


class _Program:
    def __init__(self) -> None:
        self.last_s = 0.0
        self.seen_s = 0.0
        self.connections: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()


class Recent(NamedTuple):
    """The scrapers of one program: how many there are, and until when all have seen everything."""

    scrapers: int
    seen_s: float


class RecentScrapers:
    """The scrapers of one monitor. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._programs: OrderedDict[str, _Program] = OrderedDict()
        self.text_seen_s: float | None = None
        """Until when anybody has seen everything in the text format, None if nobody has."""

    def came(self, visit: Visit, seen_s: float) -> None:
        """A scraper was shown all that was known at `seen_s`, on the clock of the snapshots."""
        with self._lock:
            if visit.is_text:
                self.text_seen_s = seen_s
            known = self._programs.pop(visit.program, None) or _Program()
            known.last_s, known.seen_s = self._clock(), seen_s
            known.connections[visit.connection] = seen_s
            self._programs[visit.program] = known
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
