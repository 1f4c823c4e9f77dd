"""The machine's clocks, behind the port that tests replace, and an alarm to sleep by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from carbonmon.client.protocol import BOOT_CLOCK
from carbonmon.core.ports import Clock

NEAR_S, MOST_LOOKS = 0.0005, 5
"""How near two looks at the clocks are, and after how many of them it is given up."""


class SystemClock:
    """Durations from CLOCK_BOOTTIME, which never jumps and counts suspend (clock_gettime(2))."""

    def __init__(self) -> None:
        self.now_s: Callable[[], float] = partial(time.clock_gettime, BOOT_CLOCK)
        self.wall_s: Callable[[], float] = time.time


def same_moment(clock: Clock) -> tuple[float, float]:
    """The same moment by both of a clock's times: seconds, and Unix time.

    On a busy machine another process may have its turn between two looks: then they are looked at again.
    """
    for _ in range(MOST_LOOKS):
        now_s = clock.now_s()
        wall_s = clock.wall_s()
        if clock.now_s() - now_s < NEAR_S:
            break
    return now_s, wall_s


class Alarm:
    """An event that one thread waits for, and that can be woken before.

    `threading.Event` makes a lock and a queue at each wait, which a monitor that sleeps most of the time
    pays for with cold caches; here a wait is one system call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._is_set = False

    def set(self) -> None:
        """Wake the waiting thread; it will not sleep again."""
        self._is_set = True
        self.wake()

    def wake(self) -> None:
        """Wake the waiting thread once; woken before it sleeps, it will not sleep the next time."""
        with suppress(RuntimeError):  # woken already
            self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        """Sleep for so long, or until somebody wakes it; whether the alarm is set."""
        if self._lock.acquire(timeout=max(0.0, timeout_s)) and self._is_set:
            self.wake()
        return self._is_set
