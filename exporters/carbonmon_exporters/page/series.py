"""The document of `/api/v1/runs/ID/series`: power by device and time by phase, from the file of the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carbonmon.runs.downsampling import Downsampler, Glance, Step
from carbonmon.runs.series import streamed

LEAST_KEPT_S = 2.0
COST_RATIO = 0.02
"""An answer is kept for so long that reading takes at most this part of a CPU, however often it is asked."""

MAX_KEPT = 16


class SeriesCache:
    """Makes the document of one run at a time, and keeps it for a while. For any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[float, bytes]] = {}

    def of(self, folder: Path, dump: Callable[[dict[str, Any]], bytes]) -> bytes:
        """The document of a run's folder as `dump` makes it; raises `RunFileError` for no series."""
        with self._lock:
            until_s, body = self._kept.get(folder, (0.0, b""))
            if body and self._clock() < until_s:
                return body
            begin_s = time.thread_time()
            body = dump(series(folder))
            cost_s = time.thread_time() - begin_s
            self._kept.pop(folder, None)
            if len(self._kept) >= MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[folder] = self._clock() + max(LEAST_KEPT_S, cost_s / COST_RATIO), body
            return body


def series(folder: Path) -> dict[str, Any]:
    """The document without its version and run; damaged lines are counted and left out."""
    downsampler = Downsampler()
    damaged = 0
    for _, rows in streamed(folder):
        if rows is None:
            damaged += 1
        else:
            downsampler.add(rows)
    return {**_document(downsampler.glance()), "damaged_lines": damaged}


def _document(glance: Glance | None) -> dict[str, Any]:
    if glance is None:
        return {"begin_s": None, "end_s": None, "step_s": None, "devices": [], "phases": []}
    return {
        "begin_s": round(glance.begin_s, 3),
        "end_s": round(glance.end_s, 3),
        "step_s": glance.step_s,
        "devices": [
            {
                "id": device,
                "component": glance.components[device],
                "power_w": _column(steps, lambda step: step.power_w, 1),
                "power_min_w": _column(steps, lambda step: step.low_w, 1),
                "power_max_w": _column(steps, lambda step: step.high_w, 1),
                "measured_ratio": _column(steps, lambda step: step.measured_ratio, 2),
            }
            for device, steps in glance.devices.items()
        ],
        "phases": [
            {"name": phase, "time_ratio": [round(part, 2) for part in parts]}
            for phase, parts in glance.phases.items()
        ],
    }


def _column(
    steps: list[Step | None], value: Callable[[Step], float | None], digits: int
) -> list[float | None]:
    found = [None if step is None else value(step) for step in steps]
    return [None if number is None else round(number, digits) for number in found]
