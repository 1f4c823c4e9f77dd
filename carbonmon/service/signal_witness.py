"""Tells a signal that was sent to the whole group from one that was sent to us alone.

kill(2) and sigaction(2) do not say which it was. So a process that does nothing (`cat` on a pipe of ours,
which ends with us) stands beside the job in its group, its cgroup and its job step: it dies of what is sent
to all of them. Then the job has the signal already, and it is not passed on a second time.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from carbonmon.core.records import NamedTuple

log = logging.getLogger(__name__)

GRACE_S = 0.05
"""How long a signal is held back to see whether it comes to all. timeout(1) sends it to its child first and
then to the group; systemd and Slurm send it to one process of a cgroup after the other."""

_LOOK_S = 0.002
_PROGRAMS = ("/bin/cat", "/usr/bin/cat")


class _Death(NamedTuple):
    signal: int
    at_s: float


class SignalWitness:
    """A witness for the job of this process. `tell` hears the process id of each: it is no part of the job.

    Where none can be started (no `cat`, a limit of processes) `saw` is always None.
    """

    def __init__(self, signals: Iterable[int], tell: Callable[[int], object]) -> None:
        self._signals = tuple(signals)
        self._tell = tell
        self._death = _Death(0, 0.0)
        self._known_pid = 0
        self._pipe = -1
        self.pid = 0

    def start(self) -> None:
        """Start a witness, or the next one. It has no file, no environment and no signal mask of ours."""
        try:
            if self._pipe < 0:
                self._reader, self._pipe = os.pipe()
            program = next(filter(os.path.exists, _PROGRAMS))
            null = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
            self.pid = os.posix_spawn(
                program,
                ["cat"],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, self._reader, 0), null, (os.POSIX_SPAWN_DUP2, 1, 2)],
                setsigmask=(),
                setsigdef=self._signals,
            )
            resource.prlimit(self.pid, resource.RLIMIT_CORE, (0, 0))  # SIGQUIT leaves no file behind
        except (OSError, StopIteration) as error:
            log.debug("no witness of signals: %s", error)
        else:
            self._tell(self.pid)

    def saw(self, number: int) -> bool | None:
        """Whether a signal that came to us came to all of the group; None if nobody can tell."""
        if not self.pid and not self._death.signal:
            return None
        until_s = time.monotonic() + GRACE_S
        while True:
            if self._death.signal == number and time.monotonic() - self._death.at_s < GRACE_S:
                self._death = _Death(0, 0.0)  # it told of this signal; the next one has a witness of its own
                return True
            if self.pid and self.pid != self._known_pid and _has_pending(self.pid, number):
                self._known_pid = self.pid
                return True
            if time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_S)
            self._look()

    def reaped(self, status: int) -> None:
        """Somebody has waited for the witness: the next one begins."""
        number = -os.waitstatus_to_exitcode(status)
        if self.pid != self._known_pid:
            self._death = _Death(number, time.monotonic())
        self.pid = 0
        if number > 0:  # else the program does not work here: a second one would not, either
            self.start()

    def close(self) -> None:
        """End the witness."""
        if self.pid:
            with suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self.pid = 0
        if self._pipe >= 0:
            os.close(self._pipe)
            os.close(self._reader)
            self._pipe = -1

    def _look(self) -> None:
        if not self.pid:
            return
        with suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.reaped(status)


def pending_signals(pid: int) -> int:
    """Signals that a process was sent and has not taken yet, as a mask of 1 << (number - 1) (proc(5))."""
    return _signals(pid, b"SigPnd:", b"ShdPnd:")


def ignored_signals(pid: int) -> int:
    """Signals that a process ignores, as such a mask: SIGHUP under nohup."""
    return _signals(pid, b"SigIgn:")


def _signals(pid: int, *fields: bytes) -> int:
    found = 0
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(fields):
                    found |= int(line.split()[1], 16)
    except (OSError, ValueError):
        pass
    return found


def _has_pending(pid: int, number: int) -> bool:
    """Whether a process is about to die of this signal.

    The kernel lets one die by a SIGKILL of its own, at the moment when the signal is sent.
    """
    return bool(pending_signals(pid) & (1 << (number - 1) | 1 << (signal.SIGKILL - 1)))
