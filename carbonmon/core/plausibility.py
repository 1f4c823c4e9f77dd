"""The gate for every quantity of a sensor: what a device cannot do is rejected, counted, never credited.

Each rejected quantity becomes unknown, so that the next method stands in. The bounds are the device's own.
"""

from __future__ import annotations

import math

from carbonmon.core.model import Component, Device, Reading
from carbonmon.core.records import NamedTuple

GPU_LIMIT_FACTOR = 2.0
"""A GPU's power may reach twice its board's maximum limit: firmware lets short peaks pass, and a GH200's
energy counter holds the whole module, about 1.4 times the GPU's limit."""

PACKAGE_TDP_FACTOR, PACKAGE_LIMIT_FACTOR = 5.0, 1.5
"""A package's power over a second, against its TDP (a 65 W desktop part may draw 220 W for seconds: Intel's
turbo power) and against the highest limit that powercap states."""

PACKAGE_UNKNOWN_W = 1000.0
"""A package of unknown TDP: twice the largest TDP on sale (500 W: EPYC 9965, Xeon 6980P data sheets)."""

DRAM_UNKNOWN_W = 500.0
"""Above what the memory of one socket draws: 24 modules of 256 GB at about 15 W are 360 W."""

UNKNOWN_W = 6000.0
"""Any other device that states nothing: twice the largest accelerator module on sale (GB200, 2700 W)."""

LARGEST_GPU_LIMIT_W, LARGEST_LIMIT_TO_TDP = 3000.0, 4.0
"""No board has a higher power limit, as a figure and against its TDP; NVML says 0xFFFFFFFF mW for «not
available» (4,294,967 W)."""

WORKING_RATIO = 0.05
"""From this utilisation on, or this part of its bound by its own power sensor, a device certainly works."""


LEAST_RANGE_UJ = 10**9
"""A counter that wraps holds more than 1 kJ: RAPL's have 32 bits of 15 to 61 µJ, 65 to 262 kJ (Intel SDM)."""


class Rejected(NamedTuple):
    """A quantity of a reading that is not believed: its name, its value, and what it should have been."""

    quantity: str
    value: float
    expected: str


def bound_w(component: Component, limit_w: float | None, tdp_w: float | None) -> float:
    """The power (W) above which nothing of a device is believed.

    `limit_w` is the highest limit that the hardware states, `tdp_w` the specification's; None if unknown.
    """
    if component == "cpu":
        found = [PACKAGE_TDP_FACTOR * (tdp_w or 0.0), PACKAGE_LIMIT_FACTOR * (limit_w or 0.0)]
        return max(found) or PACKAGE_UNKNOWN_W
    if component == "dram":
        return DRAM_UNKNOWN_W
    return GPU_LIMIT_FACTOR * (limit_w or tdp_w or 0.0) or UNKNOWN_W


def believed_limit_w(limit_w: float | None, tdp_w: float | None) -> float | None:
    """A GPU's power limit (W) if a board can have it, else None."""
    largest_w = LARGEST_GPU_LIMIT_W
    if tdp_w is not None:
        largest_w = min(largest_w, LARGEST_LIMIT_TO_TDP * tdp_w)
    return limit_w if limit_w is not None and 0.0 < limit_w <= largest_w else None


def believed_range_uj(range_uj: int | None) -> int | None:
    """The largest value of a counter if a counter can have it, else None: then no wrap can be calculated."""
    return range_uj if range_uj is not None and range_uj >= LEAST_RANGE_UJ else None


def is_plain(device: Device, reading: Reading) -> bool:
    """Whether a reading needs no `check`, as nearly each one."""
    _, _, power_w, trace, ratio, shape = reading
    return (
        (power_w is None or 0.0 < power_w <= (device.max_power_w or UNKNOWN_W))
        and (ratio is None or 0.0 <= ratio <= 1.0)
        and trace is None
        and shape is None
    )


def check(device: Device, reading: Reading) -> tuple[Reading, tuple[Rejected, ...]]:
    """The reading with what is not believed made unknown, and what that was."""
    _, _, power_w, trace, ratio, shape = reading
    most_w = device.max_power_w or UNKNOWN_W
    rejected = []
    if ratio is not None and not 0.0 <= ratio <= 1.0:
        rejected.append(Rejected("utilization", ratio, "0 to 1"))
        ratio = None
    least_w = 0.0
    if ratio is not None and ratio >= WORKING_RATIO:
        least_w = math.ulp(0.0)  # a device that works draws power: 0 W is a sensor that stands still
    expected = f"{'more than ' if least_w else ''}0 to {most_w:g} W"
    if power_w is not None and not least_w <= power_w <= most_w:
        rejected.append(Rejected("power", power_w, expected))
        power_w = None
    if trace is not None:
        worst_w = _worst(trace, least_w, most_w)
        if worst_w is not None:
            rejected.append(Rejected("power sample", worst_w, expected))
            trace = None
    if shape is not None and _worst(shape, 0.0, most_w) is not None:
        shape = None  # it says only when energy was drawn, and is credited by no one
    return Reading(reading.device_id, reading.energy_uj, power_w, trace, ratio, shape), tuple(rejected)


def is_working(device: Device, reading: Reading) -> bool:
    """Whether a device certainly draws power now, so that a counter that stands still is not believed.

    A CPU package, memory and a module that run always do; a GPU may be switched off while nobody uses it.
    """
    if device.component != "gpu":
        return True
    if reading.utilization_ratio is not None and reading.utilization_ratio >= WORKING_RATIO:
        return True
    return reading.power_w is not None and reading.power_w >= WORKING_RATIO * (device.max_power_w or math.inf)


def _worst(samples: tuple[tuple[float, float], ...], least_w: float, most_w: float) -> float | None:
    """The first sample's power that is out of bounds; None if all are within. Zeros count if all are 0."""
    if least_w and samples and all(power_w == 0.0 for _, power_w in samples):
        return 0.0
    return next((power_w for _, power_w in samples if not 0.0 <= power_w <= most_w), None)
