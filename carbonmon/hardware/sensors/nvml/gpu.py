"""The state of one metered GPU: its handle, its supported readings, when to try it again, its samples.

A failed call is one of three things: not supported, then it is not made for a while; an error of one
read; or, if all calls fail, a GPU or a driver that is lost: it is tried again at growing intervals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from carbonmon.core.model import Device
from carbonmon.core.pacing import Backoff
from carbonmon.hardware.nvml_errors import (
    DRIVER_ERRORS,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    NOT_SUPPORTED_ERRORS,
)
from carbonmon.hardware.sensors.nvml.cross_check import CrossCheck
from carbonmon.hardware.sensors.nvml.plain_read import PlainRead

if TYPE_CHECKING:
    from carbonmon.hardware.sensors.nvml.superchip import Module, Scopes

STALE_BUFFER_S = 2.0
"""A buffer without new samples for so long is not waited for. Its samples have wall time, so after a clock
was set back they seem old until it has passed their times."""

COUNTER_PERIOD_S = 1.0
PERIOD_JITTER_S = 0.05
"""A tick of a 1 s grid may come a little early or late; it is still one read a second."""

READINGS = frozenset(("counter", "power", "samples", "utilization"))
"""The readings that a driver may support for a GPU."""

DRIVER_LOST = ("driver", "the NVIDIA driver is not there")
"""Reason and detail of every GPU's failure while the driver is not loaded."""

_SAMPLE_FIELDS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""nvmlValueType_t (nvml.h): which member of a sample's union holds the value."""


class Gpu:
    """One GPU: its handle, None while it is lost, and its supported readings.

    `was_read_between`: it was read since its counter was read last. `sample` is the last power sample of its
    trace, (wall time in µs, W), None where the next trace starts from the beginning. `failure` is the reason
    and detail of its failure from when it is lost until it can be read again. `module` is a superchip's:
    then the plain energy counter may be the module's, and the GPU's own is `counter_field`, if any. `plain`
    is the short way to read it, None where it is not known to be open.
    """

    __slots__ = (
        "check",
        "counter_at_s",
        "counter_field",
        "device",
        "failure",
        "handle",
        "module",
        "plain",
        "probe_at_s",
        "readings",
        "retry",
        "sample",
        "sample_at_s",
        "supported",
        "was_read_between",
    )

    def __init__(
        self,
        device: Device,
        handle: Any,
        scopes: Scopes | None = None,
        module: Module | None = None,
    ) -> None:
        self.device = device
        self.handle = handle
        self.module = module
        self.plain: PlainRead | None = None
        self.counter_field = None if scopes is None else scopes.gpu_energy
        self.readings = READINGS if scopes is None or scopes.has_gpu_counter else READINGS - {"counter"}
        self.supported = set(self.readings)
        self.check = CrossCheck(f"GPU {device.index} {device.id}")
        self.counter_at_s = float("-inf")
        self.probe_at_s = 0.0
        self.sample: tuple[int, float] | None = None
        self.sample_at_s = 0.0
        self.was_read_between = False
        self.retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self.failure: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        return self.device.methods[:1] in (("counter",), ("power",))

    def find_plain_way(self, nvml: Any) -> None:
        """After a read: take the short way from now on if the GPU has all readings and is no superchip's."""
        if len(self.supported) < len(READINGS) or self.counter_field is not None or self.module is not None:
            self.plain = None
        elif self.plain is None:
            with suppress(AttributeError):
                self.plain = PlainRead(nvml, self.handle)

    def note_error(self, reading: str, error: Any, errors: list[Any]) -> None:
        """A call failed: an unsupported reading is read no more, any other error is one of this read."""
        if error.value in NOT_SUPPORTED_ERRORS:
            self.supported.discard(reading)
        else:
            errors.append(error)

    def set_lost(self, errors: Sequence[Any], now_s: float) -> tuple[str, ...]:
        """All calls failed: returns its failure, `DRIVER_LOST` if the whole driver is lost."""
        self.handle = self.plain = None
        self.sample = None
        self.check.restart()
        self.retry.schedule(now_s)
        is_driver_lost = any(error.value in DRIVER_ERRORS for error in errors)
        self.failure = DRIVER_LOST if is_driver_lost else (reason(errors[0]), str(errors[0]))
        return self.failure

    def read_shape(self, nvml: Any, errors: list[Any]) -> tuple[tuple[float, float], ...] | None:
        """The power samples that the driver keeps, some seconds of them, as (wall time in s, W)."""
        try:
            kind, samples = nvml.nvmlDeviceGetSamples(self.handle, nvml.NVML_TOTAL_POWER_SAMPLES, 0)
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:
                self.note_error("samples", error, errors)
            return None
        return tuple([(stamp_us / 1e6, power_w) for stamp_us, power_w in _points(kind, samples)])

    def read_trace(
        self, nvml: Any, now_s: float, errors: list[Any]
    ) -> tuple[tuple[float, float], ...] | None:
        """The driver's power samples since the last one, that one included; None before there is one.

        Points are (wall time in s, W). The last one alone means that there is no newer one yet, and that
        the next trace covers this time.
        """
        last = self.sample
        try:
            kind, samples = nvml.nvmlDeviceGetSamples(
                self.handle, nvml.NVML_TOTAL_POWER_SAMPLES, 0 if last is None else last[0]
            )
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:
                self.sample = None
                self.note_error("samples", error, errors)
                return None
            kind, samples = 0, ()
        if not samples:
            if last is not None and now_s - self.sample_at_s < STALE_BUFFER_S:
                return ((last[0] / 1e6, last[1]),)
            self.sample = None
            return None
        points = _points(kind, samples)
        self.sample, self.sample_at_s = points[-1], now_s
        if last is None or points[-1][0] <= last[0]:
            return None
        return tuple([(stamp / 1e6, power_w) for stamp, power_w in (last, *points)])


def _points(kind: int, samples: Sequence[Any]) -> list[tuple[int, float]]:
    """Power samples as (wall time in µs, W).

    The fields are read by their descriptors: an attribute of the binding's structures is a Python call, with
    which the 119 samples of a GPU take 2.5 times as long (nvidia-ml-py 13.615).
    """
    if not samples:
        return []
    sample = type(samples[0])
    stamp_of, value_of = sample.timeStamp.__get__, sample.sampleValue.__get__
    power_of = getattr(type(value_of(samples[0])), _SAMPLE_FIELDS.get(kind, "uiVal")).__get__
    return [(stamp_of(each), power_of(value_of(each)) / 1000.0) for each in samples]


def reason(error: Any) -> str:
    """A stable word for a label: the error's name in nvml.h, lower case: `gpu_is_lost`."""
    name = type(error).__name__.removeprefix("NVMLError").removeprefix("_")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() or f"nvml_{error.value}"
