"""What a monitor says of itself to somebody who asks how it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from carbonmon import __version__
from carbonmon.service.registry import Registry

MAIN_PROCESS = "SYSTEMD_EXEC_PID"
"""The variable in which systemd tells a service's first process that it is that (systemd.exec(5))."""


def about(registry: Registry) -> dict[str, Any]:
    """Its kind, since when it serves (Unix time), its sources of power, its log, its service of systemd."""
    monitor = registry.monitor
    return {
        "version": __version__,
        "daemon": registry.is_daemon,
        "since_s": monitor.clock.wall_s() - registry.age_s,
        "unit": unit(),
        "log": _log_file(),
        "sensors": [
            {"sensor": sensor.name, "use": sensor.use, "up": sensor.up, "reason": sensor.reason}
            for sensor in monitor.sampler.latest.sensors
            if " " not in sensor.name  # else a note about a choice, or about a device that nothing meters
        ],
    }


def unit(environ: Mapping[str, str] = os.environ, procfs: Path = Path("/proc")) -> str | None:
    """The service of systemd that this process is: `carbonmon.service`, `--user mine.service`.

    None for none, "" for one whose name cannot be found.
    """
    if not is_service(environ):
        return None
    with suppress(OSError):
        for line in (procfs / "self" / "cgroup").read_text().splitlines():
            path = line.rpartition(":")[2]
            name = path.rpartition("/")[2]
            if name.endswith(".service"):
                return f"--user {name}" if "/user@" in path else name
    return ""


def is_service(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether systemd has started this very process."""
    return environ.get(MAIN_PROCESS) == str(os.getpid())


def _log_file() -> str | None:
    """The file that stderr is written to, None where it is none."""
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(2).st_mode):
            return os.readlink("/proc/self/fd/2")  # noqa: PTH115 (as it stands, also of a file that is gone)
    return None
