"""Names the process that holds a port, for the error that says that it is taken."""

from __future__ import annotations

import psutil


def holder_of(port: int) -> str:
    """The program and the process id behind a TCP port, "another process" where the kernel does not tell us.

    Only root sees the sockets of other users' processes (proc(5), /proc/PID/fd).
    """
    try:
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.pid and found.laddr[1:] == (port,):
                return f"{psutil.Process(found.pid).name()} (process {found.pid})"
    except (psutil.Error, OSError):
        pass
    return "another process"
