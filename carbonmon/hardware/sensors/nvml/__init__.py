"""NVIDIA GPUs through NVML: the energy counter, the power sensor, utilisation and power limit.

The meaning of NVML's figures: docs/use/accuracy.md. The counter is read at most once a second, because boards
that are read more often under-report (arXiv 2312.02741). Where there is no counter, the driver's own
buffer of power samples keeps the sensor's resolution at longer intervals; where there is one, that buffer
says when the joules of the last second were drawn, if the GPU was read in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.ports import SensorSettings
from carbonmon.hardware import nvml_library
from carbonmon.hardware.nvml_errors import LIBRARY_NOT_FOUND, REMEDIES

if TYPE_CHECKING:
    from carbonmon.hardware.sensors.nvml.sensor import NvmlSensor


def open_sensor(settings: SensorSettings) -> NvmlSensor:
    """Open NVML; raises `SensorUnavailable` with the remedy where it cannot be used."""
    if not nvml_library.is_here():
        raise SensorUnavailable(nvml_library.NOT_FOUND, REMEDIES[LIBRARY_NOT_FOUND])
    import pynvml

    from carbonmon.hardware.sensors.nvml.sensor import NvmlSensor

    try:
        pynvml.nvmlInit()
        return NvmlSensor(pynvml, settings)
    except pynvml.NVMLError as error:
        raise SensorUnavailable(f"NVML: {error}", REMEDIES.get(error.value, "nvidia-smi")) from None
