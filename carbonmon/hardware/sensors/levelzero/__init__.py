"""Intel's graphics cards through Level Zero Sysman, where the kernel's hwmon tells no energy of them.

Where there is no such card, nothing more is loaded than this.
"""

from __future__ import annotations

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.pci_devices import INTEL, drm_cards, is_in_package


def open_sensor(settings: SensorSettings) -> Sensor:
    """Open Sysman; raises `SensorUnavailable` where no card is left for it to read."""
    cards = {
        card.address: card
        for card in drm_cards(settings.sysfs)
        if card.vendor == INTEL and not is_in_package(card)
    }
    if not cards:
        raise SensorUnavailable(f"no graphics card of Intel is in {settings.sysfs / 'class' / 'drm'}")
    measured = {gpu for device in settings.known.values() if device.is_measured for gpu in device.gpu_ids}
    left = [address for address in cards if f"GPU-{address}" not in measured]
    if not left:
        each = "graphics card of Intel is" if len(cards) == 1 else "graphics cards of Intel are"
        raise SensorUnavailable(f"{len(cards)} {each} here, measured by another sensor")
    from carbonmon.hardware.sensors.levelzero.sensor import open_cards  # most machines have none of them

    return open_cards(settings, left)
