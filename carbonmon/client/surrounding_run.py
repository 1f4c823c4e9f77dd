"""Finds the run that this process is inside of without having been told: by its parents.

A pool of workers may be older than the run (Dask, Ray, joblib), or a program may start its children without
its environment. Each living monitor of this user is asked whether one of our parents is in a run of its
own. Imported by the training process: standard library only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from carbonmon.client.places import safe_folders
from carbonmon.client.protocol import encode
from carbonmon.client.rendezvous import connect, daemon_sockets

ANSWER_S = 1.0
"""How long a monitor may take to answer: most take a millisecond, on a busy node some hundred."""

SEARCH_S = 3.0
"""How long the search may take in all, where monitors hang."""

MAX_ANSWER_BYTES = 1 << 16


def find_surrounding_run(environ: Mapping[str, str]) -> tuple[Path, str] | None:
    """(socket, id) of the run that one of our parents is in, None where there is none.

    What this process started under cannot be changed by the search: it only asks.
    """
    deadline_s = time.monotonic() + SEARCH_S
    for path in monitor_sockets(environ):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0.0:
            break
        try:
            answer = _ask(path, min(ANSWER_S, left_s))
        except (OSError, ValueError):  # it has ended, hangs, or is no monitor
            continue
        run_id = answer.get("run_id")
        if answer.get("ok") is True and isinstance(run_id, str):
            return path, run_id
    return None


def monitor_sockets(environ: Mapping[str, str]) -> Iterator[Path]:
    """The sockets of the monitors that may be ours: of single runs, then of daemons."""
    for folder in safe_folders(environ):
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError:  # not there
            continue
        yield from (folder / name for name in names if name.startswith("run-") and name.endswith(".sock"))
    for path in daemon_sockets(environ):
        if path.exists():
            yield path


def _ask(path: Path, timeout_s: float) -> dict[str, Any]:
    """A monitor's answer to `find`; raises OSError and ValueError."""
    deadline_s = time.monotonic() + timeout_s
    with connect(path, timeout_s) as connection:
        connection.sendall(encode({"op": "find", "id": 1}))
        received = b""
        while not received.endswith(b"\n"):
            connection.settimeout(max(0.001, deadline_s - time.monotonic()))
            data = connection.recv(4096)
            received += data
            if not data or len(received) > MAX_ANSWER_BYTES:
                raise ConnectionError("no answer")
    answer = json.loads(received)
    if not isinstance(answer, dict):
        raise ValueError("no answer of a monitor")
    return answer
