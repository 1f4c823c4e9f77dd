"""The sampling interval at which no counter can wrap unseen."""

from __future__ import annotations

from collections.abc import Mapping

from carbonmon.core import energy
from carbonmon.core.model import Device

WRAP_MARGIN = 0.5
"""A counter that wraps is read at least twice in the shortest time in which it could wrap."""


def safe_interval_s(interval_s: float, devices: Mapping[str, Device]) -> tuple[float, str]:
    """The interval (s) at which no counter can wrap unseen, and a note if it is shorter than asked for."""
    note = ""
    for device in devices.values():
        if device.counter_range_uj and device.max_power_w:
            wrap_s = device.counter_range_uj / energy.UJ_PER_J / device.max_power_w * WRAP_MARGIN
            if wrap_s < interval_s:
                interval_s = wrap_s
                note = f"sampling every {wrap_s:.3g} s: the counter of {device.id} could wrap unseen"
    return interval_s, note
