"""How many more processes and threads may be started here: by this user, and in this cgroup.

The limits are RLIMIT_NPROC (getrlimit(2), which counts the threads of a user) and pids.max of the pids
controller (Documentation/admin-guide/cgroup-v2.rst of the kernel).
"""

from __future__ import annotations

import errno
import math
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OWN_THREADS = 8
"""What a monitor starts at most before its job: sampling, recording, the socket, /metrics, a driver's calls,
the GPUs' processes, a scrape, and the witness of signals."""

LEFT_TO_THE_JOB = 16
"""Where the job would have fewer beside our threads, we start none."""

LEAST = 4
"""Where fewer may be started, already our own process could be one too many: the job runs in its place."""

LEAST_MEMORY = 128 << 20
"""Under a lower limit of address space (RLIMIT_AS) or data (RLIMIT_DATA, which counts the stacks of threads
since Linux 4.7; setrlimit(2)) we start no thread: CPython waits for ever for one that finds no memory at its
begin. All threads need 80 MiB on a node without GPUs (2026-11-29), with `share_one_arena`."""

M_ARENA_MAX = -8
"""mallopt(3)."""

COUNTED_BELOW = 4096
"""A user's threads are counted where the limit is lower than this: else they are far from it, or so many that
counting takes long."""


def are_scarce(procfs: Path, sysfs: Path) -> bool:
    """Whether our threads could take what the job needs.

    Raises `BlockingIOError`, as fork(2) does, where already our process could.
    """
    left = free(procfs, sysfs)
    if left < LEAST:
        raise BlockingIOError(errno.EAGAIN, f"only {left:.0f} more processes may be started here")
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    memory = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    if memory:
        if min(memory) < LEAST_MEMORY:
            return True
        share_one_arena()
    return left < OWN_THREADS + LEFT_TO_THE_JOB


def share_one_arena() -> None:
    """Have all threads allocate from one heap.

    By itself glibc reserves 128 MiB of address space for a thread's own, at whatever moment it gets to it,
    and gives half of it back: under a limit the next thread then cannot be started (seen under 256 MiB).
    """
    with suppress(OSError, AttributeError, ImportError, MemoryError):  # AttributeError: not glibc
        import ctypes

        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def free(procfs: Path, sysfs: Path) -> float:
    """The number of processes and threads that may still be started; infinity where no limit is near."""
    return min(_free_of_user(procfs), _free_of_cgroup(procfs, sysfs))


def _free_of_user(procfs: Path) -> float:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit == resource.RLIM_INFINITY or limit >= COUNTED_BELOW or os.geteuid() == 0:  # root has no limit
        return math.inf
    uid, used = os.getuid(), 0
    with suppress(OSError), os.scandir(procfs) as entries:
        for entry in entries:
            if not entry.name.isdecimal():
                continue
            with suppress(OSError):  # it has ended, or /proc hides it
                if entry.stat().st_uid == uid:
                    used += os.stat(f"{entry.path}/task").st_nlink - 2  # noqa: PTH116 (many, quickly)
    return limit - used


def _free_of_cgroup(procfs: Path, sysfs: Path) -> float:
    least = math.inf
    for folder in _cgroups(procfs, sysfs / "fs/cgroup"):
        with suppress(OSError, ValueError):  # ValueError: "max", there is no limit
            limit = int((folder / "pids.max").read_bytes())
            least = min(least, limit - int((folder / "pids.current").read_bytes()))
    return least


def _cgroups(procfs: Path, mount: Path) -> Iterator[Path]:
    """This process's cgroup that limits processes, and those above it (cgroups(7))."""
    try:
        lines = (procfs / "self/cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if "pids" in controllers.split(","):
            base = mount / "pids"
        elif number == "0" and not controllers:
            base = mount
        else:
            continue
        # In a container the path may be the host's, which is not mounted: then the mount is the container's.
        parts = [part for part in path.split("/") if part and part != ".."]
        for count in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:count])
