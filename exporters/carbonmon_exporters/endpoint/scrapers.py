"""Knows scrapers by their connections: what each has seen, so that it is shown what is new to it.

Whoever names a scrape time-out (Prometheus, vmagent, and what is built on them) is a scraper; everybody else
gets plain totals. Each server keeps a connection of its own open, and so does each of its scrape pools: two
servers behind one address are told apart, and no name or address has to be known.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING

from carbonmon_exporters.endpoint.request import GONE, MEMORY
from carbonmon_exporters.exposition import OPENMETRICS, content_type_for
from carbonmon_exporters.starts import Scrape, Seen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

HEADER = "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"

LOOK_BACK_S = 3300.0
"""On a new connection, counters that began up to so long ago are shown with their start. Prometheus takes
samples up to an hour older than its newest (half of the head's 2 h), and drops older ones with a warning."""

CLOSING_LOOK_BACK_S = 120.0
"""The same for a client that closes its connection after each answer. It is told again each time, and drops
with a warning what it has: so long it may take until a new target is found and scraped."""

MAX_QUERIES = 8
"""So many queries of one connection are told apart: targets of one pool may share connections, and each query
has its own metrics."""


class Scrapers:
    """Begins and ends the answers to scrapers. Calls are made one at a time.

    In the text format a start is shown with the answer that first has the counter, and never again, whoever
    asks: there are servers that ignore the times (VictoriaMetrics from some release between 1.79 and 1.112
    on), to which a second 0 would be a reset.
    """

    def __init__(self, is_continued: Callable[[], bool], clock: Callable[[], float] = time.time) -> None:
        """`is_continued`: an earlier monitor may have shown what is shown now."""
        self._is_continued = is_continued
        self._clock = clock
        self._seen_as_text: Seen | None = None

    def begin(self, environ: WSGIEnvironment) -> Scrape | None:
        """How to answer a request for metrics; None for one that is no scrape."""
        if not is_scrape(environ):
            return None
        memory: MutableMapping[str, Seen] | None = environ.get(MEMORY)
        seen = None if memory is None else memory.get(_query(environ))
        look_back_s = CLOSING_LOOK_BACK_S if memory is None else LOOK_BACK_S
        if is_text(environ):
            seen = seen or self._seen_as_text
            look_back_s = -math.inf if self._is_continued() else LOOK_BACK_S
        return Scrape(seen, look_back_s, self._clock())

    def end(self, environ: WSGIEnvironment, scrape: Scrape) -> None:
        """The answer to a scrape was made."""
        seen = scrape.end()
        if seen is None:
            return
        if is_text(environ):
            self._seen_as_text = seen
        memory: MutableMapping[str, Seen] | None = environ.get(MEMORY)
        if memory is not None:
            query = _query(environ)
            if query not in memory and len(memory) >= MAX_QUERIES:
                memory.pop(next(iter(memory)))
            memory[query] = seen


def _query(environ: WSGIEnvironment) -> str:
    query: str = environ.get("QUERY_STRING", "")
    return query


def is_scrape(environ: WSGIEnvironment) -> bool:
    """Whether a scraper asks, and is still there to take the answer."""
    return HEADER in environ and environ["REQUEST_METHOD"] == "GET" and GONE not in environ


def is_text(environ: WSGIEnvironment) -> bool:
    """Whether the answer is in the text format and not in OpenMetrics."""
    return not content_type_for(environ.get("HTTP_ACCEPT")).startswith(OPENMETRICS)
