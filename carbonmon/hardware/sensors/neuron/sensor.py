"""The sensor of Trainium and Inferentia: the driver's percentage of power, else how busy the cores are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.model import Device, Failure, Reading, SensorState
from carbonmon.core.pacing import Backoff
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import NEURON_UNCERTAINTY
from carbonmon.hardware.accelerators import NOT_NAMED, Listed, choose, estimated_device, parse_numbers
from carbonmon.hardware.neuron_devices import NeuronDevice, find_power
from carbonmon.hardware.number_file import reason_of
from carbonmon.hardware.sensors.neuron.busy_cores import PROGRAM, BusyCores, find_program
from carbonmon.hardware.sensors.neuron.power_file import PowerFile

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""A file that is away is looked for, a program that ended is started: after a second, then more seldom."""

VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"
"""The cores that a program is to use, by number over all devices (Neuron Runtime's configuration)."""


class NeuronSensor:
    """Every device that the job may use. An error of one does not affect the others.

    While the driver has no power of a device for this time, neuron-monitor runs and tells how busy it is.
    """

    name = "neuron"
    may_hang = True

    def __init__(self, settings: SensorSettings, devices: Sequence[NeuronDevice]) -> None:
        numbers = [device.number for device in devices]
        choice = choose(numbers, settings, _listed(devices, settings.environ), "Neuron device")
        self.gpus_are_given, self._notes = choice.is_given, choice.notes
        self.gpus_seen = {device.id for device in devices if device.number not in choice.numbers}
        if not choice.numbers:
            raise SensorUnavailable(NOT_NAMED, gpus_seen=self.gpus_seen)
        self._found = [device for device in devices if device.number in choice.numbers]
        self._devices = [_device(each, settings) for each in self._found]
        self._files = [None if each.power is None else PowerFile(each.power) for each in self._found]
        self._program = find_program(settings.environ)
        self._busy: BusyCores | None = None
        self._find_again, self._start_again = (Backoff(FIRST_RETRY_S, LAST_RETRY_S) for _ in range(2))
        if self._program is None and not any(self._files):
            raise SensorUnavailable(
                f"the driver tells no power of its devices, and {PROGRAM} is not installed",
                "install the package aws-neuronx-tools",
            )

    def devices(self) -> Sequence[Device]:
        return self._devices

    def sources(self) -> Sequence[SensorState]:
        parts = [(device.id, device.id) for device in self._devices]
        parts.append(("", f"each {_text(self._devices[0], any(self._files))}"))
        if self._program is not None:
            parts.append(("", f"utilisation by {self._program} while the driver has no power of this time"))
        reason = "; ".join(text for _, text in parts)
        notes = [SensorState("neuron note", "not used", note) for note in self._notes]
        return [SensorState(self.name, "used", reason, "", True, parts=tuple(parts)), *notes]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self._find_files(now_s)
        readings = [
            self._by_power(device, file, now_s)
            for device, file in zip(self._devices, self._files, strict=True)
        ]
        unknown = any(isinstance(each, Failure) or each.utilization_ratio is None for each in readings)
        busy = self._utilizations(now_s, unknown)
        for found, reading in zip(self._found, readings, strict=True):
            if isinstance(reading, Reading) and reading.utilization_ratio is not None:
                yield reading
            elif busy is not None and found.number in busy:
                yield Reading(found.id, utilization_ratio=busy[found.number])
            else:
                yield reading

    def close(self) -> None:
        for file in self._files:
            if file is not None:
                file.close()
        self._stop()

    def _by_power(self, device: Device, file: PowerFile | None, now_s: float) -> Reading | Failure:
        """By the driver's file; without a utilisation where it has none of this time."""
        if file is None:
            return Reading(device.id)
        try:
            return Reading(device.id, utilization_ratio=file.read(now_s))
        except (OSError, ValueError) as error:
            return Failure(device.id, reason_of(error), str(error))

    def _find_files(self, now_s: float) -> None:
        """Look again for files that are not where they were, as after the driver was loaded anew."""
        lost = [place for place, file in enumerate(self._files) if file is not None and file.is_gone]
        if not lost:
            self._find_again.reset()
        elif now_s >= self._find_again.at_s:
            self._find_again.schedule(now_s)
            for place in lost:
                path = find_power(self._found[place].folder)
                if path is not None:
                    self._files[place] = PowerFile(path)

    def _utilizations(self, now_s: float, wanted: bool) -> Mapping[int, float] | None:
        """How busy each device is, by its number; the program runs only while that is wanted."""
        if not wanted:
            self._stop()
        if not wanted or self._program is None:
            return None
        if self._busy is not None and self._busy.has_ended():
            self._stop()
        if self._busy is None and now_s >= self._start_again.at_s:
            self._start_again.schedule(now_s)
            try:
                self._busy = BusyCores(self._program)
            except OSError as error:
                log.debug("%s cannot be started: %s", self._program, error)
        if self._busy is None:
            return None
        ratios = self._busy.read(now_s)
        if ratios is not None:
            self._start_again.reset()
        return ratios

    def _stop(self) -> None:
        if self._busy is not None:
            self._busy.close()
            self._busy = None


def _device(found: NeuronDevice, settings: SensorSettings) -> Device:
    """Raises `SensorUnavailable` where nobody stated the device's maximum power."""
    unknown = "AWS does not publish its maximum power", "device"
    names = "AWS", found.model
    return estimated_device(settings, found.id, found.number, names, NEURON_UNCERTAINTY, unknown)


def _listed(devices: Sequence[NeuronDevice], environ: Mapping[str, str]) -> Listed | None:
    """The devices of the cores that a job was given; None where that is not said, or cannot be told.

    Trainium2 and later join cores to logical ones, as the job is set up: there the list tells no device.
    """
    text = environ.get(VISIBLE_CORES, "")
    cores = devices[0].cores
    if not text.strip() or cores is None:
        return None
    listed = parse_numbers(text)
    return Listed(VISIBLE_CORES, None if listed is None else frozenset(core // cores for core in listed))


def _text(device: Device, has_power: bool) -> str:
    spec = device.spec
    assert spec is not None
    told = "percent of power, a mean of each minute" if has_power else "utilisation"
    return f"{spec.tdp_w:g} W ({spec.source}) × {told}"
