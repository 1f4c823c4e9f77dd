"""The sensor of TPUs: one device for each chip that the job may use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading, SensorState
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import TPU_UNCERTAINTY
from carbonmon.hardware.accelerators import NOT_NAMED, Listed, choose, estimated_device, parse_numbers
from carbonmon.hardware.sensors.tpu.duty_cycle import (
    BadAnswer,
    DutyCycleClient,
    Row,
    addresses,
    by_chip,
)
from carbonmon.hardware.tpu_chips import TpuChip

VISIBLE = ("TPU_VISIBLE_CHIPS", "TPU_VISIBLE_DEVICES")
"""The chips that a program is to use, by number (libtpu; the second is its older name)."""


class TpuSensor:
    """The chips, and the programs on this machine that tell how busy they are."""

    name = "tpu"
    may_hang = True

    def __init__(self, settings: SensorSettings, chips: Sequence[TpuChip]) -> None:
        variable = next((name for name in VISIBLE if settings.environ.get(name, "").strip()), None)
        listed = None if variable is None else Listed(variable, parse_numbers(settings.environ[variable]))
        choice = choose([chip.number for chip in chips], settings, listed, "TPU chip")
        self.gpus_are_given, self._notes = choice.is_given, choice.notes
        self.gpus_seen = {chip.id for chip in chips if chip.number not in choice.numbers}
        if not choice.numbers:
            raise SensorUnavailable(NOT_NAMED, gpus_seen=self.gpus_seen)
        self._cores = chips[0].generation.cores
        self._number_of_all = len(chips)
        self._places = [place for place, chip in enumerate(chips) if chip.number in choice.numbers]
        self._devices = [_device(chips[place], settings) for place in self._places]
        self._clients: list[DutyCycleClient] = []
        try:
            for address in addresses(settings.argument, settings.environ):
                self._clients.append(DutyCycleClient(address))
        except SensorUnavailable:
            self.close()
            raise

    def devices(self) -> Sequence[Device]:
        return self._devices

    def sources(self) -> Sequence[SensorState]:
        places = ", ".join(client.address for client in self._clients)
        parts = [(device.id, device.id) for device in self._devices]
        parts.append(("", f"each {_text(self._devices[0])} × the duty cycle at {places}"))
        parts.append(("", "which is served while a program uses the chips"))
        reason = "; ".join(text for _, text in parts)
        notes = [SensorState("tpu note", "not used", note) for note in self._notes]
        return [SensorState(self.name, "used", reason, "", True, parts=tuple(parts)), *notes]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        try:
            ratios = self._ratios()
        except BadAnswer as error:
            for device in self._devices:
                yield Failure(device.id, error.reason, str(error))
            return
        for device, ratio in zip(self._devices, ratios, strict=True):
            yield Reading(device.id, utilization_ratio=ratio)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients = []

    def _ratios(self) -> list[float | None]:
        """The duty cycle of each device. Programs that were given fewer chips than all tell of those."""
        answers = self._answers()
        if sum(map(len, answers)) <= len(self._places) * self._cores:
            return by_chip(answers, len(self._places), self._cores)
        every = by_chip(answers, self._number_of_all, self._cores)
        return [every[place] for place in self._places]

    def _answers(self) -> list[list[Row]]:
        """What each program tells that serves now. Without one nobody knows what the chips do."""
        return [client.read() for client in self._clients]


def _device(chip: TpuChip, settings: SensorSettings) -> Device:
    """Raises `SensorUnavailable` where the power of the chip's generation is not known."""
    names = "Google", chip.generation.name
    unknown = "its power was never published", "chip"
    return estimated_device(settings, chip.id, chip.number, names, TPU_UNCERTAINTY, unknown)


def _text(device: Device) -> str:
    spec = device.spec
    assert spec is not None
    idle = "" if spec.idle_w is None else f" from {spec.idle_w:g} W at no load"
    return f"{spec.tdp_w:g} W{idle} ({spec.source})"
