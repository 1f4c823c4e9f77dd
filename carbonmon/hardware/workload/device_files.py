"""Which processes are on a TPU or a Neuron device: those that have its file below /dev open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


class DeviceFileProcesses:
    """The processes on the devices of these files; pids are those of `procfs`.

    Which files another user's process has open is told to CAP_SYS_PTRACE only: such processes are `hidden`.
    """

    def __init__(self, procfs: Path, ids: Mapping[str, str]) -> None:
        """`ids` are the devices' ids by their files: /dev/accel0, /dev/vfio/3, /dev/neuron0."""
        self._procfs = procfs
        self._ids = dict(ids)
        self.unsupported: set[str] = set()
        self.hidden: frozenset[int] = frozenset()

    def processes(self, now_s: float) -> Mapping[str, frozenset[int] | None]:
        """The pids on each device."""
        found: dict[str, set[int]] = {device_id: set() for device_id in self._ids.values()}
        hidden = set()
        for pid in sorted(int(name) for name in _names(self._procfs) if name.isdecimal()):
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
                    device_id = self._ids.get(str((folder / name).readlink()))
                except PermissionError:
                    hidden.add(pid)
                    break
                except OSError:
                    continue  # it has closed the file, or ended
                if device_id is not None:
                    found[device_id].add(pid)
        self.hidden = frozenset(hidden)
        return {device_id: frozenset(pids) for device_id, pids in found.items()}

    def utilization(self, uuid: str, now_s: float) -> Mapping[int, float] | None:
        """Nobody tells which process uses how much of such a device."""
        return None

    def close(self) -> None:
        """Nothing is kept open."""


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]
