"""AWS's Trainium and Inferentia: percent of their maximum power, which the user states. An estimate.

Where there is no such device, nothing more is loaded than their list.
"""

from __future__ import annotations

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.hardware.neuron_devices import find_neuron_devices


def open_sensor(settings: SensorSettings) -> Sensor:
    """Open the devices below `settings.sysfs`.

    Raises `SensorUnavailable` where there are none, or where their power is not known.
    """
    devices = find_neuron_devices(settings.sysfs)
    if not devices:
        raise SensorUnavailable("no Trainium and no Inferentia is here")
    from carbonmon.hardware.sensors.neuron.sensor import NeuronSensor  # most machines have none of them

    return NeuronSensor(settings, devices)
