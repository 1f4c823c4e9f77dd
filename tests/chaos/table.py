"""The Markdown table, and the line above it that says where it was measured."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

HEAD = (
    "| scenario | faults injected | joules of truth | joules in the account | difference % "
    "| lost seconds reported | target and what was found | ok |\n|---|---|---:|---:|---:|---:|---|---|"
)


class Check(NamedTuple):
    """One target with what was found beside it, and whether it holds."""

    text: str
    holds: bool


class Row(NamedTuple):
    """One scenario; a figure that it does not have is None."""

    scenario: str
    faults: str
    truth_j: float | None
    account_j: float | None
    lost_s: float | None
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.holds for check in self.checks)

    @property
    def difference_ratio(self) -> float | None:
        """How far the account is from the truth, as a ratio of the truth."""
        if not self.truth_j or self.account_j is None:
            return None
        return self.account_j / self.truth_j - 1.0


def line(row: Row) -> str:
    difference = row.difference_ratio
    cells = (
        row.scenario,
        row.faults,
        _figure(row.truth_j),
        _figure(row.account_j),
        "" if difference is None else f"{difference:+.3%}",
        "" if row.lost_s is None else f"{row.lost_s:.2f}",
        "; ".join(check.text if check.holds else f"**missed: {check.text}**" for check in row.checks),
        "yes" if row.ok else "**no**",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def heading(module: str, arguments: Sequence[str], seed: int) -> str:
    """Date, machine and command; the load average tells how idle the machine was."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    cpu = model[1].strip() if model else platform.machine()
    virtual = ", a virtual machine" if "hypervisor" in cpuinfo else ""
    return (
        f"{datetime.now(timezone.utc).date().isoformat()}, {cpu} ({os.cpu_count()} CPUs{virtual}), "
        f"{platform.python_implementation()} {platform.python_version()}, load average "
        f"{os.getloadavg()[0]:.2f} before the start; `{' '.join(['python -m', module, *arguments])}`, "
        f"seed {seed}"
    )


def energy_check(truth_j: float, account_j: float, tolerance_j: float, target: str) -> Check:
    """Whether the account is no further from the truth than so many joules."""
    return Check(target, abs(account_j - truth_j) <= tolerance_j)


def _figure(joules: float | None) -> str:
    return "" if joules is None else f"{joules:.1f}"
