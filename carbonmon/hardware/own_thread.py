"""A thread of its own for calls into a driver that may hang: such a call can only be left behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

WAIT_S = 1.0
"""How long one answer is waited for. Eight GPUs answer within a tenth of it; a call that takes longer costs
one tick so much, and the following ticks nothing."""


class OwnThread:
    """Runs one call at a time. `run` is for one thread; the thread begins with the first call.

    With a `wait_s` of 0 nothing is ever waited for, and no call is made where no thread is to be had.
    """

    def __init__(self, name: str, wait_s: float = WAIT_S) -> None:
        self._name = name
        self._wait_s = wait_s
        self._call: Callable[[], object] | None = None
        self._work, self._done = threading.Lock(), threading.Lock()
        self._work.acquire()
        self._done.acquire()
        self._thread: threading.Thread | None = None
        self.is_busy = False
        self.is_late = False
        """The newest call, or one that still runs, did not end in time."""

    def run(self, call: Callable[[], object]) -> bool:
        """Start a call unless one still runs; whether the one that runs has ended now.

        It is waited for, unless the one before was late. `call` must not raise.
        """
        if not self.is_busy:
            if self._thread is None and not self._start():
                if not self._wait_s:
                    return False
                call()  # no more threads for this user: then a driver that hangs holds us up
                return True
            self._call = call
            self.is_busy = True
            self._work.release()
        self.is_late = not self._done.acquire(timeout=0.0 if self.is_late else self._wait_s)
        self.is_busy = self.is_late
        return not self.is_late

    def close(self) -> None:
        """End the thread; one whose call does not return is left behind."""
        if self._thread is not None and not self.is_busy:
            self._call = None
            self._work.release()
            self._thread = None

    def _start(self) -> bool:
        thread = threading.Thread(target=self._loop, name=f"carbonmon-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            log.debug("no thread for %s: %s", self._name, error)
            return False
        self._thread = thread
        return True

    def _loop(self) -> None:
        while True:
            self._work.acquire()
            call = self._call
            if call is None:
                return
            try:
                call()
            except Exception:  # our own bug: the caller must not wait for ever
                log.exception("a call of %s failed", self._name)
            self._done.release()
