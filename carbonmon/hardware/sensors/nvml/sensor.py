"""The sensor of NVML's GPUs: it reads each, waits for one that is lost, survives a reload of the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from carbonmon.core.model import Device, Failure, Reading, SensorState
from carbonmon.core.pacing import Backoff
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.nvml_errors import (
    DRIVER_ERRORS,
    FIRST_RETRY_S,
    LAST_RETRY_S,
)
from carbonmon.hardware.sensors.nvml.gpu import (
    COUNTER_PERIOD_S,
    DRIVER_LOST,
    PERIOD_JITTER_S,
    Gpu,
    reason,
)
from carbonmon.hardware.sensors.nvml.open_gpus import open_gpus
from carbonmon.hardware.sensors.nvml.superchip import read_energy_uj

PROBE_PERIOD_S = 60.0
"""A reading that a driver did not support is tried again once a minute: a container may regain its rights."""


class NvmlSensor:
    """All chosen GPUs. An error of one GPU does not affect others; a reloaded driver is initialised again."""

    name = "nvml"
    may_hang = True
    shape_wanted = False

    def __init__(self, nvml: Any, settings: SensorSettings) -> None:
        self._nvml = nvml
        self._initialised = True
        self._is_driver_lost = False
        self._retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        try:
            self._gpus, self._sources, self.gpus_are_given = open_gpus(nvml, settings)
        except Exception:
            self.close()
            raise

    def devices(self) -> Sequence[Device]:
        found = [gpu.device for gpu in self._gpus]
        return found + [gpu.module.device for gpu in self._gpus if gpu.module is not None]

    def sources(self) -> Sequence[SensorState]:
        return self._sources

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self._is_driver_lost and not self._reinitialise(now_s):
            for gpu in self._gpus:
                yield from _failures(gpu, *DRIVER_LOST)
            return
        for gpu in self._gpus:
            reading = self._read_plainly(gpu, now_s, edge)
            if reading is None:
                yield from self._read(gpu, now_s, edge)
            else:
                yield reading

    def close(self) -> None:
        if self._initialised:  # NVML counts its users: a second shutdown would be that of another user
            self._initialised = False
            with suppress(self._nvml.NVMLError):  # an unloaded driver cannot be shut down, and need not be
                self._nvml.nvmlShutdown()

    def _read_plainly(self, gpu: Gpu, now_s: float, edge: bool) -> Reading | None:
        """The short way for nearly every read: a GPU that has all readings, and gives them.

        None, and nothing noted, where it is not that plain.
        """
        plain = gpu.plain
        if plain is None or gpu.was_read_between or now_s >= gpu.probe_at_s:
            return None
        if not edge and now_s - gpu.counter_at_s < COUNTER_PERIOD_S - PERIOD_JITTER_S:
            return None
        answer = plain.read()
        if answer is None:
            return None
        energy_uj, power_w, utilization_ratio = answer
        gpu.counter_at_s = now_s
        gpu.sample = None
        gpu.check.add(now_s, energy_uj, power_w)
        return Reading(gpu.device.id, energy_uj, power_w, None, utilization_ratio)

    def _read(self, gpu: Gpu, now_s: float, edge: bool) -> Iterator[Reading | Failure]:
        device_id = gpu.device.id
        if gpu.handle is None and not self._reacquire(gpu, now_s):
            yield from _failures(gpu, *gpu.failure)
            return
        nvml, handle, supported = self._nvml, gpu.handle, gpu.supported
        energy_uj = power_w = utilization_ratio = trace = shape = None
        errors: list[Any] = []
        if now_s >= gpu.probe_at_s:
            gpu.probe_at_s = now_s + PROBE_PERIOD_S
            supported |= gpu.readings
        is_counter_due = edge or now_s - gpu.counter_at_s >= COUNTER_PERIOD_S - PERIOD_JITTER_S
        if "counter" in supported and is_counter_due:
            try:
                if gpu.counter_field is None:
                    energy_uj = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1000
                else:
                    energy_uj = read_energy_uj(nvml, handle, gpu.counter_field)
                gpu.counter_at_s = now_s
                gpu.sample = None
            except nvml.NVMLError as error:
                gpu.note_error("counter", error, errors)
            if gpu.was_read_between and "samples" in supported:
                shape = gpu.read_shape(nvml, errors)
            gpu.was_read_between = False
        else:
            gpu.was_read_between = True
            if self.shape_wanted and "counter" in supported and "samples" in supported:
                shape = gpu.read_shape(nvml, errors)
        if "power" in supported:
            try:
                power_w = nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0
            except nvml.NVMLError as error:
                gpu.note_error("power", error, errors)
        # If power was read, an error can only be the counter's.
        if power_w is not None and ("counter" not in supported or errors) and "samples" in supported:
            trace = gpu.read_trace(nvml, now_s, errors)
        if "utilization" in supported:
            try:
                utilization_ratio = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0
            except nvml.NVMLError as error:
                gpu.note_error("utilization", error, errors)
        if energy_uj is not None or power_w is not None or utilization_ratio is not None:
            if gpu.failure:
                self._on_recovered(gpu)
            if energy_uj is not None and power_w is not None:
                gpu.check.add(now_s, energy_uj, power_w)
            yield Reading(device_id, energy_uj, power_w, trace, utilization_ratio, shape)
        elif errors:
            failure = gpu.set_lost(errors, now_s)
            self._is_driver_lost |= failure is DRIVER_LOST
            yield from _failures(gpu, *failure)
            return
        elif gpu.measured and supported <= {"samples"}:
            yield Failure(device_id, "not_supported", "the driver supports none of its readings any more")
        else:  # no reading is due, or none is supported: then the assumed utilisation is used
            yield Reading(device_id)
        gpu.find_plain_way(nvml)
        for name, detail in {reason(error): str(error) for error in errors}.items():
            yield Failure(device_id, name, detail)
        if gpu.module is not None:
            yield gpu.module.read(nvml, handle, now_s, edge, utilization_ratio)

    def _on_recovered(self, gpu: Gpu) -> None:
        """It was read again; a handle is no proof: NVML also gives one for a GPU that fell off the bus."""
        gpu.failure = ()
        gpu.retry.reset()
        self._retry.reset()

    def _reacquire(self, gpu: Gpu, now_s: float) -> bool:
        """Get the handle of a lost GPU by its UUID: its index may have changed."""
        if now_s < gpu.retry.at_s:
            return False
        try:
            gpu.handle = self._nvml.nvmlDeviceGetHandleByUUID(gpu.device.id)
        except self._nvml.NVMLError as error:
            if error.value in DRIVER_ERRORS:
                self._is_driver_lost = True
            elif gpu.failure == DRIVER_LOST:
                gpu.failure = reason(error), str(error)
            gpu.retry.schedule(now_s)
            return False
        gpu.supported |= gpu.readings
        return True

    def _reinitialise(self, now_s: float) -> bool:
        if now_s < self._retry.at_s:
            return False
        self._retry.schedule(now_s)
        self.close()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError:
            return False
        self._initialised = True
        self._is_driver_lost = False
        for gpu in self._gpus:
            gpu.handle = gpu.plain = None
            gpu.failure = gpu.failure or DRIVER_LOST
            gpu.retry.reset()
        return True


def _failures(gpu: Gpu, name: str, detail: str) -> Iterator[Failure]:
    """The failure of a GPU, which is that of its module too."""
    yield Failure(gpu.device.id, name, detail)
    if gpu.module is not None:
        yield Failure(gpu.module.device.id, name, detail)
