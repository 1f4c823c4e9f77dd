"""The three readings of a GPU that gives all of them, by three calls into the library and nothing else.

The binding makes some eight Python calls and four objects for the same (nvidia-ml-py 13): with eight GPUs
that is most of what a tick costs. What is not plain success is left to the binding, which knows the errors.
"""

from __future__ import annotations

import ctypes
from typing import Any


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t (nvml.h), in % of the driver's last sample period."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class PlainRead:
    """Reads the GPU of a handle, for one thread at a time.

    Raises AttributeError where `nvml` has loaded no library, or one that lacks one of the functions.
    """

    __slots__ = ("_calls", "_energy", "_handle", "_power", "_utilization")

    def __init__(self, nvml: Any, handle: Any) -> None:
        library = nvml.nvmlLib
        self._handle = handle
        self._energy = ctypes.c_ulonglong()  # mJ since the driver was loaded
        self._power = ctypes.c_uint()  # mW
        self._utilization = _Utilization()
        self._calls = (
            (library.nvmlDeviceGetTotalEnergyConsumption, ctypes.byref(self._energy)),
            (library.nvmlDeviceGetPowerUsage, ctypes.byref(self._power)),
            (library.nvmlDeviceGetUtilizationRates, ctypes.byref(self._utilization)),
        )

    def read(self) -> tuple[int, float, float] | None:
        """Its counter in µJ, its power in W, its utilisation from 0 to 1; None if one is not given."""
        handle = self._handle
        for call, answer in self._calls:
            if call(handle, answer):
                return None
        return self._energy.value * 1000, self._power.value / 1000.0, self._utilization.gpu / 100.0
