"""The sensor of hwmon: one meter for each device, found again when its chip is elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Part, Reading, SensorState
from carbonmon.core.pacing import Backoff
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware.amd_dies import TWO_DIES, second_dies, share_of_card
from carbonmon.hardware.drm_gpus import DrmGpu, list_drm_gpus
from carbonmon.hardware.drm_selection import select_given
from carbonmon.hardware.pci_devices import text_of
from carbonmon.hardware.sensors.hwmon.channels import Channel, find_channels
from carbonmon.hardware.sensors.hwmon.chips import Key, find_chips
from carbonmon.hardware.sensors.hwmon.devices import DeviceMaker, LeftOut
from carbonmon.hardware.sensors.hwmon.meter import DeviceMeter
from carbonmon.hardware.sensors.hwmon.table import CHIPS

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""A chip that is away is looked for after a second, then ever more seldom."""


class HwmonSensor:
    """Every device of the chips. An error of one does not affect the others."""

    name = "hwmon"
    may_hang = True

    def __init__(self, settings: SensorSettings, chips: Mapping[Key, Path]) -> None:
        self._sysfs = settings.sysfs
        self._retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        channels, unknown = find_channels(chips)
        gpus = list_drm_gpus(settings.sysfs)
        selection = select_given(settings, gpus)
        self._chosen = {pick.gpu.uuid: pick for pick in selection.chosen}
        others = {each.gpu.uuid for each in gpus} - self._chosen.keys()
        self.gpus_are_given = bool(selection.by) and bool(selection.chosen)
        self.gpus_seen = others
        self._meters: list[DeviceMeter] = []
        self._others: list[SensorState] = []
        maker = DeviceMaker(settings, chips, gpus)
        self._second_dies = _second_dies(channels, chips, gpus)
        for group in _groups(channels):
            self._add(group, maker, chips, others, selection.by)
        self._leave_out((text, "no meter of a whole device") for text in unknown)
        self._others += [SensorState("hwmon note", "not used", note) for note in selection.notes]
        if not self._meters:
            texts = (f"{state.name.removeprefix('hwmon ')}: {state.reason}" for state in self._others)
            reasons = "; ".join(dict.fromkeys(texts))
            nothing = "none of the chips here measures power or energy of a device"
            raise SensorUnavailable(reasons or nothing, gpus_seen=others)

    def devices(self) -> Sequence[Device]:
        return [meter.device for meter in self._meters]

    def sources(self) -> Sequence[SensorState]:
        parts = tuple((meter.device.id, _text(meter)) for meter in self._meters)
        own = SensorState(self.name, "used", "; ".join(text for _, text in parts), "", True, parts=parts)
        return [own, *self._others]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        if any(meter.is_gone for meter in self._meters) and now_s >= self._retry.at_s:
            self._retry.schedule(now_s)
            chips = find_chips(self._sysfs, CHIPS)
            for meter in self._meters:
                if meter.is_gone:
                    meter.find(chips)
        for meter in self._meters:
            yield meter.read(now_s)
        if not any(meter.is_gone for meter in self._meters):
            self._retry.reset()

    def close(self) -> None:
        for meter in self._meters:
            meter.close()

    def _add(
        self,
        group: list[Channel],
        maker: DeviceMaker,
        chips: Mapping[Key, Path],
        others: set[str],
        by: str,
    ) -> None:
        """Meter the device of these channels, but not twice, and none of the GPUs `others`: not the job's."""
        text = " + ".join(channel.text for channel in group)
        try:
            row = group[0].row
            if len({channel.label for channel in group}) != row.parts or len(group) != row.parts:
                raise LeftOut(f"{len(group)} of the {row.parts} channels that are one device together")
            _check_rights(group, chips)
            device = maker.make(group[0])
            for first, silent in self._second_dies.items():
                if device.id == silent:
                    raise LeftOut(f"{first} shows the power of the whole card, {silent} included")
            second = self._second_dies.get(device.id)
            if second is not None:
                device = device._replace(contains=(Part("gpu", None, second),))
                if not self._chosen.keys().isdisjoint(device.gpu_ids):
                    device = device._replace(**share_of_card(self._chosen, device.id, second))
                    others = others - set(device.gpu_ids)
            if not others.isdisjoint(device.gpu_ids):
                raise LeftOut(f"not a GPU of this job by {by}")
            before = next((meter for meter in self._meters if meter.device.id == device.id), None)
            if before is not None:
                raise LeftOut(f"{device.id} is read from {before.channels[0].text}")
        except LeftOut as reason:
            self._leave_out([(text, str(reason))])
            return
        pick = next((self._chosen[gpu] for gpu in device.gpu_ids if gpu in self._chosen), None)
        if pick is not None and pick.share_note and second is None:
            device = device._replace(share_ratio=pick.share_ratio, share_note=pick.share_note)
        # How busy an APU's graphics are says nothing of its package.
        busy_file = "" if device.component == "cpu" else maker.busy_file(group[0])
        self._meters.append(DeviceMeter(device, group, chips, busy_file))

    def _leave_out(self, channels: Iterable[tuple[str, str]]) -> None:
        """Say of each channel, (text, reason), why it is not metered."""
        self._others += [SensorState(f"hwmon {text}", "not used", reason) for text, reason in channels]


def _second_dies(
    channels: Sequence[Channel], chips: Mapping[Key, Path], gpus: Sequence[DrmGpu]
) -> dict[str, str]:
    """The second GPU of each MI250 by its first."""
    by_address = {each.device.address: each.gpu.uuid for each in gpus if each.device.model in TWO_DIES}
    silent = {}
    for channel in channels if by_address else ():
        address = Path(channel.chip.device).name
        if address in by_address:
            text = text_of(chips[channel.chip] / channel.file)
            silent[by_address[address]] = not text.strip("0")
    return second_dies([gpu for _, gpu in sorted(by_address.items()) if gpu in silent], silent)


def _groups(channels: Sequence[Channel]) -> list[list[Channel]]:
    """The channels of one device together: those that are added, else each alone."""
    groups: dict[object, list[Channel]] = {}
    for channel in channels:
        single = (channel.chip, channel.file)
        key = (channel.row, channel.socket) if channel.row.parts > 1 else (channel.row, single)
        groups.setdefault(key, []).append(channel)
    return list(groups.values())


def _check_rights(group: Sequence[Channel], chips: Mapping[Key, Path]) -> None:
    """Raise `LeftOut` for a file that may not be read: its device would take the place of others.

    It is opened, not read: a read would wake a GPU that sleeps.
    """
    for channel in group:
        for name in filter(None, (channel.file, channel.times)):
            path = chips[channel.chip] / name
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
            except PermissionError:
                raise LeftOut(f"{path} may not be read by this user") from None
            except OSError:
                pass  # it may be there later


def _text(meter: DeviceMeter) -> str:
    device = meter.device
    source = device.measured_uncertainty
    kind = "energy" if "counter" in device.methods else "power"
    if source is not None and source.high_ratio > 0.2:
        kind = "power of the moment"
    return f"{device.id}: {kind} by {' + '.join(channel.text for channel in meter.channels)}"
