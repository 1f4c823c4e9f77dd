"""Reads one device of hwmon: its channels, whether its GPU sleeps, and whether its power stands still."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from pathlib import Path

from carbonmon.core.model import Device, Failure, Reading
from carbonmon.hardware.number_file import NumberFile, reason_of
from carbonmon.hardware.pci_devices import is_asleep, text_of
from carbonmon.hardware.sensors.hwmon.channels import Channel
from carbonmon.hardware.sensors.hwmon.chips import Key

STILL_S, STILL_READINGS = 60.0, 30
"""A power that is the same to its last digit for so long, in so many readings, is one that nobody renews:
acpi_power_meter repeats the last value when the firmware's call fails, without an error."""

WHOLE_WATT_UW = 1_000_000
"""A sensor that tells whole watts may well stand still, as may ina3221 with its steps of 8 mV and 20 mA, by
either of its drivers."""

_NOT_READ = frozenset((0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))
"""What firmware says for "not available", in each width of a register."""


class DeviceMeter:
    """One device and its files. `is_gone`: its chip is not where it was, and is to be found again."""

    def __init__(
        self, device: Device, channels: Sequence[Channel], chips: Mapping[Key, Path], busy_file: str = ""
    ) -> None:
        """`busy_file` holds a GPU's utilisation in percent, "" without one."""
        self.device = device
        self.channels = channels
        self.is_gone = False
        self._busy_file = busy_file
        self._is_card = channels[0].row.measures == "gpu"
        self._is_counter = channels[0].quantity == "energy"
        self._unit_uw = channels[0].row.unit_uw
        self._was_off = False
        self._last_uj: int | None
        self._removed_uj: int
        self._still_value: int | None = None
        self._still_since_s = 0.0
        self._still_readings = 0
        self._files: list[tuple[NumberFile, NumberFile | None]] = []
        self._busy: NumberFile | None = None
        self.find(chips)

    def find(self, chips: Mapping[Key, Path]) -> None:
        """Read from where the chips are now."""
        self.close()
        self.is_gone = any(channel.chip not in chips for channel in self.channels)
        if self.is_gone:
            return
        first = chips[self.channels[0].chip]
        self._pci = first / "device"
        self._files = []
        self._last_uj, self._removed_uj = None, 0  # a driver that is loaded again counts from 0
        for channel in self.channels:
            folder = chips[channel.chip]
            unit = "microwatts" if self._unit_uw == 1 else "milliwatts"
            unit = "microjoules" if self._is_counter else "millivolts" if channel.times else unit
            times = NumberFile(folder / channel.times, "milliamperes", signed=True) if channel.times else None
            self._files.append((NumberFile(folder / channel.file, unit), times))
        self._busy = NumberFile(first / self._busy_file, "percent") if self._busy_file else None

    def read(self, now_s: float) -> Reading | Failure:
        """The present reading. A GPU that the kernel has put to sleep is not read: that would wake it."""
        device_id = self.device.id
        if self.is_gone:
            return Failure(device_id, "missing", f"{self.channels[0].text}: the chip is not here any more")
        if self._is_card and is_asleep(self._pci):
            # In D3cold it has no power at all; of any other sleep nobody knows what it draws.
            is_off = self.device.component == "gpu" and text_of(self._pci / "power_state") == "D3cold"
            self._was_off |= is_off
            self._still_value = None
            return Reading(device_id, power_w=0.0 if is_off else None)
        try:
            value = self._value()
        except (OSError, ValueError) as error:
            is_away = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENODEV)
            self.is_gone = self.is_gone or is_away
            return Failure(device_id, reason_of(error), str(error))
        ratio = self._utilization_ratio()
        if self._is_counter:
            return Reading(device_id, self._counted_uj(value), None, None, ratio)
        still_s = self._still_s(now_s, value, ratio)
        if still_s:
            text = f"{self.channels[0].text} has been {value / 1e6:g} W for {still_s:.0f} s"
            return Failure(device_id, "still", f"{text}, to the last digit: its driver repeats an old value")
        return Reading(device_id, None, value / 1e6, None, ratio)

    def close(self) -> None:
        for value, times in self._files:
            value.close()
            if times is not None:
                times.close()
        if self._busy is not None:
            self._busy.close()

    def _utilization_ratio(self) -> float | None:
        try:
            return None if self._busy is None else self._busy.read() / 100.0
        except (OSError, ValueError):  # the power is known all the same
            return None

    def _value(self) -> int:
        """µJ, or µW: the sum over the channels."""
        total = 0
        for value, times in self._files:
            number = value.read()
            if number in _NOT_READ:
                raise ValueError(f"{self.channels[0].text}: {number} stands for a value that is not there")
            total += number * (self._unit_uw if times is None else times.read())
        if total < 0:
            raise ValueError(f"{self.channels[0].text}: {total / 1e6:g} W is below 0")
        return total

    def _counted_uj(self, value_uj: int) -> int:
        """The counter without what it did while the GPU was switched off: its register began anew then.

        i915 and xe add the register's difference, modulo its range, which is not what was drawn.
        """
        if self._was_off and self._last_uj is not None:
            self._removed_uj += value_uj - self._last_uj
        self._was_off = False
        self._last_uj = value_uj
        return value_uj - self._removed_uj

    def _still_s(self, now_s: float, value: int, ratio: float | None) -> float:
        """For how long the power has been the same to its last digit, if for too long; else 0."""
        if value != self._still_value:
            self._still_value, self._still_since_s, self._still_readings = value, now_s, 0
        self._still_readings += 1
        still_s = now_s - self._still_since_s
        is_coarse = value % WHOLE_WATT_UW == 0 or bool(self.channels[0].times) or self._unit_uw > 1
        may_stand = is_coarse or ratio == 0.0
        is_still = still_s >= STILL_S and self._still_readings >= STILL_READINGS
        return still_s if is_still and not may_stand else 0.0
