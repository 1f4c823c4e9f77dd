"""NVIDIA GPUs through NVML: the energy counter, the power sensor, utilisation and power limit.

What NVML means by its figures: docs/accuracy.md. The counter is polled at most once a second, because
boards that are polled faster under-report (arXiv 2312.02741). Where there is no counter, the driver's
own buffer of power samples keeps the sensor's resolution at a coarse poll.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from carbonmon.errors import SensorUnavailable
from carbonmon.model import Device, Failure, Method, Reading, SensorState, Spec
from carbonmon.ports import SensorSettings
from carbonmon.selection import Chosen, FoundGpu, MigInstance, choose, parse_gpu_model
from carbonmon.specs import gpu_spec
from carbonmon.uncertainty import NVML_UNCERTAINTY, TDP_UNCERTAINTY

COUNTER_PERIOD_S = 1.0
PERIOD_JITTER_S = 0.05
"""A tick of a 1 s grid may come a little early or late; it is still one read a second."""

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
PROBE_PERIOD_S = 60.0
"""What a driver did not support is asked again once a minute: a container may regain its rights."""

STALE_BUFFER_S = 2.0
"""A buffer of samples that has had nothing new for so long is not waited for. Its samples bear wall time,
so a clock that was set back makes them look old until it has caught up."""

DRIVER_GONE = ("driver", "the NVIDIA driver is not there")
"""Reason and detail of every GPU's failure while the driver is away."""

_SAMPLE_FIELDS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""nvmlValueType_t (nvml.h): which member of a sample's union holds the value."""


class _Retry:
    """When to try again: after 1 s, then twice as long each time, at most a minute."""

    __slots__ = ("_wait_s", "at_s")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.at_s = 0.0
        self._wait_s = FIRST_RETRY_S

    def later(self, now_s: float) -> None:
        self.at_s = now_s + self._wait_s
        self._wait_s = min(2.0 * self._wait_s, LAST_RETRY_S)


class _Gpu:
    """One GPU: its handle (None while it is lost, `trouble` says why) and what its driver can say."""

    __slots__ = (
        "can",
        "counter_at_s",
        "device",
        "handle",
        "probe_at_s",
        "retry",
        "sample",
        "sample_at_s",
        "trouble",
    )

    def __init__(self, device: Device, handle: Any) -> None:
        self.device = device
        self.handle = handle
        self.can = {"counter": True, "power": True, "samples": True, "utilization": True}
        self.counter_at_s = float("-inf")
        self.probe_at_s = 0.0
        self.sample: tuple[int, float] | None = None
        self.sample_at_s = 0.0
        self.retry = _Retry()
        self.trouble: tuple[str, str] | None = None

    @property
    def measured(self) -> bool:
        return self.device.methods[:1] in (("counter",), ("power",))


class NvmlSensor:
    """All chosen GPUs. One GPU's errors stay its own; a reloaded driver is initialised anew."""

    name = "nvml"

    def __init__(self, nvml: Any, settings: SensorSettings) -> None:
        self._nvml = nvml
        self._not_supported = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        self._driver_gone = (
            nvml.NVML_ERROR_UNINITIALIZED,
            nvml.NVML_ERROR_DRIVER_NOT_LOADED,
            nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        )
        self._initialised = True
        self._driver_down = False
        self._retry = _Retry()
        try:
            self._gpus, self._sources = self._open(settings)
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
            self._ask("nvmlShutdown")  # a driver that is gone cannot be shut down, and need not be

    def _read(self, gpu: _Gpu, now_s: float, edge: bool) -> Iterator[Reading | Failure]:
        device_id = gpu.device.id
        if gpu.handle is None and not self._reacquire(gpu, now_s):
            yield Failure(device_id, *(gpu.trouble or DRIVER_GONE))
            return
        nvml, handle, can = self._nvml, gpu.handle, gpu.can
        energy_uj = power_w = utilization_ratio = trace = None
        errors: list[Any] = []
        if now_s >= gpu.probe_at_s:
            gpu.probe_at_s = now_s + PROBE_PERIOD_S
            for what in can:
                can[what] = True
        counter_silent = not can["counter"]
        if can["counter"] and (edge or now_s - gpu.counter_at_s >= COUNTER_PERIOD_S - PERIOD_JITTER_S):
            try:
                energy_uj = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1000
                gpu.counter_at_s = now_s
                gpu.sample = None
            except nvml.NVMLError as error:
                counter_silent = True
                self._note(gpu, "counter", error, errors)
        if can["power"]:
            try:
                power_w = nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0
            except nvml.NVMLError as error:
                self._note(gpu, "power", error, errors)
        if counter_silent and power_w is not None and can["samples"]:
            trace = self._trace(gpu, now_s, errors)
        if can["utilization"]:
            try:
                utilization_ratio = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100.0
            except nvml.NVMLError as error:
                self._note(gpu, "utilization", error, errors)
        if energy_uj is not None or power_w is not None or utilization_ratio is not None:
            if gpu.trouble is not None:
                self._found_again(gpu)
            yield Reading(device_id, energy_uj, power_w, trace, utilization_ratio)
        elif errors:
            yield Failure(device_id, *self._lose(gpu, errors, now_s))
            return
        elif gpu.measured and not (can["counter"] or can["power"] or can["utilization"]):
            yield Failure(device_id, "not_supported", "the driver supports none of its readings any more")
        else:  # nothing is due, or nothing can ever be told: then the stated assumption is all there is
            yield Reading(device_id)
        for reason, detail in {_reason(error): str(error) for error in errors}.items():
            yield Failure(device_id, reason, detail)

    def _trace(self, gpu: _Gpu, now_s: float, errors: list[Any]) -> tuple[tuple[float, float], ...] | None:
        """The driver's power samples since the last one, that one included; None before there is one.

        The last one alone says that there is nothing newer yet, and that the next trace covers this time.
        """
        nvml, last = self._nvml, gpu.sample
        try:
            kind, samples = nvml.nvmlDeviceGetSamples(
                gpu.handle, nvml.NVML_TOTAL_POWER_SAMPLES, 0 if last is None else last[0]
            )
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:
                gpu.sample = None
                self._note(gpu, "samples", error, errors)
                return None
            kind, samples = 0, ()
        if not samples:
            if last is not None and now_s - gpu.sample_at_s < STALE_BUFFER_S:
                return ((last[0] / 1e6, last[1]),)
            gpu.sample = None
            return None
        value = _SAMPLE_FIELDS.get(kind, "uiVal")
        points = [(sample.timeStamp, getattr(sample.sampleValue, value) / 1000.0) for sample in samples]
        gpu.sample, gpu.sample_at_s = points[-1], now_s
        if last is None or points[-1][0] <= last[0]:
            return None
        return tuple([(stamp / 1e6, power_w) for stamp, power_w in (last, *points)])

    def _note(self, gpu: _Gpu, what: str, error: Any, errors: list[Any]) -> None:
        """A call failed: what is not supported is asked no more, anything else is an error of this read."""
        if error.value in self._not_supported:
            gpu.can[what] = False
        else:
            errors.append(error)

    def _lose(self, gpu: _Gpu, errors: Sequence[Any], now_s: float) -> tuple[str, str]:
        """A GPU that says nothing at all: look for the driver, or for the GPU by its UUID, later."""
        gpu.handle = None
        gpu.sample = None
        gpu.retry.later(now_s)
        gpu.trouble = _reason(errors[0]), str(errors[0])
        if any(error.value in self._driver_gone for error in errors):
            self._driver_down = True
            gpu.trouble = DRIVER_GONE
        return gpu.trouble

    def _found_again(self, gpu: _Gpu) -> None:
        """It speaks; a handle alone proves nothing, NVML also gives one for a GPU that fell off the bus."""
        gpu.trouble = None
        gpu.retry.reset()
        self._retry.reset()

    def _reacquire(self, gpu: _Gpu, now_s: float) -> bool:
        if now_s < gpu.retry.at_s:
            return False
        try:
            gpu.handle = self._nvml.nvmlDeviceGetHandleByUUID(gpu.device.id)
        except self._nvml.NVMLError as error:
            if error.value in self._driver_gone:
                self._driver_down = True
            elif gpu.trouble in (None, DRIVER_GONE):
                gpu.trouble = _reason(error), str(error)
            gpu.retry.later(now_s)
            return False
        gpu.can = dict.fromkeys(gpu.can, True)
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

    def _open(self, settings: SensorSettings) -> tuple[list[_Gpu], list[SensorState]]:
        nvml = self._nvml
        handles: dict[str, Any] = {}
        found: list[FoundGpu] = []
        notes: list[str] = []
        remedy = "nvidia-smi -L"
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = nvml.nvmlDeviceGetUUID(handle)
                name = self._ask("nvmlDeviceGetName", handle) or "NVIDIA GPU"
                pci = self._ask("nvmlDeviceGetPciInfo", handle)
            except nvml.NVMLError as error:
                notes.append(f"GPU {index} cannot be read: {error}")
                remedy = _REMEDIES.get(error.value, remedy)
                continue
            handles[uuid] = handle
            bus_id = pci.busId if pci is not None else f"{index:08d}"
            bus_id = bus_id.decode() if isinstance(bus_id, bytes) else bus_id
            found.append(FoundGpu(uuid, index, name, bus_id, self._mig_instances(handle)))
        if not found:
            raise SensorUnavailable("; ".join(notes) or "NVML finds no GPU", remedy)
        chosen, choice_notes = choose(found, settings.gpus, settings.environ)
        notes += choice_notes
        if not chosen:
            raise SensorUnavailable(
                "; ".join(notes) or f"the job may use none of the {len(found)} GPUs (CUDA_VISIBLE_DEVICES)",
                "carbonmon run --gpus 0,1 -- …",
            )
        gpus = [self._open_gpu(pick, handles[pick.gpu.uuid], settings) for pick in chosen]
        ladders: dict[str, int] = {}
        for gpu in gpus:
            best = gpu.device.methods[0] if gpu.device.methods else "nothing"
            ladders[best] = ladders.get(best, 0) + 1
        text = ", ".join(f"{count} by {best}" for best, count in ladders.items())
        sources = [SensorState(self.name, "used", f"{len(gpus)} of {len(found)} GPUs: {text}", "", True)]
        sources += [SensorState(f"{self.name} note", "not used", note) for note in notes]
        for gpu in gpus:
            device = gpu.device
            if device.methods[:1] == ("counter",):
                continue
            instead = "power is integrated" if "power" in device.methods else "no power: TDP × utilisation"
            if not device.methods:
                instead = "no power, no utilisation, and its TDP is unknown: give --gpu-tdp"
            sources.append(
                SensorState(
                    f"{self.name} GPU {device.index}",
                    "used" if device.methods else "not used",
                    f"{device.name}: no energy counter; {instead}",
                )
            )
        return gpus, sources

    def _open_gpu(self, pick: Chosen, handle: Any, settings: SensorSettings) -> _Gpu:
        limit_mw = self._ask("nvmlDeviceGetEnforcedPowerLimit", handle)
        if not limit_mw:
            limit_mw = self._ask("nvmlDeviceGetPowerManagementLimit", handle)
        limit_w = limit_mw / 1000.0 if limit_mw else None
        spec: Spec | None
        if settings.gpu_tdp_w is not None:
            spec = Spec(settings.gpu_tdp_w, TDP_UNCERTAINTY, "--gpu-tdp")
        elif limit_w is not None:
            spec = Spec(limit_w, TDP_UNCERTAINTY, "the enforced power limit that NVML reports")
        else:
            spec = gpu_spec(parse_gpu_model(settings.gpu_model)[0] if settings.gpu_model else pick.gpu.name)
        gpu = _Gpu(Device(pick.gpu.uuid, "gpu", pick.gpu.name), handle)
        methods: list[Method] = []
        if self._supports(gpu, "counter", "nvmlDeviceGetTotalEnergyConsumption"):
            methods.append("counter")
        if self._supports(gpu, "power", "nvmlDeviceGetPowerUsage"):
            methods.append("power")
        if spec is not None and (
            self._supports(gpu, "utilization", "nvmlDeviceGetUtilizationRates") or not methods
        ):
            methods.append("tdp")
            if not gpu.can["utilization"]:
                spec = spec._replace(
                    assumed_utilization_ratio=1.0, source=f"{spec.source}, assumed fully used"
                )
        gpu.device = Device(
            id=pick.gpu.uuid,
            component="gpu",
            name=pick.gpu.name,
            index=pick.gpu.number,
            methods=tuple(methods),
            max_power_w=limit_w if limit_w is not None else spec.tdp_w if spec is not None else None,
            spec=spec,
            measured_uncertainty=NVML_UNCERTAINTY,
            share_ratio=pick.share_ratio,
            share_note=pick.share_note,
        )
        return gpu

    def _supports(self, gpu: _Gpu, what: str, function: str) -> bool:
        try:
            getattr(self._nvml, function)(gpu.handle)
        except self._nvml.NVMLError as error:
            self._note(gpu, what, error, [])
        return gpu.can[what]

    def _ask(self, function: str, *arguments: Any) -> Any:
        """A value that NVML may be unable to give: None then."""
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError:
            return None

    def _mig_instances(self, handle: Any) -> tuple[MigInstance, ...]:
        mode = self._ask("nvmlDeviceGetMigMode", handle)
        if not mode or mode[0] != self._nvml.NVML_DEVICE_MIG_ENABLE:
            return ()
        count = self._ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0
        instances = []
        for index in range(count):
            instance = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
            uuid = None if instance is None else self._ask("nvmlDeviceGetUUID", instance)
            if not uuid:
                continue
            attributes = self._ask("nvmlDeviceGetAttributes", instance)
            slices = attributes.gpuInstanceSliceCount if attributes is not None else 0
            if slices:
                note = f"MIG instance: {slices} of {count} slices of the GPU's energy"
                instances.append(MigInstance(uuid, min(1.0, slices / count), note))
            else:
                instances.append(
                    MigInstance(uuid, 1.0, "MIG instance of unknown size: the whole GPU is counted")
                )
        return tuple(instances)


def _reason(error: Any) -> str:
    """A stable word for a label: the error's name in nvml.h, lower case: `gpu_is_lost`."""
    name = type(error).__name__.removeprefix("NVMLError")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removeprefix("_")).lower() or f"nvml_{error.value}"


def open_sensor(settings: SensorSettings) -> NvmlSensor:
    """Open NVML; raises `SensorUnavailable` with the remedy where it cannot serve."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return NvmlSensor(pynvml, settings)
    except pynvml.NVMLError as error:
        raise SensorUnavailable(f"NVML: {error}", _REMEDIES.get(error.value, "nvidia-smi")) from None


_REMEDIES = {
    4: "ls -l /dev/nvidia*   # this user may not open them; in a container: docker run --gpus all",
    9: "sudo modprobe nvidia   # the driver is installed but not loaded",
    12: "install the NVIDIA driver (its libnvidia-ml.so.1); in a container: docker run --gpus all",
    18: "sudo reboot   # driver and library differ: a driver update waits for a restart",
}
"""What mends an nvmlReturn_t (nvml.h)."""
