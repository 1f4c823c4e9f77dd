"""Calls into drivers that may hang, made in the sampling thread itself: if one does not return, another
thread takes over the sampling.

To hand each call to a thread of its own, and to wait for it, would wake two threads at each tick; this wakes
none. A call that hangs cannot be cancelled, so the thread that made it is left behind: whatever it was doing
ends when its call returns (`Relieved`), and leaves no trace but what the driver has said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from carbonmon.hardware.own_thread import OwnThread

if TYPE_CHECKING:
    from carbonmon.hardware.kernel_timer import KernelTimer

log = logging.getLogger(__name__)

WAIT_S = 1.5
"""How long one answer is waited for."""

FIRST_PART = 0.75
"""After this part of the time somebody looks, and again at its end: a process that was stopped for longer,
by Ctrl-Z, has then had time to go on. It is more than the usual interval, so that each sample sets the timer
anew before it runs out, and nobody has to stop it."""


AT_ONCE_S = 1e-6


class Relieved(BaseException):
    """Another thread has taken over: this one ends. It is no `Exception`, which a guard would take it for."""


class _Call:
    """One call, by whom it was made; `has_returned` after it was left behind."""

    __slots__ = ("has_returned", "place")

    def __init__(self, place: InPlace) -> None:
        self.place = place
        self.has_returned = False


class Relief:
    """Stands by for the sampling thread: `take_over` is run in another thread in place of one that hangs."""

    def __init__(self, take_over: Callable[[], object], wait_s: float = WAIT_S) -> None:
        self._take_over = take_over
        self.wait_s = wait_s
        self._made: list[_Call] = []
        """The call that is being made. Who takes it out of the list, its own thread or the one that stands
        by, decides what has happened: only one of them can."""
        self._timer: KernelTimer | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Begin to stand by; whether that is possible here."""
        if not OwnThread.are_allowed:
            return False
        from carbonmon.hardware.kernel_timer import KernelTimer  # only where a driver may hang

        try:
            self._timer = KernelTimer()
        except (OSError, AttributeError) as error:
            log.debug("drivers that may hang have threads of their own: %s", error)
            return False
        self._timer.set_time(FIRST_PART * self.wait_s)
        if not self._stand_by():
            self._timer.close()
            return False
        return True

    def close(self) -> None:
        """Stand by no more; after the last call, or one that hangs."""
        if self._thread is None or self._timer is None:
            return
        self._is_closed = True
        self._timer.set_time(AT_ONCE_S)
        self._timer.start()
        self._thread.join(self.wait_s)
        if not self._thread.is_alive():
            self._timer.close()

    def make(self, place: InPlace, call: Callable[[], object]) -> None:
        """Make a call; raises `Relieved` if it took so long that another thread has taken over.

        After `close` nobody does.
        """
        if self._is_closed or self._timer is None:
            call()
            return
        made = _Call(place)
        place.call = made
        self._made.append(made)
        self._timer.start()
        try:
            call()
        finally:
            try:
                self._made.remove(made)
            except ValueError:
                made.has_returned = True
                raise Relieved from None

    def _stand_by(self) -> bool:
        thread = threading.Thread(target=self._watch, name="carbonmon-relief", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads for this user
            log.debug("nobody stands by for a driver that hangs: %s", error)
            return False
        self._thread = thread
        return True

    def _watch(self) -> None:
        assert self._timer is not None
        while True:
            self._timer.wait()
            if self._is_closed:
                return
            seen = next(iter(self._made), None)
            if seen is None:  # the samples are further apart than that
                continue
            time.sleep((1.0 - FIRST_PART) * self.wait_s)
            if self._is_closed:
                return
            with suppress(ValueError):  # it has returned meanwhile
                self._made.remove(seen)
                break
        seen.place.is_late = True
        if not self._stand_by():
            log.warning("no thread is left to stand by: another driver that hangs stops the sampling")
        self._take_over()


class InPlace:
    """Runs one call at a time as `OwnThread` does, in the thread that asks, which a relief stands by for."""

    def __init__(self, relief: Relief) -> None:
        self._relief = relief
        self.wait_s = relief.wait_s
        self.call: _Call | None = None
        self.is_busy = False
        self.is_late = False

    def run(self, call: Callable[[], object]) -> bool:
        """Make a call unless one that was left behind still runs; whether the one that runs has ended now.

        Raises `Relieved`. `call` must not raise.
        """
        if not self.is_busy:
            self.is_busy = True
            self._relief.make(self, call)
            self.is_late = False
        else:
            self.is_late = self.call is not None and not self.call.has_returned
        self.is_busy = self.is_late
        return not self.is_late
