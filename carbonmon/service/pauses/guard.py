"""The monitor's side of the guardian: started before the first pause, told of what is about to be stopped."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from carbonmon.hardware.workload.proc import Processes, with_parents
from carbonmon.service.pauses.processes import Process

log = logging.getLogger(__name__)

START_S = 5.0
"""How long the guardian may take to be there: without it no job is paused."""

END_S = 2.0

LIBRARIES = ("LD_LIBRARY_PATH",)
"""All of our environment that the guardian gets: an interpreter of an HPC module may not start without."""

LEASE_S = 60.0
"""After so long without a word from the monitor, which looks at the job at least every 5 s, it hangs."""


class Guard:
    """`pids` are the guardian's processes: no part of the job. Not for several threads at once."""

    def __init__(self) -> None:
        self.pids: tuple[int, ...] = ()
        self._pipe = -1

    def start(self) -> bool:
        """Whether there is a guardian now."""
        if self._pipe >= 0:
            return True
        reader, self._pipe = os.pipe()
        said, saying = os.pipe()
        script = str(Path(__file__).with_name("guardian.py"))
        try:
            os.set_blocking(self._pipe, False)
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", script, f"{_group_to_hold()}", f"{LEASE_S}"],
                {name: os.environ[name] for name in LIBRARIES if name in os.environ},
                file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0), (os.POSIX_SPAWN_DUP2, saying, 1)],
                setpgroup=0,
                setsigmask=signal.valid_signals(),
            )
            os.close(saying)
            saying = -1
            self.pids = (pid,)
            line = os.read(said, 32) if select.select([said], [], [], START_S)[0] else b""
            self.pids = (pid, member) if (member := int(line)) else (pid,)
        except (OSError, ValueError) as error:
            log.debug("no guardian of pauses: %s", error)
            self.close()
            return False
        finally:
            os.close(reader)
            os.close(said)
            if saying >= 0:
                os.close(saying)
        return True

    def announce(self, processes: Sequence[Process]) -> bool:
        """Tell of processes that are about to be stopped; whether it was heard."""
        return self.say("stop " + " ".join(f"{pid}:{start}" for pid, start in processes))

    def say(self, line: str) -> bool:
        """Whether there is a guardian to hear it. A pipe holds 64 KiB (pipe(7)): it is never full."""
        data = line.encode() + b"\n"
        try:
            return self._pipe >= 0 and os.write(self._pipe, data) == len(data)
        except OSError:  # it has been killed
            return False

    def close(self) -> None:
        """End it: it continues what is still stopped."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        pids, self.pids = self.pids, ()
        if not pids:
            return
        with suppress(OSError):  # the main thread may have waited for it already
            ended = os.pidfd_open(pids[0])
            try:
                select.select([ended], [], [], END_S)
            finally:
                os.close(ended)
            os.waitpid(pids[0], os.WNOHANG)


def _group_to_hold() -> int:
    """Our process group, if the end of somebody outside of it can leave it alone, as under a shell; else 0.

    A group whose parents are all in other sessions, as under setsid, systemd, a scheduler or in a container,
    gets no SIGHUP at our end. A child from outside would only be what it could lose.
    """
    processes = Processes(Path("/proc"))
    group = os.getpgrp()
    for _, stat in with_parents(processes.stat, os.getpid()):
        if stat.pgrp != group:
            return group if stat.session == os.getsid(0) else 0
    return 0
