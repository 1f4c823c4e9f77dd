"""NVIDIA GPUs through NVML: the energy counter, the power sensor, utilisation and power limit.

What NVML means by its figures: docs/accuracy.md. The counter is polled at most once a second, because
boards that are polled faster under-report (arXiv 2312.02741). Where there is no counter, the driver's
own buffer of power samples keeps the sensor's resolution at a coarse poll; where there is one, that buffer
says when the joules of the last second were drawn, if somebody looked in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading, SensorState
from carbonmon.core.pacing import Backoff
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.nvml_errors import DRIVER_ERRORS, FIRST_RETRY_S, LAST_RETRY_S, REMEDIES
from carbonmon.hardware.sensors.nvml.gpu import DRIVER_GONE, READINGS, Gpu, reason
from carbonmon.hardware.sensors.nvml.opening import open_gpus

COUNTER_PERIOD_S = 1.0
PERIOD_JITTER_S = 0.05
"""A tick of a 1 s grid may come a little early or late; it is still one read a second."""

PROBE_PERIOD_S = 60.0
"""What a driver did not support is asked again once a minute: a container may regain its rights."""


class NvmlSensor:
    """All chosen GPUs. One GPU's errors stay its own; a reloaded driver is initialised anew."""

    name = "nvml"

    def __init__(self, nvml: Any, settings: SensorSettings) -> None:
        self._nvml = nvml
        self._initialised = True
        self._driver_down = False
        self._retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        try:
            self._gpus, self._sources = open_gpus(nvml, settings)
        except Exception:
            self.close()
            raise

    def devices(self) -> Sequence[Device]:
        return [gpu.device for gpu in self._gpus]

    def sources(self) -> Sequence[SensorState]:
        return self._sources

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self._driver_down and not self._reinitialise(now_s):
            for gpu in self._gpus:
                yield Failure(gpu.device.id, *DRIVER_GONE)
            return
        for gpu in self._gpus:
            yield from self._read(gpu, now_s, edge)

    def close(self) -> None:
        if self._initialised:  # NVML counts its users: a second shutdown would be somebody else's
            self._initialised = False
            with suppress(self._nvml.NVMLError):  # a driver that is gone cannot be shut down, and need not be
                self._nvml.nvmlShutdown()

    def _read(self, gpu: Gpu, now_s: float, edge: bool) -> Iterator[Reading | Failure]:
        device_id = gpu.device.id
        if gpu.handle is None and not self._reacquire(gpu, now_s):
            yield Failure(device_id, *gpu.trouble)
            return
        nvml, handle, can = self._nvml, gpu.handle, gpu.can
        energy_uj = power_w = utilization_ratio = trace = shape = None
        errors: list[Any] = []
        if now_s >= gpu.probe_at_s:
            gpu.probe_at_s = now_s + PROBE_PERIOD_S
            can |= READINGS
        if "counter" in can and (edge or now_s - gpu.counter_at_s >= COUNTER_PERIOD_S - PERIOD_JITTER_S):
            try:
                energy_uj = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1000
                gpu.counter_at_s = now_s
                gpu.sample = None
            except nvml.NVMLError as error:
                gpu.note("counter", error, errors)
            if gpu.looked_at and "samples" in can:
                shape = gpu.shape(nvml, errors)
            gpu.looked_at = False
        else:
            gpu.looked_at = True
        if "power" in can:
            try:
                power_w = nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0
            except nvml.NVMLError as error:
                gpu.note("power", error, errors)
        # Where power has answered, an error can only be the counter's.
        if power_w is not None and ("counter" not in can or errors) and "samples" in can:
            trace = gpu.trace(nvml, now_s, errors)
        if "utilization" in can:
            try:
                utilization_ratio = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0
            except nvml.NVMLError as error:
                gpu.note("utilization", error, errors)
        if energy_uj is not None or power_w is not None or utilization_ratio is not None:
            if gpu.trouble:
                self._found_again(gpu)
            if energy_uj is not None and power_w is not None:
                gpu.check.add(now_s, energy_uj, power_w)
            yield Reading(device_id, energy_uj, power_w, trace, utilization_ratio, shape)
        elif errors:
            trouble = gpu.lose(errors, now_s)
            self._driver_down |= trouble is DRIVER_GONE
            yield Failure(device_id, *trouble)
            return
        elif gpu.measured and can <= {"samples"}:
            yield Failure(device_id, "not_supported", "the driver supports none of its readings any more")
        else:  # nothing is due, or nothing can ever be told: then the stated assumption is all there is
            yield Reading(device_id)
        for word, detail in {reason(error): str(error) for error in errors}.items():
            yield Failure(device_id, word, detail)

    def _found_again(self, gpu: Gpu) -> None:
        """It speaks; a handle alone proves nothing, NVML also gives one for a GPU that fell off the bus."""
        gpu.trouble = ()
        gpu.retry.reset()
        self._retry.reset()

    def _reacquire(self, gpu: Gpu, now_s: float) -> bool:
        """Look for a lost GPU by its UUID: its index may have changed."""
        if now_s < gpu.retry.at_s:
            return False
        try:
            gpu.handle = self._nvml.nvmlDeviceGetHandleByUUID(gpu.device.id)
        except self._nvml.NVMLError as error:
            if error.value in DRIVER_ERRORS:
                self._driver_down = True
            elif gpu.trouble == DRIVER_GONE:
                gpu.trouble = reason(error), str(error)
            gpu.retry.later(now_s)
            return False
        gpu.can |= READINGS
        return True

    def _reinitialise(self, now_s: float) -> bool:
        if now_s < self._retry.at_s:
            return False
        self._retry.later(now_s)
        self.close()
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError:
            return False
        self._initialised = True
        self._driver_down = False
        for gpu in self._gpus:
            gpu.handle = None
            gpu.trouble = gpu.trouble or DRIVER_GONE
            gpu.retry.reset()
        return True


def open_sensor(settings: SensorSettings) -> NvmlSensor:
    """Open NVML; raises `SensorUnavailable` with the remedy where it cannot serve."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return NvmlSensor(pynvml, settings)
    except pynvml.NVMLError as error:
        raise SensorUnavailable(f"NVML: {error}", REMEDIES.get(error.value, "nvidia-smi")) from None
