"""A thread of its own for calls into a driver that may hang: such a call can only be left behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

WAIT_S = 1.0
"""How long one answer is waited for. Eight GPUs answer within a tenth of it; a call that takes longer costs
one tick so much, and the following ticks nothing."""


class _Post:
    """Where one thread is given its calls: a thread that was closed may still be on its way out when the next
    one begins, and takes nothing that is not its own."""

    __slots__ = ("call", "done", "work")

    def __init__(self) -> None:
        self.call: Callable[[], object] | None = None
        self.work, self.done = threading.Lock(), threading.Lock()
        self.work.acquire()
        self.done.acquire()


class OwnThread:
    """Runs one call at a time. `run` is for one thread; the thread begins with the first call.

    `are_allowed` is of the whole process: where memory is scarce, CPython may wait for ever for a thread that
    finds none at its begin, so that even trying does harm.

    With a `wait_s` of 0 nothing is ever waited for, and no call is made where no thread is to be had.
    """

    are_allowed = True

    def __init__(self, name: str, wait_s: float = WAIT_S) -> None:
        self._name = name
        self.wait_s = wait_s
        self._post: _Post | None = None
        """None without a thread."""
        self.is_busy = False
        self.is_late = False
        """The newest call, or one that still runs, did not end in time."""

    def run(self, call: Callable[[], object]) -> bool:
        """Start a call unless one still runs; whether the one that runs has ended now.

        It is waited for, unless the one before was late. `call` must not raise.
        """
        post = self._post or self._start()
        if post is None:
            if not self.wait_s:
                return False
            call()  # no more threads for this user: then a driver that hangs holds us up
            return True
        if not self.is_busy:
            post.call = call
            self.is_busy = True
            post.work.release()
        self.is_late = not post.done.acquire(timeout=0.0 if self.is_late else self.wait_s)
        self.is_busy = self.is_late
        return not self.is_late

    def close(self) -> None:
        """End the thread; one whose call does not return is left behind."""
        if self._post is not None and not self.is_busy:
            self._post.call = None
            self._post.work.release()
            self._post = None

    def _start(self) -> _Post | None:
        if not OwnThread.are_allowed:
            return None
        post = _Post()
        thread = threading.Thread(
            target=self._loop, args=(post,), name=f"carbonmon-{self._name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            log.debug("no thread for %s: %s", self._name, error)
            return None
        self._post = post
        return post

    def _loop(self, post: _Post) -> None:
        while True:
            post.work.acquire()
            call = post.call
            if call is None:
                return
            try:
                call()
            except Exception:  # our own bug: the caller must not wait for ever
                log.exception("a call of %s failed", self._name)
            post.done.release()
