"""Running a command where a folder is `/sys`, in a mount namespace of its own.

Needed for readers that know no other root (pyRAPL). The real `/sys/fs/cgroup` stays in its place.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

BIND = """
mount --rbind /sys/fs/cgroup "$1/fs/cgroup" 2>/dev/null
mount --rbind "$1" /sys || exit 125
shift
exec "$@"
"""


def wrapped(sysfs: Path, command: Sequence[str], uid: int | None = None) -> list[str]:
    """The command that runs `command` with `sysfs` over /sys, in the same process (pid, signals, exit code).

    Root uses a mount namespace only; others a user namespace as well, in which they appear as root.
    `uid` runs it as that unprivileged user, which only root can ask for.
    """
    if uid is not None:
        command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", *command]
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    return [*unshare, "sh", "-c", BIND, "sh", str(sysfs), *command]


@cache
def can_wrap() -> bool:
    """Whether this machine lets us do that: containers and hardened kernels often do not."""
    try:
        probe = subprocess.run(wrapped(Path("/sys"), ["true"]), capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0
