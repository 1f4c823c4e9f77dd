"""One Gaudi accelerator: its handle, the readings that HLML gives of it, and what a failed call means.

Its utilisation is not read: the driver computes it from the power, as (power − idle) ÷ (limit − idle)
(Linux, drivers/accel/habanalabs, hl_device_utilization). TDP times that would count the idle power as
nothing, and as a figure of its own it would look like activity.
"""

from __future__ import annotations

from typing import Any

from carbonmon.core.model import Device, Failure, Reading
from carbonmon.core.pacing import Backoff
from carbonmon.hardware.sensors.gaudi import hlml as codes

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""A card that is away is looked for after a second, then ever more seldom."""

PROBE_PERIOD_S = 60.0
"""A reading that a driver did not support is tried again once a minute."""

DRIVER_LOST = ("driver", "the driver habanalabs is not there")

READINGS = {"counter": "hlmlDeviceGetTotalEnergyConsumption", "power": "hlmlDeviceGetPowerUsage"}
"""Energy since the driver was loaded in mJ, 64 bits; power in mW, 32 bits (hlml.h)."""

NOT_READ = {"counter": 2**64 - 1, "power": 2**32 - 1}
"""What firmware says for "not available"."""


class Card:
    """One accelerator; `handle` is None while it is lost, `failure` says why (reason, detail).

    `bus_id` is its PCI address as HLML writes it, by which it is found again.
    """

    __slots__ = ("_probe_at_s", "_supported", "bus_id", "device", "failure", "handle", "retry")

    def __init__(self, device: Device, bus_id: str, handle: Any) -> None:
        self.device = device
        self.bus_id = bus_id
        self.handle: Any = handle
        self.failure: tuple[str, str] = ("", "")
        self.retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self._supported = {name for name in READINGS if name in device.methods}
        self._probe_at_s = 0.0

    def read(self, hlml: Any, now_s: float) -> list[Reading | Failure]:
        """Its present reading, and a failure for each call that did not succeed."""
        if now_s >= self._probe_at_s:
            self._probe_at_s = now_s + PROBE_PERIOD_S
            self._supported |= {name for name in READINGS if name in self.device.methods}
        values: dict[str, int] = {}
        failures: dict[str, str] = {}
        errors: list[Any] = []
        for name in sorted(self._supported):
            try:
                value = getattr(hlml, READINGS[name])(self.handle)
            except hlml.HLMLError as error:
                if error.value == codes.NOT_SUPPORTED:
                    self._supported.discard(name)
                else:
                    errors.append(error)
                    failures[codes.reason(error)] = f"{READINGS[name]}: {error}"
                continue
            if value == NOT_READ[name]:
                failures["garbage"] = f"{READINGS[name]}: {value} stands for a value that is not there"
            else:
                values[name] = value
        if errors and not values:
            return [self._lose(hlml, errors, now_s)]
        device_id = self.device.id
        if not self._supported:
            return [Failure(device_id, "not_supported", "the driver supports none of its readings any more")]
        if values:
            self.failure = ("", "")
            self.retry.reset()
        energy_mj, power_mw = values.get("counter"), values.get("power")
        reading = Reading(
            device_id,
            None if energy_mj is None else energy_mj * 1000,
            None if power_mw is None else power_mw / 1000.0,
        )
        more: list[Reading | Failure] = [Failure(device_id, *failure) for failure in failures.items()]
        return [reading, *more] if values or not more else more

    def _lose(self, hlml: Any, errors: list[Any], now_s: float) -> Failure:
        """All calls failed: it is reset, gone, or the whole driver is."""
        if any(error.value in codes.DRIVER_ERRORS for error in errors):
            self.failure = DRIVER_LOST
        else:
            state = codes.status(hlml, self.handle)
            self.failure = codes.reason(errors[0]), f"{errors[0]}{f': it is {state}' if state else ''}"
        self.handle = None
        self.retry.schedule(now_s)
        return Failure(self.device.id, *self.failure)
