"""The processes of a job, stopped and continued: the one that was started, and all below it.

Not its process group: that is ours as well, and launchers give their workers sessions of their own
(torch.distributed.elastic's `SubprocessHandler`). A parent is stopped before its children, so that it starts
no others meanwhile, and continued after them, so that none sees a child that is stopped.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from carbonmon.core.records import NamedTuple
from carbonmon.hardware.workload.proc import Processes, Stat
from carbonmon.service.signal_witness import pending_signals

MAX_LOOKS = 20
"""So often are new processes looked for until there are none: one that is not stopped yet may start more."""


class Process(NamedTuple):
    """A process by its id, which may be given out again, and by its start in clock ticks since boot."""

    pid: int
    start: int


class JobProcesses:
    """The job `pid` of this process. `beside` says which of our children are no part of it; what the job has
    left behind is our child as well."""

    def __init__(self, pid: int, beside: Callable[[], Collection[int]]) -> None:
        self._pid, self._beside = pid, beside
        self._processes = Processes(Path("/proc"))
        self._stopped: dict[Process, None] = {}
        self._unstoppable: set[Process] = set()
        """They are not waited for again: each time is a walk through all processes of the node."""
        self.is_running = False
        """Whether the process that was started runs although it was stopped: somebody has continued it."""

    def stop(self, announce: Callable[[list[Process]], bool]) -> bool:
        """Stop all of them, those that were stopped before as well; `announce` is told of each before that.

        False where `announce` says no, or the first process may not be stopped: then all are to be continued.
        """
        for _ in range(MAX_LOOKS):
            found = self._find()
            running = [
                process for process, stat in found if not stat.stopped and process not in self._unstoppable
            ]
            if not running:
                return True
            if not announce(running):
                return False
            for process in running:
                self._stopped[process] = None
                try:
                    os.kill(process.pid, signal.SIGSTOP)
                except ProcessLookupError:
                    continue
                except PermissionError:  # another user's, as behind sudo
                    if process.pid == self._pid:
                        return False
                    self._unstoppable.add(process)
        self._unstoppable.update(running)  # it waits for a disk, or for who traces it
        return True

    def look(self) -> None:
        """See whether the first process runs; one that is yet to take its SIGSTOP does not."""
        stat = self._processes.stat(self._pid)
        self.is_running = (
            stat is not None
            and not (stat.ended or stat.stopped)
            and not pending_signals(self._pid) & 1 << (signal.SIGSTOP - 1)
        )

    def go_on(self) -> None:
        """Continue all that were stopped."""
        stopped, self._stopped = list(self._stopped), {}
        self._unstoppable.clear()
        for process in reversed(stopped):
            stat = self._processes.stat(process.pid)
            if stat is not None and stat.start == process.start:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGCONT)

    def _find(self) -> list[tuple[Process, Stat]]:
        """The processes of the job that have not ended, parents first."""
        stats: dict[int, Stat] = {}
        for name in self._processes.names():
            if name.isdigit() and (stat := self._processes.stat(int(name))) is not None:
                stats[int(name)] = stat
        children: dict[int, list[int]] = {}
        for pid, stat in stats.items():
            children.setdefault(stat.ppid, []).append(pid)
        own, beside = os.getpid(), set(self._beside())  # after the listing: those in it are known
        waiting = [
            self._pid,
            *[pid for pid in children.get(own, ()) if pid != self._pid and pid not in beside],
        ]
        found = []
        for pid in waiting:  # grows while it is read: a breadth-first walk
            waiting += children.get(pid, ())
            stat = stats.get(pid)
            if stat is not None and not stat.ended:
                found.append((Process(pid, stat.start), stat))
        return found
