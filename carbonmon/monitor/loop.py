"""The sampling thread: a baseline, ticks on a fixed grid, requests between them, and a last sample.

Where it hangs in a driver's call another thread goes on in its place (`relief.py`).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Protocol

from carbonmon.core.ports import Clock
from carbonmon.monitor.clock import Alarm
from carbonmon.monitor.relief import Relief, Relieved
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
        sampler.note_changes = requests.carry_out_timed
        self._ready = threading.Event()
        self._stop = Alarm()
        self._samples_at_stop = False
        self._origin_s: float | None = None
        self._relief: Relief | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carbonmon-sampler", daemon=True)

    def start(self) -> bool:
        """Start the thread; whether the baseline was taken within a while, so that a job can start."""
        if self._sampler.may_hang:
            relief = Relief(self._take_over)
            if relief.start():
                self._relief = relief
                self._sampler.read_in_place(relief)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("there is one sample at the start and one at the end: %s", error)
            if self._relief is not None:
                self._relief.close()
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
            if not self._ended.wait(ANSWER_TIMEOUT_S):
                return False
            self._thread.join()
        if self._relief is not None:
            self._relief.close()
        if self._samples_at_stop:
            self._samples_at_stop = False
            self._requests.carry_out(self._baseline, always=True)
        return True

    def _run(self) -> None:
        self._go(self._take_baseline)

    def _take_over(self) -> None:
        """In a thread that stood by: go on where the one before hangs, in what it had not finished."""
        self._thread = threading.current_thread()
        self._go(self._take_baseline if not self._ready.is_set() else self._sample_again)

    def _go(self, first: Callable[[], object]) -> None:
        try:
            first()
            self.run_until(self._stop, self._stop.wake)
        except Relieved:
            return
        except Exception:  # our own bug: the job goes on, the summary holds what was metered until now
            log.exception("sampling stopped by a fault of carbonmon's own")
        self._ended.set()

    def _take_baseline(self) -> None:
        self._requests.carry_out(self._baseline, always=True)
        self._ready.set()

    def _sample_again(self) -> None:
        """The sample that another thread had begun, and the requests beside it."""
        if self._requests:
            self._sampler.settle()
            self._requests.carry_out(self._extra_sample)
        else:
            self._sampler.sample()

    def _baseline(self, edge: bool) -> None:
        self._sampler.tick(edge=True)

    def run_until(self, stop: Stop, wake: Callable[[], object] | None = None) -> None:
        """Tick on a fixed grid until `stop` is set, then once more. Late ticks are skipped, not caught up.

        `wake` ends a wait of `stop` early, for requests.
        """
        clock, requests, sampler = self._clock, self._requests, self._sampler
        interval_s = sampler.interval_s
        requests.wake = wake
        if self._origin_s is None:
            self._origin_s = clock.now_s()
        origin_s = self._origin_s
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
