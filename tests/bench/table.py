"""The Markdown table and the line above it that says where it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

DEPENDENCIES = ("click", "nvidia-ml-py", "prometheus-client", "psutil", "pyRAPL")
HEAD = "| what | target | measured | how |\n|---|---|---|---|"


class Row(NamedTuple):
    """One line of the table; the target is "" where none was set."""

    what: str
    target: str
    measured: str
    how: str


def line(row: Row) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def heading(arguments: Sequence[str], module: str = "tests.bench") -> str:
    """Date, machine, versions and command; the load average tells how idle the machine was."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in DEPENDENCIES)
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cpu = model[1].strip() if model else platform.machine()
    hypervisor = ", a virtual machine" if "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    today = datetime.now(timezone.utc).date().isoformat()
    command = " ".join([f"python -m {module}", *arguments])
    return (
        f"{today}, {cpu} ({os.cpu_count()} CPUs{hypervisor}), Linux {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, {versions}; load average "
        f"{os.getloadavg()[0]:.2f} before the start; `{command}`"
    )


def spread(values: Iterable[float], unit: str = "", scale: float = 1.0, digits: int = 3) -> str:
    """Median and, in brackets, quartiles: `0.143 (0.140 to 0.151) s`."""
    ordered = sorted(value * scale for value in values)
    if len(ordered) < 2:
        return f"{ordered[0]:.{digits}f} {unit}".rstrip()
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}) {unit}".rstrip()


def megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB ({count / 2**20:.1f} MiB)"
