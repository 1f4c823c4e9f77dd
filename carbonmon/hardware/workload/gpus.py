"""Which processes are on which GPU, and their SM utilisation: NVML (nvml.h).

NVML counts its users, so this initialises and shuts down for itself. A value that NVML cannot give is None.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from carbonmon.core.pacing import Backoff
from carbonmon.hardware import nvml_library
from carbonmon.hardware.gpu_inventory import Inventory, list_inventory
from carbonmon.hardware.nvml_errors import (
    DRIVER_ERRORS,
    FIRST_RETRY_S,
    FUNCTION_NOT_FOUND,
    LAST_RETRY_S,
    NOT_SUPPORTED_ERRORS,
)
from carbonmon.hardware.own_thread import OwnThread


class GpuProcesses:
    """The compute processes of the GPUs with these UUIDs, by NVML's pids: those of the host."""

    def __init__(self, uuids: Collection[str]) -> None:
        self._uuids = tuple(uuids)
        self._own = OwnThread("gpu-processes")
        self._nvml: Any = None
        self._handles: dict[str, Any] = {}
        self._seen_us: dict[str, int] = {}
        self._retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self.unsupported: set[str] = set()
        """GPUs whose driver lists no processes."""
        self.hidden: frozenset[int] = frozenset()

    def processes(self, now_s: float) -> Mapping[str, frozenset[int] | None]:
        """The pids on each GPU, None where they are unknown."""
        found = self._in_time(lambda: {uuid: self._ask(uuid, now_s, self._pids) for uuid in self._uuids})
        return dict.fromkeys(self._uuids) if found is None else found

    def utilization(self, uuid: str, now_s: float) -> Mapping[int, float] | None:
        """Mean SM utilisation (0 to 1) of each pid since the last call; an absent pid was not active.

        None where it is unknown, as under MIG.
        """
        ratios: Mapping[int, float] | None = self._in_time(lambda: self._ask(uuid, now_s, self._utilization))
        return ratios

    def close(self) -> None:
        """Shut NVML down, in its own thread; a driver that hangs is left as it is."""
        if not self._own.is_busy and self._own.run(self._shut_down):
            self._own.close()

    def _in_time(self, call: Callable[[], Any]) -> Any:
        """What a call gives, None if it does not return in time: the driver hangs."""
        answers: list[Any] = []
        self._own.run(lambda: answers.append(call()))
        return answers[0] if answers else None

    def _shut_down(self) -> None:
        nvml, self._nvml = self._nvml, None
        self._handles.clear()
        if nvml is not None:
            with suppress(nvml.NVMLError):  # a driver that was unloaded cannot be shut down, and need not be
                nvml.nvmlShutdown()

    def _open(self, now_s: float) -> bool:
        if self._nvml is not None:
            return True
        if now_s < self._retry.at_s:
            return False
        if not nvml_library.is_here():
            self._retry.schedule(now_s)
            return False
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            self._retry.schedule(now_s)
            return False
        self._nvml = pynvml
        return True

    def _ask(self, uuid: str, now_s: float, read: Callable[[str, Any], Any]) -> Any:
        if not self._open(now_s):
            return None
        nvml = self._nvml
        try:
            if uuid not in self._handles:
                self._handles[uuid] = nvml.nvmlDeviceGetHandleByUUID(uuid)
            answer = read(uuid, self._handles[uuid])
        except nvml.NVMLError as error:
            self._handles.pop(uuid, None)  # the handle of a lost GPU may be invalid: get a new one by UUID
            self._on_error(error, now_s)
            return None
        self._retry.reset()
        return answer

    def _on_error(self, error: Any, now_s: float) -> None:
        if error.value in DRIVER_ERRORS:
            self._shut_down()
            self._retry.schedule(now_s)

    def _pids(self, uuid: str, handle: Any) -> frozenset[int] | None:
        nvml = self._nvml
        try:
            # With their versions: the name without one raises no NVMLError where the driver lacks the newest.
            try:
                listed = nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
            except nvml.NVMLError as error:
                if error.value != FUNCTION_NOT_FOUND:
                    raise
                listed = nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle)
        except nvml.NVMLError as error:
            if error.value in NOT_SUPPORTED_ERRORS:
                self.unsupported.add(uuid)
                return None
            raise
        self.unsupported.discard(uuid)
        return frozenset(process.pid for process in listed)

    def _utilization(self, uuid: str, handle: Any) -> Mapping[int, float] | None:
        nvml = self._nvml
        seen_us = self._seen_us.get(uuid, 0)
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, seen_us)
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_NOT_FOUND:
                return {}
            if error.value in NOT_SUPPORTED_ERRORS:
                return None
            raise
        newest_us = max((sample.timeStamp for sample in samples), default=seen_us)
        self._seen_us[uuid] = max(seen_us, newest_us)
        percents: dict[int, list[int]] = {}
        for sample in samples:
            # The first answer holds all samples that the driver keeps: only its newest is current. Drivers
            # were seen to report garbage for processes that end (utilisation far above 100 %).
            if sample.smUtil <= 100 and (seen_us or sample.timeStamp == newest_us):
                percents.setdefault(sample.pid, []).append(sample.smUtil)
        return {pid: sum(values) / len(values) / 100.0 for pid, values in percents.items()}


def read_inventory() -> Inventory:
    """Every GPU that NVML lists, none if NVML fails; from any thread."""
    nothing = Inventory([], {}, [])
    if not nvml_library.is_here():
        return nothing
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return nothing
    try:
        return list_inventory(pynvml)
    except pynvml.NVMLError:
        return nothing
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def inventory_in_time() -> Inventory:
    """The same, none if the driver hangs: a job is not kept from joining its run."""
    read: list[Inventory] = []
    own = OwnThread("gpu-inventory")
    in_time = own.run(lambda: read.append(read_inventory()))
    own.close()
    return read[0] if in_time and read else Inventory([], {}, [])
