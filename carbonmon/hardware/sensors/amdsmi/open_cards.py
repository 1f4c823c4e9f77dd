"""Makes the devices of a job from the cards of the library: which ones, what each holds, which methods."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from carbonmon.core.model import Device, Method, Part, Spec
from carbonmon.core.plausibility import believed_limit_w, bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.core.uncertainty import (
    AMDSMI_UNCERTAINTY,
    MOMENTARY_UNCERTAINTY,
    TDP_UNCERTAINTY,
    combine,
)
from carbonmon.hardware.amd_dies import TWO_DIES, second_dies, share_of_card
from carbonmon.hardware.amdsmi import quantities
from carbonmon.hardware.amdsmi.cards import Card, list_cards
from carbonmon.hardware.amdsmi.library import AmdsmiLibrary, CallError
from carbonmon.hardware.drm_gpus import DrmGpu, measured_device
from carbonmon.hardware.drm_selection import select_given
from carbonmon.hardware.found_gpus import Chosen
from carbonmon.hardware.pci_devices import AMD
from carbonmon.hardware.sensors.amdsmi.counter_check import Judged, Look, check_counters


class Opened(NamedTuple):
    """The metered cards with their devices; `texts` say of each device what is read, `notes` what else is so.

    `are_given`: they are those that the job was given; `others` are the ids of AMD's other GPUs.
    """

    devices: list[tuple[Card, Device]]
    texts: dict[str, str]
    notes: list[str]
    are_given: bool
    others: frozenset[str]


class _Probe(NamedTuple):
    """What a card answers at opening; `has_…`: the library supports it, though it may have failed now."""

    energy: quantities.Energy | None
    power: quantities.Power | None
    limits_w: list[float]
    has_energy: bool
    has_power: bool
    has_activity: bool

    @property
    def shows_nothing(self) -> bool:
        is_still = self.energy is None or not self.energy.value
        return is_still and (self.power is None or not self.power.power_w)


def open_cards(library: AmdsmiLibrary, settings: SensorSettings, gpus: list[DrmGpu]) -> Opened:
    """The cards of the job; raises `CallError` where the library lists none, and `ConfigError` where the user
    names one that is not there."""
    listed = list_cards(library, gpus)
    selection = select_given(settings, gpus)
    notes = [*listed.notes, *selection.notes]
    probes = {card.gpu_id: _probe(library, card) for card in listed.cards}
    dies = _second_dies(listed.cards, probes)
    chosen = {pick.gpu.uuid: pick for pick in selection.chosen}
    found: dict[str, tuple[Card, Device]] = {}
    for card in listed.cards:
        second = dies.get(card.gpu_id)
        if card.gpu_id in dies.values() or chosen.keys().isdisjoint({card.gpu_id, second}):
            continue
        device = measured_device(settings.sysfs, card.found)._replace(**_share(chosen, card.gpu_id, second))
        if second is not None:
            device = device._replace(contains=(Part("gpu", None, second),))
        found[card.gpu_id] = card, _with_limits(device, probes[card.gpu_id], settings)
    judged = check_counters(
        {gpu: partial(_look, library, found[gpu][0]) for gpu in found if probes[gpu].has_energy}
    )
    others = frozenset(each.gpu.uuid for each in gpus if each.device.vendor == AMD) - chosen.keys()
    opened = Opened([], {}, notes, bool(selection.by), others)
    for gpu, (card, device) in found.items():
        probe = probes[gpu]
        methods = _methods(device, probe, gpu not in judged.refused)
        if not {"counter", "power"} & set(methods):
            opened.notes.append(f"{device.id}: the library tells neither its energy nor its power")
            continue
        opened.devices.append((card, _with_methods(device, probe, methods)))
        opened.texts[device.id] = _text(card, device, methods, dies.get(gpu), judged, gpu)
    return opened


def _probe(library: AmdsmiLibrary, card: Card) -> _Probe:
    energy, has_energy = _asked(library, "amdsmi_get_energy_count", card.handle, quantities.energy)
    power, has_power = _asked(library, "amdsmi_get_power_info", card.handle, quantities.power)
    limits_w, _ = _asked(library, "amdsmi_get_power_cap_info", card.handle, quantities.limits_w)
    _, has_activity = _asked(library, "amdsmi_get_gpu_activity", card.handle, quantities.utilization_ratio)
    return _Probe(energy, power, limits_w or [], has_energy, has_power, has_activity)


def _asked(library: AmdsmiLibrary, function: str, handle: Any, read: Any) -> tuple[Any, bool]:
    """A quantity and whether the library has it: a call that failed may succeed later."""
    try:
        found = read(library.call(function, handle))
    except CallError as error:
        return None, not error.is_unsupported
    return found, found is not None


def _look(library: AmdsmiLibrary, card: Card) -> Look:
    energy, _ = _asked(library, "amdsmi_get_energy_count", card.handle, quantities.energy)
    at_s = time.monotonic()
    power, _ = _asked(library, "amdsmi_get_power_info", card.handle, quantities.power)
    return Look(energy, None if power is None else power.power_w, at_s)


def _second_dies(cards: Sequence[Card], probes: Mapping[str, _Probe]) -> dict[str, str]:
    dies = [card.gpu_id for card in cards if card.found.device.model in TWO_DIES]
    return second_dies(dies, {gpu: probe.shows_nothing for gpu, probe in probes.items()})


def _share(chosen: Mapping[str, Chosen], gpu: str, second: str | None) -> dict[str, Any]:
    """The job's share of a card: that of its GPU, of two dies half of each."""
    if second is None:
        return {"share_ratio": chosen[gpu].share_ratio, "share_note": chosen[gpu].share_note}
    return share_of_card(chosen, gpu, second)


def _with_limits(device: Device, probe: _Probe, settings: SensorSettings) -> Device:
    limit_w = max((w for w in probe.limits_w if believed_limit_w(w, None)), default=None)
    spec = None
    if probe.has_activity and settings.gpu_tdp_w is not None:
        spec = Spec(settings.gpu_tdp_w, TDP_UNCERTAINTY, "--gpu-tdp")
    elif probe.has_activity and limit_w is not None:
        spec = Spec(limit_w, TDP_UNCERTAINTY, "the power limit that AMD's library reports")
    most_w = None if limit_w is None else bound_w(device.component, limit_w, None)
    return device._replace(max_power_w=most_w, spec=spec)


def _methods(device: Device, probe: _Probe, is_counter_right: bool) -> tuple[Method, ...]:
    methods: list[Method] = []
    if probe.has_energy and is_counter_right:
        methods.append("counter")
    if probe.has_power:
        methods.append("power")
    if device.spec is not None:
        methods.append("tdp")
    return tuple(methods)


def _with_methods(device: Device, probe: _Probe, methods: tuple[Method, ...]) -> Device:
    uncertainty = AMDSMI_UNCERTAINTY
    if "counter" not in methods and not (probe.power is not None and probe.power.is_average):
        uncertainty = combine(AMDSMI_UNCERTAINTY, MOMENTARY_UNCERTAINTY)
    return device._replace(methods=methods, measured_uncertainty=uncertainty)


def _text(
    card: Card, device: Device, methods: tuple[Method, ...], second: str | None, judged: Judged, gpu: str
) -> str:
    """What of a device is read, for `doctor`."""
    parts = ["energy counter" if "counter" in methods else "power"]
    if gpu in judged.refused:
        parts.append(judged.refused[gpu])
    elif "counter" in methods and gpu in judged.unchecked:
        parts.append("not checked against its power")
    if second is not None:
        parts.append(f"of the whole card, {second} included")
    if len(card.partitions) > 1:
        parts.append(f"of the whole card, in {len(card.partitions)} partitions")
    return f"{device.id}: {', '.join(parts)}"
