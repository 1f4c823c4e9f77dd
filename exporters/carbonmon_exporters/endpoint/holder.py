"""Names the process that holds a port, for the error that says that it is taken."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp (TCP_LISTEN in the kernel's tcp_states.h)."""


def holder_of(port: int, procfs: Path = Path("/proc")) -> str:
    """The program and the process id behind a TCP port, "another process" where the kernel does not tell us.

    Only root sees the sockets of other users' processes (proc(5), /proc/PID/fd).
    """
    wanted = {
        f"socket:[{inode}]" for name in ("tcp", "tcp6") for inode in _inodes(procfs / "net" / name, port)
    }
    for folder in procfs.glob("[0-9]*") if wanted else ():
        with suppress(OSError):  # it has ended, or is another user's
            if any(os.fspath(each.readlink()) in wanted for each in (folder / "fd").iterdir()):
                return f"{(folder / 'comm').read_text().strip()} (process {folder.name})"
    return "another process"


def _inodes(path: Path, port: int) -> list[str]:
    """The inodes of the sockets that listen at a port."""
    with suppress(OSError):
        rows = [line.split() for line in path.read_text().splitlines()[1:]]
        return [row[9] for row in rows if row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port]
    return []
