"""Which processes are on an accelerator, by who has its device file open: /proc/PID/fd (proc(5)).

For accelerators whose file only those open that work on them: TPUs, AWS's Neuron devices, Gaudi (who only
looks at one opens another file). How much each process works is not told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


class DeviceFileProcesses:
    """The processes that have these device files open, under whatever name; pids are those of `procfs`.

    Which files another user's process has open is told to CAP_SYS_PTRACE only: such processes are `hidden`.
    """

    def __init__(
        self, procfs: Path, files: Mapping[str, str], numbers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """The accelerators' ids by the path of their device file, and by its numbers (`261:0`)."""
        self._procfs = procfs
        self._ids = dict(files)
        self._numbers = dict(numbers)
        self.unsupported: set[str] = set()
        self.hidden: frozenset[int] = frozenset()

    def processes(self, now_s: float) -> Mapping[str, frozenset[int] | None]:
        """The pids on each accelerator."""
        found: dict[str, set[int]] = {device_id: set() for device_id in self._ids.values()}
        hidden = set()
        for pid in (int(name) for name in _names(self._procfs) if name.isdecimal()):
            folder = self._procfs / str(pid) / "fd"
            try:
                names = _names(folder)
            except PermissionError:
                hidden.add(pid)
                continue
            except OSError:
                continue  # it has ended
            for name in names:
                try:
                    device_id = self._opened(folder / name)
                except PermissionError:  # the folder may be read, by CAP_DAC_READ_SEARCH, and not its links
                    hidden.add(pid)
                    break
                if device_id is not None:
                    found[device_id].add(pid)
        self.hidden = frozenset(hidden)
        return {device_id: frozenset(pids) for device_id, pids in found.items()}

    def _opened(self, link: Path) -> str | None:
        """The accelerator whose device file an open file is, None for any other file.

        Raises PermissionError where it may not be known.
        """
        try:
            target = str(link.readlink())
        except PermissionError:
            raise
        except OSError:
            return None  # it has closed it
        try:
            if target in self._ids or not target.startswith("/dev/"):
                return self._ids.get(target)
            number = link.stat().st_rdev  # in a container, or by a link, it has another name
        except OSError:
            return None  # it has closed it meanwhile, or the file may not be reached
        return self._numbers.get(f"{os.major(number)}:{os.minor(number)}")

    def utilization(self, uuid: str, now_s: float) -> Mapping[int, float] | None:
        """Unknown."""
        return None

    def close(self) -> None:
        """Nothing is kept open."""


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]
