"""A process that continues a paused job where its monitor cannot: killed with SIGKILL, or hung.

Run as a script, by its path, without carbonmon and its packages: standard library only, and little of it.
The monitor writes lines to its standard input: `stop PID:START …` before it stops processes, `alive` now and
then, `clear` when it has continued them. At the end of that input, which is the end of the monitor, and after
so many seconds without a line as the second argument says, the processes are continued. All signals but
SIGKILL and SIGSTOP are blocked by whoever starts it.

A second process of it stands in the monitor's process group, whose id is the first argument. When a monitor
ends that an interactive shell has started, nobody outside of that group has a child in it: then Linux sends
SIGHUP to a group with stopped processes (setpgid(2), credentials(7)), which would end the job. This process
has a parent in another group, so the group is not left alone before the job goes on. There is none for the
group 0: where the monitor's own group is held by nobody in its session, the end of that process would be
what leaves it alone.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress


def main() -> None:
    monitor, lease_s = os.getppid(), float(sys.argv[2])
    group = int(sys.argv[1])
    member, held = stay_in(group) if group else (0, -1)
    os.write(1, b"%d\n" % member)
    stopped: dict[bytes, None] = {}
    rest = b""
    while True:
        if select.select([0], [], [], lease_s if stopped else None)[0]:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                word, *processes = line.split()
                if word == b"stop":
                    stopped.update(dict.fromkeys(processes))
                elif word == b"clear":
                    stopped.clear()
        elif os.getppid() != monitor or state_and_start(monitor)[0] != b"T":
            # A monitor that was stopped itself, as by Ctrl-Z, is no reason to let its job run.
            go_on(stopped)
            stopped.clear()
    go_on(stopped)
    if member:
        os.close(held)
        os.waitpid(member, 0)


def stay_in(group: int) -> tuple[int, int]:
    """Start the process that stands in a group until a pipe is closed; (pid, the pipe's end)."""
    reader, held = os.pipe()
    member = os.fork()
    if not member:
        try:
            os.setpgid(0, group)
            for number in (0, 1, held):
                os.close(number)
            os.read(reader, 1)
        finally:
            os._exit(0)
    os.close(reader)
    with suppress(OSError):  # the group is in another session
        os.setpgid(member, group)  # both do it, so that it is done when this returns
    return member, held


def go_on(stopped: dict[bytes, None]) -> None:
    """Continue processes, the last first, unless their ids are others' by now."""
    for process in reversed(stopped):
        pid, start = process.split(b":")
        if state_and_start(int(pid))[1] == start:
            with suppress(OSError):  # ended meanwhile, or another user's
                os.kill(int(pid), signal.SIGCONT)


def state_and_start(pid: int) -> tuple[bytes, bytes]:
    """The state of a process, and its start in clock ticks since boot; empty if it has gone (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return b"", b""


if __name__ == "__main__":
    main()
