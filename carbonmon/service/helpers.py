"""Commands of the user's that run beside the job: started by any thread, waited for by the main one.

The main thread reaps every child, orphans of the job among them, so a helper's exit status reaches it first.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

log = logging.getLogger(__name__)

_LOOK_S = 0.02


class Helpers:
    """The helpers of one job; methods are for any thread.

    The lock is held while a helper starts and while one is reaped: none ends unseen, and none is killed by
    the id of another process.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, threading.Event] = {}
        self._codes: dict[int, int] = {}

    def run(self, command: Sequence[str], text: str, timeout_s: float) -> None:
        """Run a command with a text as its standard input, and wait for it; raises OSError that says why not.

        No shell has it, and none of our signal settings. What it prints goes to stderr.
        """
        reader, writer = os.pipe()
        try:
            os.write(writer, text.encode("utf-8", "replace")[: 1 << 12])  # a pipe holds that (pipe(7))
            os.close(writer)
            with self._lock:
                pid = os.posix_spawnp(
                    command[0],
                    list(command),
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, 2, 1)],
                    setpgroup=0,
                    setsigmask=(),
                    setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
                )
                ended = self._running[pid] = threading.Event()
        finally:
            os.close(reader)
        if not ended.wait(timeout_s):
            self._kill([pid])
            raise TimeoutError(f"it did not end within {timeout_s:g} s and was killed")
        code = self._codes.pop(pid)
        if code:
            raise ChildProcessError(f"it ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")

    def pids(self) -> list[int]:
        """Those that run now."""
        with self._lock:
            return list(self._running)

    def reaped(self, pid: int, status: int) -> None:
        """The main thread has waited for a child, which may be a helper."""
        with self._lock:
            ended = self._running.pop(pid, None)
        if ended is not None:
            self._codes[pid] = os.waitstatus_to_exitcode(status)
            ended.set()

    def wait(self, thread: threading.Thread, timeout_s: float) -> None:
        """When the job has ended: reap helpers until the thread that runs them has ended, a while at most."""
        until_s = time.monotonic() + timeout_s
        while thread.is_alive() and time.monotonic() < until_s:
            for pid in list(self._running):
                with suppress(ChildProcessError):
                    found, status = os.waitpid(pid, os.WNOHANG)
                    if found:
                        self.reaped(found, status)
            thread.join(_LOOK_S)
        self._kill(list(self._running))

    def _kill(self, pids: Sequence[int]) -> None:
        """End helpers, and what they started in their group."""
        with self._lock:
            for pid in pids:
                if pid in self._running:
                    log.warning("a command of --on-budget is killed: it did not end in time")
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(pid, signal.SIGKILL)
