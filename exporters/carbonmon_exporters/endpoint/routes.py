"""Answers by path: the metrics, the probes, and what the monitor shows to people."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from carbonmon_exporters.ended.visits import Visit, visiting
from carbonmon_exporters.endpoint.request import CLOSES, CONNECTION, Connection
from carbonmon_exporters.endpoint.scrapers import Scrapers
from carbonmon_exporters.endpoint.settings import METRICS_PATH
from carbonmon_exporters.starts import present

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger(__name__)

MAX_VIEWERS = 4
"""So many connections of viewers are kept open at once: all others remain for scrapers."""

_PLAIN = ("Content-Type", "text/plain; charset=utf-8")

Answer = tuple[str, list[tuple[str, str]], bytes]
Pages = Callable[[str, str], Answer]
"""Answers a path and a query for people; it is asked for `/`, `/page…` and `/api/…`."""


class Routes:
    """Routes GET and HEAD to metrics, probes and pages; other paths are 404, other methods 405."""

    def __init__(
        self,
        metrics: WSGIApplication,
        is_ready: Callable[[], bool],
        scrapers: Scrapers | None = None,
        came: Callable[[Visit], None] = lambda visit: None,
        pages: Pages | None = None,
    ) -> None:
        """Without `scrapers` everybody gets plain totals. `came` is told of each scrape that was answered."""
        self._metrics = metrics
        self._is_ready = is_ready
        self._scrapers = scrapers
        self._came = came
        self._pages = pages
        self._viewers: WeakSet[Connection] = WeakSet()
        self._has_failed = False
        self._scrape_lock = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, headers, body = self._answer(environ)
        # The client is unknown: a failure becomes a 500 without details, and nothing is written to the
        # job's terminal.
        except Exception as error:  # noqa: BLE001
            self._report(error)
            status, headers, body = _plain("500 Internal Server Error", "carbonmon failed to answer")
        start_response(status, [*headers, ("Content-Length", str(len(body))), ("Server", "carbonmon")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, headers, body = _plain("405 Method Not Allowed", "Use GET or HEAD")
            return status, [*headers, ("Allow", "GET, HEAD")], body
        if self._pages is not None and (path == "/" or path.startswith(("/page", "/api/"))):
            if not self._keeps_open(environ, path):
                environ[CLOSES] = True
            return self._pages(path, environ.get("QUERY_STRING", ""))
        if path not in (METRICS_PATH, "/-/healthy", "/-/ready"):
            return _plain("404 Not Found", f"Not found. The metrics are at {METRICS_PATH}")
        if path == METRICS_PATH:
            return self._scrape(environ)
        if path == "/-/healthy":
            return _plain("200 OK", "carbonmon is healthy")
        if self._is_ready():
            return _plain("200 OK", "carbonmon is ready")
        return _plain("503 Service Unavailable", "carbonmon has taken no sample yet")

    def _keeps_open(self, environ: WSGIEnvironment, path: str) -> bool:
        """Whether a viewer's connection is kept for the next look: that of a few is, as it costs less."""
        connection = environ.get(CONNECTION)
        if connection is None or not path.startswith("/api/"):
            return False
        if len(self._viewers) < MAX_VIEWERS:
            self._viewers.add(connection)
        return connection in self._viewers

    def _scrape(self, environ: WSGIEnvironment) -> Answer:
        # The library's application answers 405 to HEAD; called with GET it gives the headers of both.
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _: Any = None
        ) -> Callable[[bytes], object]:
            started.append((status, headers))
            return lambda _: None

        visit = Visit.of(environ)
        # One at a time: the sampling thread then waits for Python's lock after one scrape, not after many.
        with self._scrape_lock:
            scrape = None if self._scrapers is None else self._scrapers.begin(environ)
            token, other = present.set(scrape), visiting.set(visit)
            try:
                body = b"".join(self._metrics({**environ, "REQUEST_METHOD": "GET"}, start_response))
            finally:
                present.reset(token)
                visiting.reset(other)
            if self._scrapers is not None and scrape is not None:
                self._scrapers.end(environ, scrape)
        status, headers = started[0]
        if visit is not None:
            self._came(visit)
        return status, headers, body

    def _report(self, error: Exception) -> None:
        # The library appends the whole metric to an exception's text: the warning has its type alone.
        level = logging.DEBUG if self._has_failed else logging.WARNING
        self._has_failed = True
        _log.log(level, "a request for metrics failed with %s", type(error).__name__)
        _log.debug("the failed request", exc_info=error)


def _plain(status: str, text: str) -> Answer:
    return status, [_PLAIN], f"{text}\n".encode()
