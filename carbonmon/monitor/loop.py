"""The sampling thread: a baseline, ticks on a fixed grid, requests between them, and a last sample."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Protocol

from carbonmon.core.ports import Clock
from carbonmon.monitor.clock import Alarm
from carbonmon.monitor.requests import RequestQueue
from carbonmon.monitor.sampler import Sampler

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5.0
"""How long a driver is waited for at the start and the end of a run; the job does not wait longer. A
call that hangs cannot be cancelled, so its thread is left behind."""

GRID_TOLERANCE = 0.01
"""The part of an interval by which a tick may be early, by rounding or by the system's timer."""


class Stop(Protocol):
    """What ends the loop: an alarm that it sleeps by, and that may wake it for a request."""

    def wait(self, timeout_s: float) -> bool: ...


class SamplingLoop:
    """Runs a sampler in a thread of its own. What was posted before `start` is done beside the baseline."""

    def __init__(self, sampler: Sampler, requests: RequestQueue, clock: Clock) -> None:
        self._sampler = sampler
        self._requests = requests
        self._clock = clock
        self._ready = threading.Event()
        self._stop = Alarm()
        self._samples_at_stop = False
        self._thread = threading.Thread(target=self._run, name="carbonmon-sampler", daemon=True)

    def start(self) -> bool:
        """Start the thread; whether the baseline was taken within a while, so that a job can start."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("there is one sample at the start and one at the end: %s", error)
            self.start_without_thread()
            return True
        return self._ready.wait(ANSWER_TIMEOUT_S)

    def start_without_thread(self) -> None:
        """Take the baseline in this thread; the next sample is that of `stop`."""
        self._samples_at_stop = True
        self._requests.carry_out(self._baseline, always=True)

    def give_up_thread(self) -> None:
        """End the thread: somebody else needs its place. The next sample is that of `stop`."""
        self._samples_at_stop = self.stop()

    def stop(self) -> bool:
        """Whether the last sample was taken; False if the thread hangs in a driver's call."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(ANSWER_TIMEOUT_S)
        if self._thread.is_alive():
            return False
        if self._samples_at_stop:
            self._samples_at_stop = False
            self._requests.carry_out(self._baseline, always=True)
        return True

    def _run(self) -> None:
        try:
            self._requests.carry_out(self._baseline, always=True)
            self._ready.set()
            self.run_until(self._stop, self._stop.wake)
        except Exception:  # our own bug: the job goes on, the summary holds what was metered until now
            log.exception("sampling stopped by a fault of carbonmon's own")

    def _baseline(self, edge: bool) -> None:
        self._sampler.tick(edge=True)

    def run_until(self, stop: Stop, wake: Callable[[], object] | None = None) -> None:
        """Tick on a fixed grid until `stop` is set, then once more. Late ticks are skipped, not caught up.

        `wake` ends a wait of `stop` early, for requests.
        """
        clock, requests, sampler = self._clock, self._requests, self._sampler
        interval_s = sampler.interval_s
        requests.wake = wake
        origin_s = clock.now_s()
        while True:
            now_s = clock.now_s()
            # A tick may come a hair before its own place on the grid; it is not to be taken twice.
            passed = math.floor((now_s - origin_s) / interval_s + GRID_TOLERANCE)
            next_s = origin_s + interval_s * (passed + 1)
            stopped = stop.wait(next_s - now_s)
            if requests:
                sampler.settle()
                requests.carry_out(self._extra_sample)
            # The sleep may also end early for a request that was carried out already.
            if not stopped and clock.now_s() < next_s - GRID_TOLERANCE * interval_s:
                continue
            if stopped or sampler.snapshots.is_due():
                sampler.tick(edge=stopped)
            else:
                sampler.sample()
            if stopped:
                requests.carry_out(None)
                return

    def _extra_sample(self, edge: bool) -> None:
        self._sampler.tick(edge=edge, publish=False)
