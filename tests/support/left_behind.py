"""What a test module leaves in its process that goes on beside the tests after it."""

from __future__ import annotations

import ctypes
import threading
from contextlib import suppress
from pathlib import Path

MONITORS = ("carbonmon-sampler", "carbonmon-recorder", "carbonmon-metrics")
"""Threads that would not keep a process from its end, and do something all the time or for anybody."""

KEPT = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "tests.support import forked")
"""Words in the command of a child that lives as long as this process, by design."""

PR_GET_CHILD_SUBREAPER = 37


def left_behind() -> set[str]:
    """Threads that are no daemons, a monitor's threads, living children, and that orphans become children."""
    main = threading.main_thread()
    found = {
        f"thread {thread.name} ({thread.ident})"
        for thread in threading.enumerate()
        if thread is not main and (not thread.daemon or thread.name in MONITORS)
    }
    for folder in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread, or the child, has ended
            for pid in (folder / "children").read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                if command and not any(words in command for words in KEPT):  # one that has ended has none
                    found.add(f"child {pid}: {command[:200]}")
    is_subreaper = ctypes.c_int()
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(is_subreaper), 0, 0, 0)
    if is_subreaper.value:
        found.add("a subreaper: orphans of other tests are its children (become_subreaper(0) ends that)")
    return found
