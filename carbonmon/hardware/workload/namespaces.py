"""Which PID namespace /proc shows (pid_namespaces(7)), and our own pids in another one."""

from __future__ import annotations

import os
from pathlib import Path

INIT_PID_NAMESPACE = 0xEFFFFFFC
"""Inode of the first PID namespace (PROC_PID_INIT_INO in linux/proc_ns.h)."""


def shows_our_pids(procfs: Path) -> bool:
    """Whether `procfs` is a /proc of our own PID namespace.

    NSpid lists a process's pids from the namespace of the mount inwards: one pid of ours means that the
    mount's namespace is our own (proc(5), since Linux 4.1).
    """
    return _pids(procfs / "self" / "status") == (os.getpid(),)


def shows_host_pids(procfs: Path) -> bool:
    """Whether the pids in `procfs` are those of the host, which NVML reports.

    Our own /proc does if we are in the first PID namespace. Another mount is taken for the host's.
    """
    if not shows_our_pids(procfs):
        return procfs != Path("/proc")
    try:
        return (procfs / "self" / "ns" / "pid").stat().st_ino == INIT_PID_NAMESPACE
    except OSError:
        return False


def host_pid(procfs: Path, pid: int) -> int | None:
    """The pid in `procfs` of the process that is `pid` in our own namespace; None if it is unknown."""
    if shows_our_pids(procfs):
        return pid
    own = _pids(procfs / "self" / "status")
    if not own:
        return None
    if pid == os.getpid():
        return own[0]
    depth = len(own) - 1
    candidates = []
    try:
        entries = list(procfs.iterdir())
    except OSError:
        return None
    for entry in entries:
        if entry.name.isdigit():
            pids = _pids(entry / "status")
            if len(pids) > depth and pids[depth] == pid:
                candidates.append((pids, entry / "ns" / "pid"))
    if len(candidates) > 1:  # the same number in a sibling namespace: compare the namespaces' inodes
        own_inode = _inode(procfs / "self" / "ns" / "pid")
        candidates = [
            (pids, link) for pids, link in candidates if len(pids) == depth + 1 and _inode(link) == own_inode
        ]
    return candidates[0][0][0] if len(candidates) == 1 else None


def _pids(status: Path) -> tuple[int, ...]:
    try:
        text = status.read_bytes()
    except OSError:
        return ()
    for line in text.splitlines():
        if line.startswith(b"NSpid:"):
            return tuple(int(word) for word in line.split()[1:] if word.isdigit())
    return ()


def _inode(link: Path) -> int | None:
    try:
        return link.stat().st_ino
    except OSError:
        return None
