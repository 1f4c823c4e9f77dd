"""The sensor of ROCm's library: every card of the job, each read on its own; a lost library begins anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading, SensorState
from carbonmon.core.pacing import Backoff
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.amdsmi import library as amdsmi_library
from carbonmon.hardware.amdsmi import quantities
from carbonmon.hardware.amdsmi.cards import Card, list_cards
from carbonmon.hardware.amdsmi.library import LOST, CallError
from carbonmon.hardware.drm_gpus import list_drm_gpus
from carbonmon.hardware.pci_devices import AMD, is_asleep, text_of
from carbonmon.hardware.sensors.amdsmi.open_cards import open_cards

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""A library that is lost is initialised again after a second, then ever more seldom."""

PROBE_PERIOD_S = 60.0
"""A reading that was not supported is tried again once a minute, as after a driver was reloaded."""

_CALLS = (
    ("counter", "amdsmi_get_energy_count", quantities.energy),
    ("power", "amdsmi_get_power_info", quantities.power),
    ("utilization", "amdsmi_get_gpu_activity", quantities.utilization_ratio),
)


class _Meter:
    """One metered card: its handle, None while it is not known, and the readings that are not supported."""

    def __init__(self, card: Card, device: Device) -> None:
        self.gpu_id = card.gpu_id
        self.folder = card.found.device.folder
        self.device = device
        self.handle: Any = card.handle
        self.is_failing = False
        self.unsupported: set[str] = set()
        self.probe_at_s = float("-inf")


class AmdsmiSensor:
    """All chosen cards. An error of one does not affect the others."""

    name = "amdsmi"
    may_hang = True

    def __init__(self, settings: SensorSettings) -> None:
        self._sysfs = settings.sysfs
        self._retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self._is_lost = False
        gpus = list_drm_gpus(settings.sysfs)
        own = [each for each in gpus if each.device.vendor == AMD]
        if not own:
            raise SensorUnavailable("the GPUs of AMD that are here are within CPUs' packages")
        asleep = [each.gpu.uuid for each in own if is_asleep(each.device.folder)]
        if asleep:
            raise SensorUnavailable(f"{', '.join(asleep)} sleeps, and AMD's library would wake it")
        self._library = amdsmi_library.acquire()
        try:
            opened = open_cards(self._library, settings, gpus)
            if not opened.devices:
                nothing = "AMD's library lists no GPU of this job"
                raise SensorUnavailable("; ".join(opened.notes) or nothing, gpus_seen=opened.others)
        except CallError as error:
            amdsmi_library.release()
            raise SensorUnavailable(
                f"AMD's library: {error}", amdsmi_library.REMEDIES.get(error.code or 0, "amd-smi list")
            ) from None
        except Exception:
            amdsmi_library.release()
            raise
        self._is_open = True
        self._generation = self._library.generation
        self._meters = [_Meter(card, device) for card, device in opened.devices]
        self._texts = opened.texts
        self._notes = opened.notes
        self.gpus_are_given = opened.are_given
        self.gpus_seen = opened.others

    def devices(self) -> Sequence[Device]:
        return [meter.device for meter in self._meters]

    def sources(self) -> Sequence[SensorState]:
        parts = tuple(self._texts.items())
        own = SensorState(self.name, "used", "; ".join(self._texts.values()), "", True, parts=parts)
        package = SensorState("amdsmi package", "used", self._library.origin)
        return [own, package, *(SensorState("amdsmi note", "not used", note) for note in self._notes)]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self._is_lost and not self._initialise_again(now_s):
            for meter in self._meters:
                yield Failure(meter.device.id, "driver", "AMD's library is not initialised")
            return
        if self._generation != self._library.generation:
            self._find_handles()
        for meter in self._meters:
            yield from self._read(meter, now_s)
        # No card answers: the driver may have been loaded anew, which the library tells in many ways.
        self._is_lost |= all(meter.is_failing for meter in self._meters)

    def close(self) -> None:
        if self._is_open:  # a second release would be that of another user
            self._is_open = False
            amdsmi_library.release()

    def _read(self, meter: _Meter, now_s: float) -> Iterator[Reading | Failure]:
        device_id = meter.device.id
        meter.is_failing = False
        if is_asleep(meter.folder):  # a read would wake it; in D3cold it has no power at all
            is_off = meter.device.component == "gpu" and text_of(meter.folder / "power_state") == "D3cold"
            yield Reading(device_id, power_w=0.0 if is_off else None)
            return
        meter.is_failing = True
        if meter.handle is None:
            yield Failure(device_id, "missing", "AMD's library does not list it any more")
            return
        if now_s >= meter.probe_at_s:
            meter.probe_at_s = now_s + PROBE_PERIOD_S
            meter.unsupported.clear()
        values: dict[str, Any] = {}
        errors: list[CallError] = []
        for name, function, quantity in _CALLS:
            if name in meter.unsupported or (name == "counter" and "counter" not in meter.device.methods):
                continue
            try:
                values[name] = quantity(self._library.call(function, meter.handle))
            except CallError as error:
                if error.is_unsupported:
                    meter.unsupported.add(name)
                else:
                    errors.append(error)
        energy, power = values.get("counter"), values.get("power")
        reading = Reading(
            device_id,
            None if energy is None else energy.energy_uj,
            None if power is None else power.power_w,
            None,
            values.get("utilization"),
        )
        if any(value is not None for value in values.values()):
            meter.is_failing = False
            self._retry.reset()
            yield reading
        elif not errors:
            yield Failure(device_id, "not_supported", "AMD's library tells none of its readings any more")
        self._is_lost |= any(error.code in LOST for error in errors)
        for reason, text in {error.reason: str(error) for error in errors}.items():
            yield Failure(device_id, reason, text)

    def _initialise_again(self, now_s: float) -> bool:
        """Whether the library works again; somebody else's shutdown ends it for everybody."""
        if now_s < self._retry.at_s:
            return False
        self._retry.schedule(now_s)
        if self._generation == self._library.generation:  # else the list of processes has done it
            try:
                self._library.initialise_again()
            except CallError:
                return False
        self._is_lost = False
        return True

    def _find_handles(self) -> None:
        """Find the cards again by their PCI addresses: the list's order may be another one now."""
        self._generation = self._library.generation
        try:
            listed = list_cards(self._library, list_drm_gpus(self._sysfs)).cards
        except CallError:
            self._is_lost = True
            listed = []
        handles = {card.gpu_id: card.handle for card in listed}
        for meter in self._meters:
            meter.handle = handles.get(meter.gpu_id)
