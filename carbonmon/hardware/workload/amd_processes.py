"""Which processes are on which card of AMD, and how much of it they use, by the library that the sensor uses.

ROCm hands its work to a card past the kernel's scheduler (user-mode queues of the compute driver), so DRM's
fdinfo tells the memory of a process but no engine time. The library tells the compute units that each process
occupies at the moment of the question. What it does not tell is taken from fdinfo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from carbonmon.hardware.amdsmi import library as amdsmi_library
from carbonmon.hardware.amdsmi.cards import Card, list_cards
from carbonmon.hardware.amdsmi.library import AmdsmiLibrary, CallError
from carbonmon.hardware.amdsmi.quantities import number
from carbonmon.hardware.drm_gpus import list_drm_gpus
from carbonmon.hardware.own_thread import OwnThread
from carbonmon.hardware.workload.drm_clients import IN_USE_BYTES, DrmProcesses


class AmdProcesses:
    """The processes on the cards of these ids, by pids of the host; of other GPUs what `drm` tells."""

    def __init__(self, library: AmdsmiLibrary, sysfs: Path, gpus: frozenset[str], drm: DrmProcesses) -> None:
        self._library = library
        self._sysfs = sysfs
        self._gpus = gpus
        self._drm = drm
        self._own = OwnThread("amd-processes")
        self._cards: dict[str, Card] = {}
        self._generation = -1
        self._units: dict[str, int | None] = {}
        self._found: dict[str, frozenset[int] | None] = {}
        self.unsupported: set[str] = set()
        self.hidden: frozenset[int] = frozenset()

    def processes(self, now_s: float) -> Mapping[str, frozenset[int] | None]:
        """The pids on each GPU that either tells: not every release sees the processes of other users."""
        found = dict(self._drm.processes(now_s))
        told = self._in_time(lambda: {gpu: self._pids(gpu) for gpu in self._gpus}) or {}
        for gpu, pids in told.items():
            found[gpu] = pids | (found.get(gpu) or frozenset())
        self.hidden = self._drm.hidden.difference(*told.values())
        self._found = found
        return found

    def utilization(self, uuid: str, now_s: float) -> Mapping[int, float] | None:
        """The part of the card's compute units (0 to 1) that each pid occupies now."""
        if uuid in self._gpus:
            ratios: Mapping[int, float] | None = self._in_time(lambda: self._occupancy(uuid))
            if ratios is not None and ratios.keys() >= (self._found.get(uuid) or frozenset()):
                return ratios
        return self._drm.utilization(uuid, now_s)

    def close(self) -> None:
        if not self._own.is_busy and self._own.run(amdsmi_library.release):
            self._own.close()
        self._drm.close()

    def _in_time(self, call: Callable[[], Any]) -> Any:
        """What a call gives, None if it does not return in time: the driver hangs."""
        answers: list[Any] = []
        self._own.run(lambda: answers.append(call()))
        return answers[0] if answers else None

    def _pids(self, gpu: str) -> frozenset[int]:
        try:
            return frozenset(int(each["pid"]) for each in self._listed(gpu) if _is_in_use(each))
        except (CallError, KeyError, TypeError, ValueError):  # of another release: fdinfo tells
            return frozenset()

    def _occupancy(self, gpu: str) -> Mapping[int, float] | None:
        try:
            occupied: dict[int, float] = {}
            units = self._units_of(gpu)
            for each in self._listed(gpu):
                busy = number(each.get("cu_occupancy"))
                if busy is None or not units:
                    return None
                pid = int(each["pid"])
                occupied[pid] = min(1.0, occupied.get(pid, 0.0) + busy / units)
        except (CallError, KeyError, TypeError, ValueError):
            return None
        return occupied

    def _units_of(self, gpu: str) -> float | None:
        """The compute units of all partitions of a card, None where the library does not say."""
        if gpu not in self._units:
            told = [
                number(self._library.call("amdsmi_get_gpu_asic_info", handle).get("num_compute_units"))
                for handle in self._card(gpu).partitions
            ]
            self._units[gpu] = None if None in told else int(sum(filter(None, told)))
        return self._units[gpu]

    def _listed(self, gpu: str) -> Iterator[Mapping[str, Any]]:
        for handle in self._card(gpu).partitions:
            yield from self._library.call("amdsmi_get_gpu_process_list", handle)

    def _card(self, gpu: str) -> Card:
        """A card with its handles, which are void after the library began anew; raises KeyError."""
        if self._generation != self._library.generation:
            listed = list_cards(self._library, list_drm_gpus(self._sysfs)).cards
            self._cards = {card.gpu_id: card for card in listed}
            self._generation = self._library.generation
        return self._cards[gpu]


def _is_in_use(told: Mapping[str, Any]) -> bool:
    """Whether a process works on a card: ROCm's runtime opens every card of the machine."""
    engines = told.get("engine_usage") or {}
    memory = told.get("memory_usage") or {}
    used = [number(each) for each in (told.get("cu_occupancy"), engines.get("gfx"))]
    return (number(memory.get("vram_mem")) or number(told.get("mem")) or 0) >= IN_USE_BYTES or any(used)
