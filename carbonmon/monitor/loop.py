"""The sampling thread: a baseline, then the loop, then one more sample at the end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from carbonmon.monitor.clock import Alarm
from carbonmon.monitor.sampler import Sampler

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5.0
"""How long a driver is waited for at the start and the end of a run; the job does not wait longer. A
call that hangs cannot be cancelled, so its thread is left behind."""


class Sampling:
    """Runs a sampler. `before` is called before the baseline, `after` once it is taken, in the thread."""

    def __init__(
        self,
        sampler: Sampler,
        before: Callable[[], object] | None = None,
        after: Callable[[], object] | None = None,
    ) -> None:
        self._sampler = sampler
        self._before = before
        self._after = after
        self._ready = threading.Event()
        self._stop = Alarm()
        self._thread = threading.Thread(target=self._loop, name="carbonmon-sampler", daemon=True)

    def start(self) -> bool:
        """Start the thread; whether the baseline was taken within a while, so that a job can start."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("no sampling: %s", error)
            return False
        return self._ready.wait(ANSWER_TIMEOUT_S)

    def stop(self) -> bool:
        """Whether the thread took its last sample; False if it hangs in a driver's call."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(ANSWER_TIMEOUT_S)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        try:
            if self._before is not None:
                self._before()
            self._sampler.tick(edge=True)
            if self._after is not None:
                self._after()
            self._ready.set()
            self._sampler.run_until(self._stop, self._stop.ring)
        except Exception:  # our own bug: the job goes on, the summary holds what was metered until now
            log.exception("sampling stopped by a fault of carbonmon's own")
