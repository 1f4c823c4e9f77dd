"""monitor.json: which process writes a run, and whether it still runs.

A pid names a process only with its start, in its pid namespace and on its boot of the kernel.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from carbonmon.core.records import NamedTuple
from carbonmon.runs.checked import RunFileError, document

MONITOR_FILE = "monitor.json"
MONITOR_SCHEMA = "carbonmon.monitor/1"

STALE_S, STALE_PERIODS = 15.0, 3
"""A monitor elsewhere that has written nothing for so long, and for so many checkpoint periods, is dead."""


class Holder(NamedTuple):
    """The process that writes, or wrote, a run. What is unknown is "" or None.

    `start` is in clock ticks after boot (proc(5)), `stale_s` for how long its files may be unchanged while it
    lives, `token` one of a kind.
    """

    host: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    start: int | None = None
    has_lock: bool = False
    stale_s: float = STALE_S
    token: str = ""

    def is_running(self, lock_is_free: bool) -> bool | None:
        """Whether it still runs, None if only its files can tell."""
        if not self.boot_id or self.boot_id != boot_id(Path("/proc")):
            return None
        if self.has_lock and lock_is_free:
            return False
        if not self.pid_namespace or self.pid_namespace != _pid_namespace():
            return None
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        start = _start_of(self.pid)
        if start is None or self.start is None:  # /proc hides the processes of other users (hidepid)
            return None
        return start == self.start


def this_process(period_s: float) -> Holder:
    """A holder of its own, of this process; `period_s` is the time between two checkpoints."""
    return Holder(
        os.uname().nodename,
        boot_id(Path("/proc")),
        _pid_namespace(),
        os.getpid(),
        _start_of(os.getpid()),
        stale_s=max(STALE_S, STALE_PERIODS * period_s),
        token=os.urandom(8).hex(),
    )


def holder_text(holder: Holder) -> str:
    """monitor.json of a holder."""
    return json.dumps({"schema": MONITOR_SCHEMA, **holder._asdict()}) + "\n"


def read_holder(path: Path) -> Holder | None:
    """The holder in a monitor.json, None without one; of a damaged one nothing is known."""
    # os.path.lexists is False for a folder that may not be entered
    if not os.path.lexists(path):
        return None
    try:
        kept = document(path, MONITOR_SCHEMA)
        return Holder(
            kept.text("host"),
            kept.text("boot_id"),
            kept.text("pid_namespace"),
            kept.value("pid", int),
            kept.value("start", int | None),
            kept.value("has_lock", bool),
            kept.number("stale_s"),
            kept.text("token"),
        )
    except RunFileError:
        return Holder()


def boot_id(procfs: Path) -> str:
    """The kernel's id of this boot (random(4)): hardware counters hold within one boot. "" if unknown."""
    with suppress(OSError, ValueError):
        return (procfs / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def _start_of(pid: int) -> int | None:
    """The start of a process in clock ticks after boot, None if it cannot be read; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
        state, *fields = text[text.rindex(b")") + 1 :].split()
        return 0 if state in (b"Z", b"X") else int(fields[18])
    except (OSError, ValueError, IndexError):
        return None


def _pid_namespace() -> str:
    """The pid namespace of this process (pid_namespaces(7)): a pid means nothing in another one."""
    with suppress(OSError):
        return os.fspath(Path("/proc/self/ns/pid").readlink())
    return ""
