"""The node meter `acpi`: the power meter that the machine's firmware offers to Linux (acpi_power_meter).

Its files lie on the ACPI device, which is `hwmonN/device`, on some kernels in hwmonN itself
(Linux, drivers/hwmon/acpi_power_meter.c; Documentation/hwmon/acpi_power_meter.rst): `power1_average` is the
mean power (µW) over `power1_average_interval` ms. The same driver serves batteries (`power1_is_battery`) and
the sockets of NVIDIA Grace (`power1_oem_info` "Module Power Socket 0"): neither is a meter of the node.
"""

from __future__ import annotations

import re
from pathlib import Path

from carbonmon.core.errors import SensorReadError, SensorUnavailable
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.patterns import pattern
from carbonmon.core.ports import NodeMeter, NodeMeterSettings
from carbonmon.hardware.node_meters.files import optional_text, whole_number

DRIVER = "power_meter"
POWER_FILE = "power1_average"
UW_PER_W = 1_000_000

_PART_OF_THE_NODE = pattern(r"\bSocket\b", re.IGNORECASE)


def open_meter(settings: NodeMeterSettings) -> NodeMeter:
    """The only power meter of the node, or that of the ACPI device which the argument names.

    Raises `SensorUnavailable` where there is none, or several without a word which of them is the node's.
    """
    hwmon = settings.sysfs / "class/hwmon"
    found = dict(_meters(hwmon))
    wanted = settings.argument
    if wanted in found:
        found = {wanted: found[wanted]}
    elif wanted or not found:
        which = f" {wanted}" if wanted else ""
        load = "sudo modprobe acpi_power_meter; it stays empty where the firmware has none"
        raise SensorUnavailable(
            f"the firmware offers no power meter{which} of the node",
            f"--node-meter acpi:{min(found)}" if found else load,
        )
    if len(found) > 1:
        raise SensorUnavailable(
            f"the firmware offers {len(found)} power meters, and none says that it is the whole node's",
            f"--node-meter acpi:{min(found)}, or another of {', '.join(sorted(found))}",
        )
    ((name, folder),) = found.items()
    return AcpiMeter(hwmon, name, folder)


class AcpiMeter:
    """Reads the mean power that the firmware tells; the call may take it a while.

    It is known by its ACPI device: the number in hwmonN is another one when the driver is loaded again.
    """

    name = "acpi"
    is_slow = True
    period_s = 1.0

    def __init__(self, hwmon: Path, device: str, folder: Path) -> None:
        self._hwmon, self._device, self._folder = hwmon, device, folder
        model = optional_text(folder / "power1_model_number")
        self._name = f"{device}{f', {model}' * bool(model)}"

    def read(self) -> NodeReading:
        """Raises `SensorReadError`."""
        try:
            return NodeReading(whole_number(self._folder / POWER_FILE) / UW_PER_W)
        except SensorReadError:
            folder = dict(_meters(self._hwmon)).get(self._device)
            if folder in (None, self._folder):
                raise
            self._folder = folder
        return NodeReading(whole_number(self._folder / POWER_FILE) / UW_PER_W)

    def describe(self) -> str:
        return f"ACPI power meter {self._name}: mean power"

    def close(self) -> None:
        pass


def _meters(hwmon: Path) -> list[tuple[str, Path]]:
    """(ACPI device, folder of its files) of each power meter that is no battery and no part of the node."""
    try:
        places = sorted(hwmon.iterdir())
    except OSError:
        return []
    found = []
    for place in places:
        if optional_text(place / "name") != DRIVER:
            continue
        device = place / "device"
        folder = device if (device / POWER_FILE).exists() else place
        if (
            (folder / POWER_FILE).exists()
            and optional_text(folder / "power1_is_battery") != "1"
            and not _PART_OF_THE_NODE.search(optional_text(folder / "power1_oem_info"))
        ):
            found.append((device.resolve().name if device.exists() else place.name, folder.resolve()))
    return found
