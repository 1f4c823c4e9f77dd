"""One GPU as it is metered: its handle, what its driver can say, when to look for it again, its samples.

A failed call is one of three things: not supported, then it is not made for a while; an error of one
read; or, if nothing answered, a GPU or a whole driver that is lost and looked for ever more seldom.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from carbonmon.core.model import Device
from carbonmon.core.pacing import Backoff
from carbonmon.hardware.nvml_errors import (
    DRIVER_ERRORS,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    NOT_SUPPORTED_ERRORS,
)
from carbonmon.hardware.sensors.nvml.cross_check import CrossCheck

STALE_BUFFER_S = 2.0
"""A buffer of samples that has had nothing new for so long is not waited for. Its samples bear wall time,
so a clock that was set back makes them look old until it has caught up."""

READINGS = frozenset(("counter", "power", "samples", "utilization"))
"""What a driver may be able to say of a GPU."""

DRIVER_GONE = ("driver", "the NVIDIA driver is not there")
"""Reason and detail of every GPU's failure while the driver is away."""

_SAMPLE_FIELDS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""nvmlValueType_t (nvml.h): which member of a sample's union holds the value."""


class Gpu:
    """One GPU: its handle, None while it is lost, and what its driver can say.

    `looked_at`: it was read since its counter was read last. `sample` is the last power sample of its trace,
    (wall time in µs, W), None where the next trace starts anew. `trouble` is the reason and detail of its
    failure from when it is lost until it speaks again.
    """

    __slots__ = (
        "can",
        "check",
        "counter_at_s",
        "device",
        "handle",
        "looked_at",
        "probe_at_s",
        "retry",
        "sample",
        "sample_at_s",
        "trouble",
    )

    def __init__(self, device: Device, handle: Any) -> None:
        self.device = device
        self.handle = handle
        self.can = set(READINGS)
        self.check = CrossCheck(f"GPU {device.index} {device.id}")
        self.counter_at_s = float("-inf")
        self.probe_at_s = 0.0
        self.sample: tuple[int, float] | None = None
        self.sample_at_s = 0.0
        self.looked_at = False
        self.retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self.trouble: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        return self.device.methods[:1] in (("counter",), ("power",))

    def note(self, reading: str, error: Any, errors: list[Any]) -> None:
        """A call failed: what is not supported is asked no more, anything else is an error of this read."""
        if error.value in NOT_SUPPORTED_ERRORS:
            self.can.discard(reading)
        else:
            errors.append(error)

    def lose(self, errors: Sequence[Any], now_s: float) -> tuple[str, ...]:
        """It says nothing at all: its trouble, `DRIVER_GONE` if the whole driver is lost."""
        self.handle = None
        self.sample = None
        self.check.restart()
        self.retry.later(now_s)
        gone = any(error.value in DRIVER_ERRORS for error in errors)
        self.trouble = DRIVER_GONE if gone else (reason(errors[0]), str(errors[0]))
        return self.trouble

    def shape(self, nvml: Any, errors: list[Any]) -> tuple[tuple[float, float], ...] | None:
        """The power samples that the driver keeps, some seconds of them, as (wall time in s, W)."""
        try:
            kind, samples = nvml.nvmlDeviceGetSamples(self.handle, nvml.NVML_TOTAL_POWER_SAMPLES, 0)
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:
                self.note("samples", error, errors)
            return None
        value = _SAMPLE_FIELDS.get(kind, "uiVal")
        return tuple(
            [(sample.timeStamp / 1e6, getattr(sample.sampleValue, value) / 1000.0) for sample in samples]
        )

    def trace(self, nvml: Any, now_s: float, errors: list[Any]) -> tuple[tuple[float, float], ...] | None:
        """The driver's power samples since the last one, that one included; None before there is one.

        Points are (wall time in s, W). The last one alone says that there is nothing newer yet, and that
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
                self.note("samples", error, errors)
                return None
            kind, samples = 0, ()
        if not samples:
            if last is not None and now_s - self.sample_at_s < STALE_BUFFER_S:
                return ((last[0] / 1e6, last[1]),)
            self.sample = None
            return None
        value = _SAMPLE_FIELDS.get(kind, "uiVal")
        points = [(sample.timeStamp, getattr(sample.sampleValue, value) / 1000.0) for sample in samples]
        self.sample, self.sample_at_s = points[-1], now_s
        if last is None or points[-1][0] <= last[0]:
            return None
        return tuple([(stamp / 1e6, power_w) for stamp, power_w in (last, *points)])


def reason(error: Any) -> str:
    """A stable word for a label: the error's name in nvml.h, lower case: `gpu_is_lost`."""
    name = type(error).__name__.removeprefix("NVMLError").removeprefix("_")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() or f"nvml_{error.value}"
