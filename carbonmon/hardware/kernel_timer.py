"""A timer of the kernel that wakes a thread when it runs out, and costs no wake-up when it does not.

timerfd_create(2), through ctypes: Python has it from 3.13 on (`os.timerfd_create`).
"""

from __future__ import annotations

import ctypes
import os
import time

_CLOEXEC = os.O_CLOEXEC
"""TFD_CLOEXEC is the same number (timerfd.h)."""


class _Times(ctypes.Structure):
    """struct itimerspec where time_t is a long: the time between repetitions (0: none), and the first one."""

    _fields_ = [(name, ctypes.c_long) for name in ("each_s", "each_ns", "first_s", "first_ns")]


class KernelTimer:
    """One timer. `wait` is for one thread, `start` and `stop` for others.

    Raises OSError or AttributeError where this system has none.
    """

    def __init__(self) -> None:
        if ctypes.sizeof(ctypes.c_long) < 8:  # a time_t of 64 bits is possible, and not to be seen from here
            raise OSError("no timer of the kernel on a system of 32 bits")
        library = ctypes.CDLL(None, use_errno=True)
        self._set = library.timerfd_settime
        self._fd = library.timerfd_create(time.CLOCK_MONOTONIC, _CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer of the kernel")
        self._times = ctypes.byref(_Times())

    def set_time(self, seconds: float) -> None:
        """It runs out so long after each `start`."""
        self._times = ctypes.byref(_Times(0, 0, *divmod(round(seconds * 1e9), 10**9)))

    def start(self) -> None:
        """Begin, or begin anew."""
        self._set(self._fd, 0, self._times, None)

    def wait(self) -> None:
        """Sleep until it has run out."""
        os.read(self._fd, 8)

    def close(self) -> None:
        """Let go of it; nobody may wait for it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
