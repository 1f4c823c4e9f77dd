"""The sensor of Level Zero: one meter for each card of the job that no earlier sensor measures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading, SensorState
from carbonmon.core.plausibility import believed_limit_w, bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import LEVEL_ZERO_UNCERTAINTY
from carbonmon.hardware.drm_gpus import DrmGpu, list_drm_gpus
from carbonmon.hardware.found_gpus import Chosen
from carbonmon.hardware.gpu_selection import Selection, check_present, own_entries
from carbonmon.hardware.level_zero_selection import select
from carbonmon.hardware.other_vendors import gaudi_by_id, knows_nvidia
from carbonmon.hardware.pci_devices import INTEL, drm_cards, is_asleep, is_in_package
from carbonmon.hardware.sensors.levelzero import sysman
from carbonmon.hardware.sensors.levelzero.meter import CardMeter, whole_card
from carbonmon.hardware.sensors.levelzero.sysman import Card, Domain, Sysman, SysmanError
from carbonmon.hardware.spec_sheets import gpu_spec

NO_PERMISSION_REMEDY = "sudo carbonmon …   # this user may not read the card's counters"


class LevelZeroSensor:
    """The cards of the job. An error of one does not affect the others."""

    name = "levelzero"
    may_hang = True

    def __init__(
        self,
        library: Sysman,
        meters: Sequence[CardMeter],
        sources: Sequence[SensorState],
        gpus: Mapping[str, DrmGpu],
        selection: Selection,
    ) -> None:
        """`gpus` are all graphics cards that the kernel shows, by PCI address."""
        self._library = library
        self._meters = meters
        self._sources = sources
        self._gpus = gpus
        self.gpus_are_given = bool(selection.by)
        self.gpus_seen = _not_given(gpus, selection)

    def devices(self) -> Sequence[Device]:
        return [meter.device for meter in self._meters]

    def sources(self) -> Sequence[SensorState]:
        return self._sources

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        for meter in self._meters:
            if is_asleep(self._gpus[meter.address].device.folder):
                yield Reading(meter.device.id)  # a read would wake it; its counter covers the time
            elif meter.is_gone and not self._find(meter, now_s):
                yield Failure(meter.device.id, *meter.failure)
            else:
                yield meter.read(self._library, now_s)

    def close(self) -> None:
        """Sysman has no call that ends it; the library stays loaded."""

    def _find(self, meter: CardMeter, now_s: float) -> bool:
        """Get the card's domains again, by its place, as after a reset."""
        if now_s < meter.retry.at_s:
            return False
        try:
            cards = {card.address: card for card in self._library.cards()}
            if meter.address not in cards:
                meter.fail("missing", f"{meter.address} is not in Level Zero's list", now_s)
                return False
            domains, _ = whole_card(self._library.domains(cards[meter.address]), self._library)
        except SysmanError as error:
            meter.fail(error.reason, str(error), now_s)
            return False
        if len(domains) != len(meter.domains):
            meter.fail("missing", f"{len(domains)} of its {len(meter.domains)} domains are here", now_s)
            return False
        meter.domains = domains
        meter.is_gone = False
        return True


def open_cards(settings: SensorSettings, left: Collection[str]) -> LevelZeroSensor:
    """Open the cards that the job was given, of those `left` by the sensors before, by PCI address.

    Raises `SensorUnavailable` where none can be metered, `ConfigError` where `--gpus` names one that is not
    there.
    """
    drm = {each.device.address: each for each in list_drm_gpus(settings.sysfs)}
    library = sysman.load()
    try:
        cards = {card.address: card for card in library.cards()}
    except SysmanError as error:
        raise SensorUnavailable(f"Level Zero: {error}", sysman.REMEDY) from None
    selection = _select(settings, drm, cards)
    metered: list[tuple[CardMeter, str]] = []
    sources = [SensorState("levelzero note", "not used", note) for note in selection.notes]
    picks = {pick.gpu.uuid: pick for pick in selection.chosen}
    remedy = ""
    for address in sorted(left):
        gpu = drm[address].gpu
        try:
            if gpu.uuid not in picks:
                raise _LeftOut(f"not a GPU of this job by {selection.by}")
            metered.append(_meter(library, picks[gpu.uuid], cards.get(address)))
        except _LeftOut as reason:
            sources.append(SensorState(f"levelzero {gpu.uuid}", "not used", str(reason), reason.remedy))
            remedy = remedy or reason.remedy
    if not metered:
        reasons = "; ".join(f"{state.name.partition(' ')[2]}: {state.reason}" for state in sources)
        raise SensorUnavailable(reasons, remedy, gpus_seen=_not_given(drm, selection))
    parts = tuple((meter.device.id, f"{meter.device.id}: energy by its {what}") for meter, what in metered)
    own = SensorState("levelzero", "used", "; ".join(text for _, text in parts), "", True, parts=parts)
    meters = [meter for meter, _ in metered]
    return LevelZeroSensor(library, meters, [own, *sources], drm, selection)


def _not_given(gpus: Mapping[str, DrmGpu], selection: Selection) -> set[str]:
    """The ids of Intel's cards that are not the job's."""
    chosen = {pick.gpu.uuid for pick in selection.chosen}
    return {each.gpu.uuid for each in gpus.values() if each.device.vendor == INTEL} - chosen


class _LeftOut(Exception):
    """A card that is not metered; the text says why."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def _select(settings: SensorSettings, drm: Mapping[str, DrmGpu], cards: Mapping[str, Card]) -> Selection:
    intel = [each.gpu for each in drm.values() if each.device.vendor == INTEL]
    own = {each.gpu.uuid for each in drm.values()}
    has_nvidia = knows_nvidia(settings, own)
    if settings.gpus is not None and not has_nvidia:
        found = [each.gpu for each in drm.values()]
        named = own_entries(settings.gpus, found, lambda: gaudi_by_id(settings.sysfs))
        check_present(named, found, lister="carbonmon doctor")
    tiles = {drm[address].gpu.uuid: card.tiles for address, card in cards.items() if address in drm}
    integrated = [card for card in drm_cards(settings.sysfs) if card.vendor == INTEL and is_in_package(card)]
    return select(
        intel,
        tiles,
        settings.gpus,
        settings.environ,
        has_nvidia=has_nvidia,
        has_integrated=bool(integrated),
    )


def _meter(library: Sysman, pick: Chosen, card: Card | None) -> tuple[CardMeter, str]:
    """The meter of a card, and what of it is measured; raises `_LeftOut` where nothing is."""
    if card is None:
        raise _LeftOut("Level Zero does not list it", sysman.REMEDY)
    try:
        domains = library.domains(card)
        own, what = whole_card(domains, library)
    except SysmanError as error:
        remedy = NO_PERMISSION_REMEDY if error.result == sysman.NO_PERMISSION else ""
        raise _LeftOut(str(error), remedy) from None
    if not own:
        tiles = sum(domain.is_of_tile for domain in domains)
        raise _LeftOut(
            f"it tells the energy of {tiles} tiles only, which is less than the card's"
            if tiles
            else "it tells no energy, or one that stands at 0"
        )
    device = Device(
        pick.gpu.uuid,
        "gpu",
        card.name or pick.gpu.name,
        pick.gpu.number,
        ("counter",),
        max_power_w=_most_w(own, card.name or pick.gpu.name),
        measured_uncertainty=LEVEL_ZERO_UNCERTAINTY,
    )
    device = device._replace(share_ratio=pick.share_ratio, share_note=pick.share_note)
    return CardMeter(device, card.address, own), what


def _most_w(domains: Sequence[Domain], name: str) -> float:
    """Above what no power of a card is believed: by the limits of its domains, else by its model's TDP."""
    limits_w = [believed_limit_w(domain.limit_w, None) for domain in domains]
    if None not in limits_w:
        return bound_w("gpu", sum(limit_w for limit_w in limits_w if limit_w is not None), None)
    table = gpu_spec(name)
    return bound_w("gpu", None, None if table is None else table.tdp_w)
