"""Quantities out of what the package's calls return: units, and values that stand for "not available"; pure.

Each release marks what is not there in its own way: the text N/A, all bits of 16, 32 or 64. Numbers may
become text with a unit. What is not certainly a quantity is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.records import NamedTuple

_ABSENT = frozenset((0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))

UNIT_UJ = 1e6 / 2**16
"""The counter's unit is 2⁻¹⁶ J, 15.259 µJ (Linux, drivers/gpu/drm/amd/include/kgd_pp_interface.h,
gpu_metrics: "Energy (15.259uJ (2^-16) units)")."""

ROUNDED_UNIT_UJ = 15.3
"""What the library says of it, 0.27 % too much."""

_LARGEST_UNIT_UJ = 1e6


class Energy(NamedTuple):
    """The counter's value, the unit as the library states it (µJ), and the driver's time of it (ns)."""

    value: int
    unit_uj: float
    at_ns: int | None

    @property
    def energy_uj(self) -> int:
        is_rounded = abs(self.unit_uj - ROUNDED_UNIT_UJ) < 0.001
        return round(self.value * (UNIT_UJ if is_rounded else self.unit_uj))


class Power(NamedTuple):
    """Power in W; `is_average`: the mean of some time before, else that of the moment."""

    power_w: float
    is_average: bool


def number(value: Any) -> float | None:
    """A figure that is there, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return None if value in _ABSENT or not 0 <= value < float("inf") else value


def energy(told: Any) -> Energy | None:
    """The energy counter by amdsmi_get_energy_count; None where there is none."""
    value = number(_entry(told, "energy_accumulator"))
    if value is None:
        value = number(_entry(told, "power"))  # its name in ROCm 6.2
    unit_uj = number(_entry(told, "counter_resolution"))
    if value is None or not unit_uj or unit_uj > _LARGEST_UNIT_UJ:
        return None
    at_ns = number(_entry(told, "timestamp"))
    return Energy(int(value), unit_uj, None if at_ns is None else int(at_ns))


def power(told: Any) -> Power | None:
    """The power by amdsmi_get_power_info: the average where the board has one, else that of the moment.

    One of several that are there is 0 where the board does not have it.
    """
    figures = [
        (number(_entry(told, key)), key == "average_socket_power")
        for key in ("average_socket_power", "current_socket_power", "socket_power")
    ]
    known = [Power(float(figure), is_average) for figure, is_average in figures if figure is not None]
    return next((each for each in known if each.power_w), known[0] if known else None)


def limits_w(told: Any) -> list[float]:
    """The power limits (W) by amdsmi_get_power_cap_info, which tells µW."""
    figures = [number(_entry(told, key)) for key in ("power_cap", "max_power_cap")]
    return [figure / 1e6 for figure in figures if figure]


def utilization_ratio(told: Any) -> float | None:
    """How busy the graphics and compute engine is (0 to 1), by amdsmi_get_gpu_activity."""
    percent = number(_entry(told, "gfx_activity"))
    return None if percent is None else percent / 100.0


def _entry(told: Any, key: str) -> Any:
    return told.get(key) if isinstance(told, Mapping) else None
