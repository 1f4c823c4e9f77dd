"""The CPU topology of a simulated machine, `devices/system/cpu`, as far as readers of RAPL look at it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.simulator.powercap import Package

FOLDER = "devices/system/cpu"


def cpu_list(numbers: Iterable[int]) -> str:
    """Numbers as the kernel lists them: `0-2,5`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


class Cpus:
    """Each package's cores in turn, one thread a core."""

    def __init__(self, root: Path, packages: Sequence[Package]) -> None:
        self._folder = root / FOLDER
        self._folder.mkdir(parents=True)
        self._online: set[int] = set()
        for place, package in enumerate(packages):
            for core in range(package.cores):
                cpu = len(self._online)
                self._online.add(cpu)
                topology = self._folder / f"cpu{cpu}" / "topology"
                topology.mkdir(parents=True)
                socket = place if package.socket is None else package.socket
                self._write(f"cpu{cpu}/topology/physical_package_id", f"{socket}")
                self._write(f"cpu{cpu}/topology/die_id", f"{package.die or 0}")
                self._write(f"cpu{cpu}/topology/core_id", f"{core}")
                self._write(f"cpu{cpu}/topology/thread_siblings_list", f"{cpu}")
        for name in ("present", "possible", "online"):
            self._write(name, cpu_list(self._online))

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text + "\n")

    def set_offline(self, cpu: int) -> None:
        """Switch a CPU off: it stays present, but its topology is gone."""
        self._online.remove(cpu)
        shutil.rmtree(self._folder / f"cpu{cpu}" / "topology")
        self._write(f"cpu{cpu}/online", "0")
        self._write("online", cpu_list(self._online))
