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

When = Literal["", "edge", "before", "after", "timed", "noted"]
"""Where a request wants a sample. At an `edge`, where a run begins or ends, there is one before it in any
case, with every counter. `before` and `after` it there is one of what may be read so often, if there were
not too many. `timed` is as `after`, for what has a time of its own: it may divide what was read already.
`noted` is as `timed`, and wants no sample for itself."""

TIMED: frozenset[When] = frozenset(("timed", "noted"))
UNSAMPLED: frozenset[When] = frozenset(("", "noted"))


class _Request:
    """What is to be done, with its sample."""

    __slots__ = ("is_done", "sample", "what")

    def __init__(self, what: Callable[[], object], sample: When) -> None:
        self.what = what
        self.sample = sample
        self.is_done = False

    def carry_out(self) -> None:
        self.is_done = True
        try:
            self.what()
        except Exception:  # a fault of ours in one run's request must not end the sampling of all
            log.exception("a request was not carried out")


class RequestQueue:
    """`post` is for any thread, `carry_out` for the sampling thread. `wake` ends its sleep early."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._requests: deque[_Request] = deque()
        self.wake: Callable[[], object] | None = None
        self._extra = TokenBucket(EXTRA_RATE_HZ, EXTRA_BURST, clock.now_s())

    def __bool__(self) -> bool:
        return bool(self._requests)

    def post(self, request: Callable[[], object], sample: When = "") -> None:
        """Have something done by the sampling thread, soon.

        `sample`: one is taken right before it, or right after it, so that what was drawn until then is
        settled. Samples of many requests at once are one.
        """
        self._requests.append(_Request(request, sample))
        if self.wake is not None:
            self.wake()

    def carry_out_timed(self) -> None:
        """Do what has a time of its own, before a sample is settled that may be over that time; it stays in
        the queue for the sample that it wants."""
        for request in tuple(self._requests):  # at once: another thread may end the run of one that hangs
            if request.sample in TIMED and not request.is_done:
                request.carry_out()

    def carry_out(self, sample: Callable[[bool], object] | None, always: bool = False) -> None:
        """Do what was asked for. `sample(edge)` takes a sample where somebody wants one, or `always`.

        Without `sample` none is taken: the last one was.
        """
        number = len(self._requests)
        requests = [self._requests[place] for place in range(number)]
        for request in requests:
            if (request.sample == "after" or request.sample in TIMED) and not request.is_done:
                request.carry_out()
        if sample is not None and (always or any(each.sample not in UNSAMPLED for each in requests)):
            edge = any(request.sample == "edge" for request in requests)
            is_allowed = self._extra.take(self._clock.now_s()) == 0.0
            if always or edge or is_allowed:
                sample(edge)  # may end this thread (`Relieved`): then the next one finds all of them again
        for request in requests:
            self._requests.popleft()
            if not request.is_done:
                request.carry_out()
