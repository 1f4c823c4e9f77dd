"""The sensor of Gaudi accelerators: each is found again after a reset, or when the driver is back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Method, Reading, SensorState
from carbonmon.core.pacing import Backoff
from carbonmon.core.plausibility import believed_limit_w, bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.core.uncertainty import GAUDI_UNCERTAINTY, MOMENTARY_UNCERTAINTY, combine
from carbonmon.hardware.drm_gpus import list_drm_gpus
from carbonmon.hardware.found_gpus import Chosen, FoundGpu
from carbonmon.hardware.gaudi_cards import GaudiCard, device_id, pci_address
from carbonmon.hardware.gaudi_selection import select
from carbonmon.hardware.gpu_selection import check_present, own_entries
from carbonmon.hardware.sensors.gaudi import hlml as codes
from carbonmon.hardware.sensors.gaudi.card import (
    DRIVER_LOST,
    FIRST_RETRY_S,
    LAST_RETRY_S,
    READINGS,
    Card,
)
from carbonmon.hardware.spec_sheets import gpu_spec

MOST = 256
"""No machine has more accelerators: a larger count is garbage."""


class GaudiSensor:
    """The accelerators of the job. An error of one does not affect the others."""

    name = "gaudi"
    may_hang = True

    def __init__(
        self,
        hlml: Any,
        cards: Sequence[Card],
        sources: Sequence[SensorState],
        selected_by: str,
        others: Collection[str],
    ) -> None:
        """`selected_by` names what chose the cards, "" for nothing; `others` are ids that it left out."""
        self._hlml = hlml
        self._cards = cards
        self._sources = sources
        self.gpus_are_given = bool(selected_by)
        self.gpus_seen = others
        self._initialised = True
        self._is_driver_lost = False
        self._retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)

    def devices(self) -> Sequence[Device]:
        return [card.device for card in self._cards]

    def sources(self) -> Sequence[SensorState]:
        return self._sources

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if self._is_driver_lost and not self._reinitialise(now_s):
            for card in self._cards:
                yield Failure(card.device.id, *DRIVER_LOST)
            return
        for card in self._cards:
            if card.handle is None and not self._reacquire(card, now_s):
                yield Failure(card.device.id, *card.failure)
                continue
            yield from card.read(self._hlml, now_s)
            self._is_driver_lost |= card.failure == DRIVER_LOST
            if card.failure == ("", ""):
                self._retry.reset()

    def close(self) -> None:
        if self._initialised:
            self._initialised = False
            with suppress(self._hlml.HLMLError):  # an unloaded driver cannot be shut down, and need not be
                self._hlml.hlmlShutdown()

    def _reacquire(self, card: Card, now_s: float) -> bool:
        """Get the handle of a lost card by its place: its index may have changed."""
        if now_s < card.retry.at_s:
            return False
        try:
            card.handle = codes.own_handle(self._hlml.hlmlDeviceGetHandleByPCIBusID(card.bus_id))
        except self._hlml.HLMLError as error:
            if error.value in codes.DRIVER_ERRORS:
                self._is_driver_lost = True
            elif card.failure == DRIVER_LOST:
                card.failure = codes.reason(error), str(error)
            card.retry.schedule(now_s)
            return False
        return True

    def _reinitialise(self, now_s: float) -> bool:
        if now_s < self._retry.at_s:
            return False
        self._retry.schedule(now_s)
        self.close()
        try:
            codes.check_library(self._hlml)
            self._hlml.hlmlInit()
        except (SensorUnavailable, self._hlml.HLMLError):
            return False
        self._initialised = True
        self._is_driver_lost = False
        for card in self._cards:
            card.handle = None
            card.failure = card.failure if card.failure != ("", "") else DRIVER_LOST
            card.retry.reset()
        return True


def open_cards(settings: SensorSettings, cards: Sequence[GaudiCard]) -> GaudiSensor:
    """Open the accelerators that the job was given; `cards` are those that the kernel shows.

    Raises `SensorUnavailable` where none can be metered, `ConfigError` where `--gpus` names one that is not
    there.
    """
    here = f"{len(cards)} Gaudi accelerator{'s are' if len(cards) > 1 else ' is'} here"
    try:
        hlml = codes.import_hlml()
    except SensorUnavailable as error:
        raise SensorUnavailable(f"{here}, but {error.reason}", error.remedy) from None
    try:
        hlml.hlmlInit()
    except hlml.HLMLError as error:
        remedy = codes.REMEDIES.get(int(error.value), "hl-smi")
        raise SensorUnavailable(f"{here}, but HLML: {error}", remedy) from None
    try:
        return _opened(hlml, settings, {card.address: card for card in cards})
    except Exception:
        with suppress(hlml.HLMLError):
            hlml.hlmlShutdown()
        raise


def _opened(hlml: Any, settings: SensorSettings, cards: Mapping[str, GaudiCard]) -> GaudiSensor:
    found, handles, modules, notes = _inventory(hlml, cards)
    if not found:
        raise SensorUnavailable("; ".join(notes) or "HLML finds no accelerator", "hl-smi")
    drm = [each.gpu for each in list_drm_gpus(settings.sysfs)]
    has_other_gpus = bool(drm) or any(device.gpu_ids for device in settings.known.values())
    gpus = settings.gpus
    if gpus is not None:
        gpus = own_entries(gpus, found, lambda: drm)
        if not has_other_gpus:
            check_present(gpus, found, lister="carbonmon doctor")
    selection = select(found, modules, gpus, settings.environ, has_other_gpus=has_other_gpus)
    notes += selection.notes
    if not selection.chosen:
        nothing = f"the job may use none of the {len(found)} accelerators ({selection.by})"
        raise SensorUnavailable(
            "; ".join([*notes, nothing]), "carbonmon run --gpus 0,1 -- …", gpus_seen=handles.keys()
        )
    devices = {pick.gpu.uuid: _device(hlml, pick, handles[pick.gpu.uuid].handle) for pick in selection.chosen}
    readable = {name: device for name, device in devices.items() if device.methods}
    notes += [
        f"{device.name} {name}: it tells neither energy nor power"
        for name, device in devices.items()
        if not device.methods
    ]
    if not readable:
        raise SensorUnavailable("; ".join(notes), "hl-smi")
    opened = [Card(device, handles[name].bus_id, handles[name].handle) for name, device in readable.items()]
    sources = _sources(list(readable.values()), len(found), modules, notes)
    others = {gpu.uuid for gpu in found} - devices.keys()
    return GaudiSensor(hlml, opened, sources, selection.by, others)


class _Handle(NamedTuple):
    """HLML's handle of an accelerator, and its PCI address as HLML writes it."""

    handle: Any
    bus_id: str


def _inventory(
    hlml: Any, cards: Mapping[str, GaudiCard]
) -> tuple[list[FoundGpu], dict[str, _Handle], dict[str, int], list[str]]:
    """The accelerators that answer, their handles and module ids by device id, and notes on the others."""
    found: list[FoundGpu] = []
    handles: dict[str, _Handle] = {}
    modules: dict[str, int] = {}
    notes: list[str] = []
    try:
        count = hlml.hlmlDeviceGetCount()
    except hlml.HLMLError as error:
        raise SensorUnavailable(f"HLML cannot count the accelerators: {error}", "hl-smi") from None
    for index in range(min(count, MOST)):
        try:
            handle = codes.own_handle(hlml.hlmlDeviceGetHandleByIndex(index))
            bus_id = codes.text(hlml.hlmlDeviceGetPCIInfo(handle).bus_id)
        except hlml.HLMLError as error:
            notes.append(f"accelerator {index} cannot be read: {codes.reason(error)}: {error}")
            continue
        address = pci_address(bus_id)
        if address is None or device_id(address) in handles:
            notes.append(f"accelerator {index} cannot be told from the others by its PCI address")
            continue
        name = codes.text(codes.ask(hlml, "hlmlDeviceGetName", handle)) or "Gaudi accelerator"
        own_id = device_id(address)
        handles[own_id] = _Handle(handle, bus_id)
        found.append(FoundGpu(own_id, index, name, address))
        module = codes.ask(hlml, "hlmlDeviceGetModuleID", handle)
        if module is None and address in cards:
            module = cards[address].module
        if module is not None:
            modules[own_id] = module
    return found, handles, modules, notes


def _device(hlml: Any, pick: Chosen, handle: Any) -> Device:
    limits_mw = [codes.ask(hlml, "hlmlDeviceGetPowerManagementDefaultLimit", handle)]
    limits_mw += (codes.ask(hlml, "hlmlDeviceGetPowerManagementLimitConstraints", handle) or ())[1:]
    limits_w = [believed_limit_w(limit_mw / 1000.0, None) for limit_mw in limits_mw if limit_mw]
    limit_w = max((limit_w for limit_w in limits_w if limit_w is not None), default=None)
    table = gpu_spec(pick.gpu.name) if limit_w is None else None
    ladder: tuple[Method, ...] = ("counter", "power")
    methods = [method for method in ladder if _supports(hlml, READINGS[method], handle)]
    uncertainty = GAUDI_UNCERTAINTY
    if methods[:1] == ["power"]:  # of what time it is the mean is not documented
        uncertainty = combine(GAUDI_UNCERTAINTY, MOMENTARY_UNCERTAINTY)
    return Device(
        id=pick.gpu.uuid,
        component="gpu",
        name=pick.gpu.name,
        index=pick.gpu.number,
        methods=tuple(methods),
        max_power_w=bound_w("gpu", limit_w, None if table is None else table.tdp_w),
        measured_uncertainty=uncertainty,
    )


def _supports(hlml: Any, function: str, handle: Any) -> bool:
    """Whether the driver supports this reading; one that fails with another error may work later.

    The package says "invalid argument" for a function that the library does not have.
    """
    try:
        getattr(hlml, function)(handle)
    except hlml.HLMLError as error:
        return error.value not in (codes.NOT_SUPPORTED, codes.INVALID_ARGUMENT)
    except AttributeError:  # a package without the function
        return False
    return True


def _sources(
    metered: Sequence[Device], found: int, modules: Mapping[str, int], notes: Sequence[str]
) -> list[SensorState]:
    """How many accelerators are metered by which method, and notes on the choice."""
    best = Counter(device.methods[0] for device in metered)
    text = ", ".join(f"{count} by {method}" for method, count in best.items())
    names = ", ".join(dict.fromkeys(device.name for device in metered))
    own = sorted(modules[device.id] for device in metered if device.id in modules)
    which = f"; modules {', '.join(map(str, own))}" if own else ""
    used = f"{len(metered)} of {found} accelerators ({names}): {text}{which}"
    parts = tuple((device.id, f"{device.name}: by {device.methods[0]}") for device in metered)
    sources = [SensorState("gaudi", "used", used, "", True, parts=parts)]
    return sources + [SensorState("gaudi note", "not used", note) for note in notes]
