"""A program that a sensor runs beside us: started, read without waiting, ended. No run is charged with it.

Whoever waits for the job reaps every child, so a child is followed by its descriptor (pidfd_open(2)) here,
and nothing is expected of its exit status.
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress

_STOP_S = 2.0
_lock = threading.Lock()
_pids: set[int] = set()


def is_ours(pid: int) -> bool:
    """Whether a child of this process is such a program. One that just starts is known when this returns."""
    with _lock:
        return pid in _pids


class OwnChild:
    """A running program and what it prints, in a process group of its own."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it; raises OSError where it cannot be started, or followed (before Linux 5.3)."""
        self._pidfd = self.output = -1
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            with _lock:
                self._pid = os.posix_spawn(
                    command[0],
                    list(command),
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, writer, 1),
                        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                    ],
                    setpgroup=0,
                    setsigmask=(),
                    setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
                )
                _pids.add(self._pid)
            self._pidfd = os.pidfd_open(self._pid)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        os.set_blocking(reader, False)
        self.output = reader

    def has_ended(self) -> bool:
        return self._waited(0.0)

    def close(self) -> None:
        """End it. One that does not end at once is killed."""
        if self._pidfd < 0:
            return
        for number, wait_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
            with suppress(OSError):  # it has ended
                signal.pidfd_send_signal(self._pidfd, number)
            if self._waited(wait_s):
                break
        with suppress(ChildProcessError):  # whoever waits for the job was first
            os.waitpid(self._pid, os.WNOHANG)
        with _lock:
            _pids.discard(self._pid)
        for descriptor in (self._pidfd, self.output):
            os.close(descriptor)
        self._pidfd = self.output = -1

    def _waited(self, seconds: float) -> bool:
        return self._pidfd < 0 or bool(select.select([self._pidfd], [], [], seconds)[0])
