"""Which processes are on a GPU of AMD or Intel, and how long its engines worked for each: DRM's fdinfo.

Keys: Linux, Documentation/gpu/drm-usage-stats.rst. A file of a client may be open several times, and in
several processes; `drm-client-id` tells that it is one. Engine times may fall for a moment: the larger holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from carbonmon.core.records import NamedTuple

IN_USE_BYTES = 16 << 20
"""A client with less memory and no engine time is one of a runtime that only opens every GPU of the machine,
as ROCm's does."""

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_ENTRY = re.compile(r"^drm-([\w-]+):[ \t]*(\S+)[ \t]*(\w*)", re.MULTILINE)
_DEVICES = "/dev/dri/"


class Usage(NamedTuple):
    """What a client has used of one GPU since it began: engine time by engine, and memory now.

    `engines` are (busy, of), in cycles of the engine or in ns; `of` is None for ns, of which the caller
    knows how many passed.
    """

    engines: Mapping[str, tuple[float, float | None]]
    memory_bytes: int


class _Client(NamedTuple):
    """A client's process, the file that tells its usage, and that usage at an earlier moment."""

    pid: int
    path: Path
    at_s: float
    usage: Usage


class DrmProcesses:
    """The processes on the GPUs of these ids; pids are those of `procfs`.

    Which files another user's process has open is told to CAP_SYS_PTRACE only: such processes are `hidden`.
    """

    def __init__(self, procfs: Path, addresses: Mapping[str, str]) -> None:
        """`addresses` are the GPUs' ids by PCI address."""
        self._procfs = procfs
        self._ids = dict(addresses)
        self._clients: dict[str, dict[str, _Client]] = {gpu: {} for gpu in self._ids.values()}
        self.unsupported: set[str] = set()
        self.hidden: frozenset[int] = frozenset()

    def processes(self, now_s: float) -> Mapping[str, frozenset[int] | None]:
        """The pids on each GPU: those with memory there, or for which it has worked."""
        before, self._clients = self._clients, {gpu: {} for gpu in self._ids.values()}
        self._hidden: set[int] = set()
        for pid, path, address, client, usage in self._scan():
            gpu = self._ids[address]
            if client not in self._clients[gpu]:
                known = before[gpu].get(client)
                is_known = known is not None and known.pid == pid
                self._clients[gpu][client] = (
                    known._replace(path=path) if is_known and known else _Client(pid, path, now_s, usage)
                )
        self.hidden = frozenset(self._hidden)
        return {
            gpu: frozenset(client.pid for client in clients.values() if _is_in_use(client.usage))
            for gpu, clients in self._clients.items()
        }

    def utilization(self, uuid: str, now_s: float) -> Mapping[int, float] | None:
        """The part of the time (0 to 1) for which each pid's busiest engine worked since the last call."""
        ratios: dict[int, float] = {}
        clients = self._clients[uuid]
        for name, client in list(clients.items()):
            told = _read(client.path)
            if told is None:
                continue  # it has closed the file, or ended
            usage = _latest(client.usage, told[2])
            ratio = _busy_ratio(client.usage, usage, now_s - client.at_s)
            clients[name] = client._replace(at_s=now_s, usage=usage)
            ratios[client.pid] = min(1.0, ratios.get(client.pid, 0.0) + ratio)
        return ratios

    def close(self) -> None:
        """Nothing is kept open."""

    def _scan(self) -> Iterator[tuple[int, Path, str, str, Usage]]:
        """Every client of our GPUs: process, file, PCI address, client id, usage."""
        for pid in sorted(int(name) for name in _names(self._procfs) if name.isdecimal()):
            folder = self._procfs / str(pid)
            try:
                names = _names(folder / "fd")
            except PermissionError:
                self._hidden.add(pid)
                continue
            except OSError:
                continue  # it has ended
            for name in names:
                try:
                    if not str((folder / "fd" / name).readlink()).startswith(_DEVICES):
                        continue
                except PermissionError:  # the folder may be read, by CAP_DAC_READ_SEARCH, and not its links
                    self._hidden.add(pid)
                    break
                except OSError:
                    continue
                path = folder / "fdinfo" / name
                told = _read(path)
                if told is not None and told[0] in self._ids:
                    yield pid, path, *told


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries]


def _read(path: Path) -> tuple[str, str, Usage] | None:
    """PCI address, client id and usage by a file's fdinfo; None where it is none of a GPU on the PCI bus."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    entries = {key: (value, unit) for key, value, unit in _ENTRY.findall(text)}
    address, client = (entries.get(key, ("", ""))[0] for key in ("pdev", "client-id"))
    if not address or not client:
        return None
    numbers = {
        key: int(value) * _UNITS.get(unit, 1)
        for key, (value, unit) in entries.items()
        if re.fullmatch(r"[0-9]{1,20}", value)
    }
    engines: dict[str, tuple[float, float | None]] = {}
    memory: dict[str, int] = {}
    for key, number in numbers.items():
        kind, _, rest = key.partition("-")
        if kind == "engine" and not rest.startswith("capacity-"):
            engines[rest] = number / max(1, numbers.get(f"engine-capacity-{rest}", 1)), None
        elif kind == "cycles" and f"total-cycles-{rest}" in numbers:
            engines[rest] = number, float(numbers[f"total-cycles-{rest}"])
        elif kind in ("memory", "resident") and rest != "cpu":
            memory[rest] = max(number, memory.get(rest, 0))
    return address, client, Usage(engines, sum(memory.values()))


def _is_in_use(usage: Usage) -> bool:
    return usage.memory_bytes >= IN_USE_BYTES or any(busy for busy, _ in usage.engines.values())


def _latest(before: Usage, now: Usage) -> Usage:
    """The usage of now, without engine times that have fallen."""
    engines = {
        name: before.engines[name] if name in before.engines and before.engines[name][0] > told[0] else told
        for name, told in now.engines.items()
    }
    return now._replace(engines=engines)


def _busy_ratio(before: Usage, after: Usage, elapsed_s: float) -> float:
    """The part of the time for which the busiest engine worked between two readings."""
    busiest = 0.0
    for name, (busy, total) in after.engines.items():
        last_busy, last_total = before.engines.get(name, (0.0, None))
        span = elapsed_s * 1e9 if total is None or last_total is None else total - last_total
        if span > 0.0:
            busiest = max(busiest, (busy - last_busy) / span)
    return min(1.0, busiest)
