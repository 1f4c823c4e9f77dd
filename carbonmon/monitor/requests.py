"""What other threads want done by the sampling thread, between two samples or beside one."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Literal

from carbonmon.core.pacing import TokenBucket
from carbonmon.core.ports import Clock

log = logging.getLogger(__name__)

EXTRA_RATE_HZ, EXTRA_BURST = 10.0, 20.0
"""How often requests may take samples between two ticks; what comes faster is split by time."""

When = Literal["", "edge", "before", "after"]
"""Where a request wants a sample. At an `edge`, where a run begins or ends, there is one before it in any
case, with every counter. `before` and `after` it there is one of what may be read so often, if there were
not too many."""


class RequestQueue:
    """`post` is for any thread, `carry_out` for the sampling thread. `wake` ends its sleep early."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: deque[tuple[Callable[[], object], When]] = deque()
        self.wake: Callable[[], object] | None = None
        self._extra = TokenBucket(EXTRA_RATE_HZ, EXTRA_BURST, clock.now_s())

    def __bool__(self) -> bool:
        return bool(self._requests)

    def post(self, request: Callable[[], object], sample: When = "") -> None:
        """Have something done by the sampling thread, soon.

        `sample`: one is taken right before it, or right after it, so that what was drawn until then is
        settled. Samples of many requests at once are one.
        """
        self._requests.append((request, sample))
        if self.wake is not None:
            self.wake()

    def carry_out(self, sample: Callable[[bool], object] | None, always: bool = False) -> None:
        """Do what was asked for. `sample(edge)` takes a sample where somebody wants one, or `always`.

        Without `sample` none is taken: the last one was.
        """
        requests = [self._requests.popleft() for _ in range(len(self._requests))]
        for request, when in requests:
            if when == "after":
                _guarded(request)
        if sample is not None and (always or any(when for _, when in requests)):
            edge = any(when == "edge" for _, when in requests)
            is_allowed = self._extra.take(self._clock.now_s()) == 0.0
            if always or edge or is_allowed:
                sample(edge)
        for request, when in requests:
            if when != "after":
                _guarded(request)


def _guarded(request: Callable[[], object]) -> None:
    try:
        request()
    except Exception:  # a fault of ours in one run's request must not end the sampling of all
        log.exception("a request was not carried out")
