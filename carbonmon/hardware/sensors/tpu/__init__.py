"""Google's TPUs: a published or stated power × the duty cycle that the TPU's runtime tells. An estimate.

No TPU tells its power. Where there is no chip, nothing more is loaded than the list of chips.
"""

from __future__ import annotations

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.tpu_chips import find_tpu_chips


def open_sensor(settings: SensorSettings) -> Sensor:
    """Open the chips below `settings.sysfs`.

    Raises `SensorUnavailable` where there are none, or where their power is not known.
    """
    chips = find_tpu_chips(settings.sysfs)
    if not chips:
        raise SensorUnavailable("no TPU that is known here (v2 to v6e, 7x) is on the PCI bus")
    from carbonmon.hardware.sensors.tpu.sensor import TpuSensor  # most machines have no TPU

    return TpuSensor(settings, chips)
