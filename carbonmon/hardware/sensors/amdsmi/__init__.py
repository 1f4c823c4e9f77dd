"""AMD's GPUs by the library of ROCm: the energy counter, power and utilisation of each card.

A machine without a GPU of AMD loads nothing for it.
"""

from __future__ import annotations

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.pci_devices import AMD, drm_cards


def open_sensor(settings: SensorSettings) -> Sensor:
    """Open ROCm's library; raises `SensorUnavailable` with the remedy where it cannot be used."""
    if not any(card.vendor == AMD for card in drm_cards(settings.sysfs)):
        raise SensorUnavailable("no GPU of AMD is here")
    from carbonmon.hardware.sensors.amdsmi.sensor import AmdsmiSensor  # most machines have no such GPU

    return AmdsmiSensor(settings)
