"""Answers requests for the page and its JSON from the newest snapshot; whoever may scrape may read them.

An answer is made once for each snapshot, however many look at it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from carbonmon.core.model import Snapshot
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.report.html import LOOK
from carbonmon.runs.summary.document import clean
from carbonmon_exporters.page import API
from carbonmon_exporters.page.known_by import KnownBy
from carbonmon_exporters.page.now import chosen, now
from carbonmon_exporters.page.run_list import run_list
from carbonmon_exporters.page.series import SeriesCache

Answer = tuple[str, list[tuple[str, str]], bytes]

STATIC = Path(__file__).parent / "static"
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.svg": ("page.svg", "image/svg+xml"),
    **{
        f"/{name}": (name, "text/javascript; charset=utf-8")
        for name in (
            *("page.js", "page-text.js", "page-history.js", "page-chart.js", "page-figures.js"),
            "page-tables.js",
        )
    },
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
]

_NOW, _RUNS = f"/api/v{API}/now", f"/api/v{API}/runs"
_SERIES = "/series"
MAX_KEPT = 64
"""So many answers to one snapshot are kept: one for each run that somebody looks at."""


class Page:
    """The page of one monitor. For any thread."""

    def __init__(self, latest: Callable[[], Snapshot], run_folders: Mapping[str, Path], host: str) -> None:
        """`run_folders` are the folders of the runs that are shown, by id; `host` is this machine's name."""
        self._latest = latest
        self._folders = run_folders
        self._host = host
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._kept: dict[str, bytes] = {}
        self._known_by = KnownBy()
        self._series = SeriesCache()

    def answer(self, path: str, query: str) -> Answer:
        """Status, headers and body for a GET."""
        if path in FILES:
            name, kind = FILES[path]
            shared = LOOK.read_bytes() if path == "/page.css" else b""
            return _answer("200 OK", kind, shared + (STATIC / name).read_bytes())
        if path == _NOW:
            return self._now(parse_qs(query).get("run", [""])[-1])
        if path == _RUNS:
            return self._of_snapshot("", lambda shown: run_list(shown, self._known_by))
        if path.startswith(f"{_RUNS}/") and path.endswith(_SERIES):
            return self._series_of(unquote(path[len(_RUNS) + 1 : -len(_SERIES)]))
        return error(f"not found; there are {_NOW}, {_RUNS} and {_RUNS}/ID{_SERIES}")

    def _now(self, run_id: str) -> Answer:
        if run_id and chosen(self._latest(), run_id) is None:
            return error(f"no run {run_id!r:.70} is shown here; {_RUNS} lists those that are")
        return self._of_snapshot(
            f"run {run_id}", lambda shown: now(shown, run_id, self._known_by, self._host)
        )

    def _of_snapshot(self, key: str, make: Callable[[Snapshot], dict[str, Any]]) -> Answer:
        with self._lock:  # one at a time, so that a crowd costs the sampling thread no more than one viewer
            shown = self._latest()
            if shown is not self._snapshot:
                self._snapshot, self._kept = shown, {}
                self._known_by.look(shown.devices)
            body = self._kept.get(key)
            if body is None:
                if len(self._kept) >= MAX_KEPT:
                    self._kept.clear()
                body = self._kept[key] = _json({"api": API, **make(shown)})
        return _answer("200 OK", "application/json", body)

    def _series_of(self, run_id: str) -> Answer:
        folder = self._folders.get(run_id)
        if folder is None:
            return error(f"no run {run_id!r:.70} is kept here; {_RUNS} lists those that are")
        try:
            found = self._series.of(folder, lambda series: _json({"api": API, "run": run_id, **series}))
        except RunFileError:  # the text has the place of the file, which is nobody else's concern
            return error("the run has no series that can be read yet")
        return _answer("200 OK", "application/json", found)


def error(text: str, status: str = "404 Not Found") -> Answer:
    return _answer(status, "application/json", _json({"api": API, "error": text}))


def _answer(status: str, kind: str, body: bytes) -> Answer:
    return status, [("Content-Type", kind), *HEADERS], body


def _json(document: dict[str, Any]) -> bytes:
    """JSON in ASCII: a character that a terminal would obey is an escape in it."""
    try:
        text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError:  # NaN or infinity
        return _json(clean(document))
    if "\\ud" in text:  # half a character, which no text can hold, or a whole one that takes two
        text = json.dumps(clean(document), separators=(",", ":"))
    return text.encode("ascii") + b"\n"
