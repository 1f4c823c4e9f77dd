"""Keeps the folders of a daemon's runs within a size, beside the metering: in a thread that soon ends."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from carbonmon.core.ports import Clock

log = logging.getLogger(__name__)

FIRST_S, PERIOD_S = 60.0, 3600.0
"""When it looks after the start, and how often then."""


class RunRetention:
    """`look` is called every second or so by the main thread. `shown` gives the ids of runs in /metrics."""

    def __init__(self, output: Path, clock: Clock, shown: Callable[[], Collection[str]]) -> None:
        self._output = output
        self._clock = clock
        self._shown = shown
        self._due_s = clock.now_s() + FIRST_S
        self._is_over = False
        self._thread: threading.Thread | None = None

    def look(self, keep_bytes: float) -> None:
        """Remove what is too much, if it is time to; returns at once."""
        if self._clock.now_s() < self._due_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._due_s = self._clock.now_s() + PERIOD_S
        if math.isinf(keep_bytes):
            return
        self._thread = threading.Thread(
            target=self._keep, args=(keep_bytes,), name="carbonmon-retention", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: in an hour there may be
            self._thread = None
            log.info("the size of the runs' folders is not looked at: %s", error)

    def _keep(self, keep_bytes: float) -> None:
        from carbonmon.runs.retention import YOUNGEST_S, keep_size

        try:
            kept = keep_size(self._output, keep_bytes, self._clock.wall_s(), frozenset(self._shown()))
        except OSError as error:
            log.info("the runs' folders cannot be listed: %s", error)
            return
        if kept.removed:
            log.warning(
                "--keep-runs: the %d runs that ended first were removed, %.0f MB; the others take %.0f MB",
                kept.removed,
                kept.freed_bytes / 1e6,
                kept.left_bytes / 1e6,
            )
        is_over = kept.left_bytes > keep_bytes
        if is_over and not self._is_over:
            log.warning(
                "--keep-runs: the runs take %.0f MB of %.0f MB, and no more may go: they go on, ended less "
                "than %.0f days ago, or are not ours alone (carbonmon runs prune --keep-size says why)",
                kept.left_bytes / 1e6,
                keep_bytes / 1e6,
                YOUNGEST_S / 86_400.0,
            )
        self._is_over = is_over
