"""Gaudi accelerators through HLML, by Habana's package `pyhlml`, which the machine's own Gaudi software has.

Where the kernel shows none, nothing more is loaded than this.
"""

from __future__ import annotations

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.pci_devices import folders

CLASSES = "accel", "habanalabs"
"""The kernel's classes in which Gaudi's driver lists them."""


def open_sensor(settings: SensorSettings) -> Sensor:
    """Open HLML; raises `SensorUnavailable` where no accelerator can be read by it."""
    if any(folders(settings.sysfs / "class" / name) for name in CLASSES):
        from carbonmon.hardware.gaudi_cards import list_gaudi_cards  # most machines have no accelerator

        cards = list_gaudi_cards(settings.sysfs)
        if cards:
            from carbonmon.hardware.sensors.gaudi.sensor import open_cards

            return open_cards(settings, cards)
    places = " or ".join(str(settings.sysfs / "class" / name) for name in CLASSES)
    raise SensorUnavailable(f"no Gaudi accelerator is in {places}")
