"""The training job as a child process: its streams, signals and exit code stay its own.

The main thread waits with the signals blocked (sigwaitinfo(2)), so there is no handler that could
interrupt anything and no polling. posix_spawn(3) starts the job: no Python runs between fork and exec.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.own_children import is_ours
from carbonmon.service.helpers import Helpers
from carbonmon.service.signal_witness import SignalWitness

if TYPE_CHECKING:
    from carbonmon.service.pauses import JobPauses

log = logging.getLogger(__name__)

FORWARDED: frozenset[int] = frozenset(
    (
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
        *(signal.SIGXCPU, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR),
        *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
    )
)
"""What users, terminals and schedulers send to end a job or to make it checkpoint: all that would end us and
tells of no fault of ours (signal(7)). Not SIGXFSZ: the kernel sends us one where we write too much, like a
user's."""

SI_KERNEL = 0x80
"""si_code of a signal that the kernel itself sent (asm-generic/siginfo.h)."""

_NOT_FOR_THE_JOB = frozenset((signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU))
"""Where the kernel sends them: the terminal's Ctrl-C, which reached the job already, because the whole
foreground process group gets it, and that our own CPU time is over. An alarm is the job's: it was set before
execve(2), which keeps it."""

NOT_EXECUTABLE, NOT_FOUND = 126, 127

NO_PLACE = frozenset((errno.EAGAIN, errno.ENOMEM))
"""What fork(2) says at a limit of processes or of memory: no fault of the command."""


class Outcome(NamedTuple):
    """How the job ended: an exit code, or the number of the signal that ended it."""

    exit_code: int | None
    signal: int | None

    @property
    def shell_code(self) -> int:
        """The exit code by the shell's convention: 128 + N for signal N."""
        return 128 + self.signal if self.signal is not None else self.exit_code or 0


def block_signals() -> set[int]:
    """Hold the forwarded signals back from now on; returns the mask that the job is to have.

    Called before any thread starts, because threads inherit the mask.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an inherited SIG_IGN would swallow the exit code
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD, signal.SIGCONT}))


ATTACHED_LOOK_S = 10.0
"""How often an attached job is looked at where no thread can watch it."""

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): descendants whose parent ends become our children, so that their CPU time reaches us."""


def become_subreaper(yes: int = 1) -> None:
    """Adopt the job's orphans; where that cannot be done they go to init, as without us."""
    with suppress(OSError, AttributeError, ImportError, MemoryError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, yes, 0, 0, 0)


class Command:
    """A job that we start: its child process. What it leaves behind is ours to reap while we wait for it."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.command = tuple(command)
        self.environ = environ
        self.pid = 0
        self.helpers = Helpers()
        self.pauses: JobPauses | None = None
        self._pidfd: int | None = None

    def start(self, mask: set[int], more: Mapping[str, str] | None = None) -> None:
        """Start the job with the signal mask that we were given; raises OSError if it cannot be executed.

        `more` is added to its environment.
        """
        become_subreaper()
        self.pid = os.posix_spawnp(
            self.command[0],
            list(self.command),
            {**self.environ, **(more or {})},
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these two for itself
        )
        with suppress(OSError):  # no kernel before 5.3, and not every sandbox
            self._pidfd = os.pidfd_open(self.pid)

    def send(self, number: int) -> bool:
        """Send the job a signal, from any thread, as it gets one sent to us; whether that was possible.

        By the descriptor of the process: its id may be another's by now.
        """
        is_sent = self._pidfd is not None and _send_to(self._pidfd, number)
        if self.pauses is not None:
            self.pauses.signal_came(number)
        return is_sent

    def wait(self, tell: Callable[[int], object] | None = None) -> Outcome:
        """Wait for the job, passing on what is sent to us alone.

        `tell` hears of each process of ours beside the job; without it there is none.
        """
        witness = SignalWitness(FORWARDED, tell or (lambda pid: None))
        if tell is not None:
            witness.start()
        try:
            while True:
                info = signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD, signal.SIGCONT})
                if info.si_signo == signal.SIGCONT:
                    if self.pauses is not None:
                        self.pauses.monitor_continued()
                    continue
                if info.si_signo != signal.SIGCHLD:
                    self._pass_on(info.si_signo, info.si_code, witness)
                    if self.pauses is not None:
                        self.pauses.signal_came(info.si_signo)
                    continue
                # One SIGCHLD may stand for several children, orphans that we adopted among them.
                while (status := _reaped()) is not None:
                    if status[0] == self.pid:
                        code = os.waitstatus_to_exitcode(status[1])
                        return Outcome(code, None) if code >= 0 else Outcome(None, -code)
                    if status[0] == witness.pid:
                        witness.reaped(status[1])
                    else:
                        self.helpers.reaped(*status)
        finally:
            witness.close()

    def _pass_on(self, number: int, code: int, witness: SignalWitness) -> None:
        """Send the job a signal that it does not have from elsewhere."""
        if code == SI_KERNEL and number in _NOT_FOR_THE_JOB:
            return
        if witness.saw(number) and _is_in_our_group(self.pid):
            # timeout(1) sends it to us and to the group: that is one signal.
            signal.sigtimedwait({number}, 0)
            return
        _send(self.pid, number)

    def take_our_place(self, mask: set[int]) -> int:
        """Run the job in this process, which ends carbonmon; returns only an exit code, if it cannot be run.

        Whatever our state is: the job has its signals, its environment and the process id of the command.
        """
        with suppress(OSError, ValueError):  # closed by whoever started us
            if sys.stderr is not None:
                sys.stderr.flush()
        become_subreaper(0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            os.execvpe(self.command[0], self.command, self.environ)
        except OSError as error:
            from carbonmon.service.start_errors import start_error

            log.error("%s", start_error(self.command, error))
            return start_error_code(error)


class Attached:
    """A job that runs already and is not our child: we see its end, not its exit code.

    Signals sent to the monitor end the monitor and leave the job alone.
    """

    def __init__(self, pid: int) -> None:
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise ConfigError(
                f"--attach: process {pid}: {error.strerror}; give the id of a running one"
            ) from None
        self.pid = pid
        self.helpers = Helpers()
        self.pauses: JobPauses | None = None  # never: whoever started it would take it for stopped
        self.command, self.environ = _describe(pid)

    def start(self, mask: set[int], more: Mapping[str, str] | None = None) -> None:
        """Nothing to start: a thread watches for the job's end, which wakes `wait` like a child's."""
        main = threading.get_ident()

        def watch() -> None:
            select.select([self._pidfd], [], [])
            signal.pthread_kill(main, signal.SIGCHLD)

        with suppress(RuntimeError):  # no more threads for this user: `wait` looks now and then
            threading.Thread(target=watch, name="carbonmon-attached", daemon=True).start()

    def wait(self, tell: Callable[[int], object] | None = None) -> Outcome:
        """Wait for the job's end, or for a signal that ends the monitor."""
        while True:
            info = signal.sigtimedwait(FORWARDED | {signal.SIGCHLD}, ATTACHED_LOOK_S)
            if info is not None and info.si_signo != signal.SIGCHLD:
                break
            if select.select([self._pidfd], [], [], 0)[0]:
                break
            while (status := _reaped()) is not None:
                self.helpers.reaped(*status)
        return Outcome(None, None)

    def send(self, number: int) -> bool:
        """Send the job a signal, from any thread; whether that was possible."""
        return _send_to(self._pidfd, number)


def _describe(pid: int) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The command line and the environment of a process; our own environment where it may not be read."""
    import psutil

    command: tuple[str, ...] = ()
    try:
        process = psutil.Process(pid)
        command = tuple(process.cmdline())
        return command, process.environ()
    except psutil.Error:  # another user's, or ended meanwhile
        return command, os.environ


HELPERS = ("multiprocessing.resource_tracker", "carbonmon_exporters.ended")
"""Modules of processes that end by themselves: Python's own tracker, and what serves the end of a run."""


def left_behind(grace_s: float = 0.3) -> list[str]:
    """What goes on below us after the job has ended, as `name pid`; [] where nothing does.

    Processes that end with the job may need a moment: they are waited for, `grace_s` seconds at most. Only a
    subreaper knows: orphans are its children.
    """
    until_s = time.monotonic() + grace_s
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return []
        if pid:
            continue
        if time.monotonic() >= until_s:
            break
        time.sleep(0.02)
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # ended meanwhile
            is_helper = any(name in word for word in process.cmdline() for name in HELPERS) or is_ours(
                process.pid
            )
            if process.status() != psutil.STATUS_ZOMBIE and not is_helper:
                found.append(f"{process.name()} {process.pid}")
    return found


def can_start(word: str) -> bool:
    """Whether a program of that name, or path, is there to be executed, where posix_spawnp(3) looks."""
    places = [word] if "/" in word else [f"{folder}/{word}" for folder in os.get_exec_path()]
    return any(os.access(place, os.X_OK) and not os.path.isdir(place) for place in places)  # noqa: PTH112


def start_error_code(error: OSError) -> int:
    """The exit code of a shell for a command that could not be started."""
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _reaped() -> tuple[int, int] | None:
    """(pid, wait status) of a child that has ended, None if there is none now."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _is_in_our_group(pid: int) -> bool:
    try:
        return os.getpgid(pid) == os.getpgrp()
    except ProcessLookupError:
        return True


def _send_to(pidfd: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError as error:  # it has ended, or has changed its user
        log.debug("the job gets no signal %d: %s", number, error)
        return False
    return True


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it ended meanwhile; SIGCHLD is on its way
    except PermissionError:
        pass  # the job changed its user: only root may signal it, and that is the job's own choice
