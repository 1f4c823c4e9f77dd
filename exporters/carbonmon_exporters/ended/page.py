"""What somebody sees who looks for the page when only the end of its runs is served: a sentence."""

from __future__ import annotations

import json

from carbonmon_exporters.ended.runs import EndedRuns
from carbonmon_exporters.page import API

Answer = tuple[str, list[tuple[str, str]], bytes]


def ended_page(ended: EndedRuns, path: str, query: str) -> Answer:
    """For a person at `/` a text, for a page that is open an answer that says that its run has ended."""
    run_ids = sorted({run_id for each in ended.shown() for run_id in each.run_ids})
    if path == "/":
        names = ", ".join(run_ids)
        text = f"This carbonmon has ended with its run: {names}\n" + "".join(
            f"\n    carbonmon report {run_id}\n" for run_id in run_ids
        )
        return _answer("200 OK", "text/plain; charset=utf-8", text)
    if path == f"/api/v{API}/now":
        document = {"api": API, "state": "ended", "ended": run_ids}
        return _answer("200 OK", "application/json", json.dumps(document))
    document = {"api": API, "error": "the monitor has ended; only /metrics has the end of its runs"}
    return _answer("404 Not Found", "application/json", json.dumps(document))


def _answer(status: str, kind: str, text: str) -> Answer:
    headers = [("Content-Type", kind), ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]
    return status, headers, f"{text}\n".encode()
