"""GPUs, CPUs and boards whose drivers tell power or energy through hwmon, by the table of chips.

Where no chip of the table is here, nothing more is loaded than the table.
"""

from __future__ import annotations

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.sensors.hwmon.chips import find_chips
from carbonmon.hardware.sensors.hwmon.table import CHIPS


def open_sensor(settings: SensorSettings) -> Sensor:
    """Open the chips below `settings.sysfs`; raises `SensorUnavailable` where none of them measures power."""
    chips = find_chips(settings.sysfs, CHIPS)
    if not chips:
        root = settings.sysfs / "class" / "hwmon"
        raise SensorUnavailable(
            f"no chip under {root} that tells power or energy and is known here ({', '.join(sorted(CHIPS))})"
        )
    from carbonmon.hardware.sensors.hwmon.sensor import HwmonSensor  # most machines have no such chip

    return HwmonSensor(settings, chips)
