"""Watts of memory by its modules: those that the firmware lists, else as many as such a machine usually has.

Power goes with the number of modules and their traffic rather than with gigabytes: 2 TB in 16 modules of 128
GB draw twice what 128 GB in 16 modules of 8 GB draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from carbonmon.core.model import Spec, Uncertainty
from carbonmon.hardware.smbios import MemoryModule

GIB = 2**30

MODULE_W = 5.0
"""W of a module up to 64 GB: the rule of Crucial ("How much power does memory use?", 2024) and of CodeCarbon
3."""
LARGE_MODULE_W_PER_GB = 10.0 / 128.0
"""W/GB of modules above 64 GB: Micron's 128 GB DDR5-4800 RDIMM at some 10 W, its 256 GB module at 20 W
(shown at GTC 2024)."""
LPDDR_W = 1.5
"""W of soldered low-power memory, each listed device: CodeCarbon 3's figure for ARM machines."""
TYPICAL_W = (
    (0.0, 0.0),
    (8.0, 5.0),
    (16.0, 10.0),
    (64.0, 20.0),
    (256.0, 40.0),
    (1024.0, 80.0),
    (2048.0, 160.0),
)
"""(GB, W) of usual configurations: 1 × 8, 2 × 8, 4 × 16, 8 × 32, 16 × 64 and 16 × 128 GB; straight lines
between them."""

LOW_RATIO = 0.75
"""Downwards: a quarter of it, some 1.2 W for an idle module (adding 64 GB to an idle machine added under 1.5
W at the wall, GreenAlgorithms/green-algorithms-tool issue 14); CodeCarbon 3's least is above (70 W for 2
TB)."""
HIGH_RATIO = 1.0
"""Upwards, where the modules are known: twice it, 10 W for a module of 64 GB under full traffic."""
HIGH_W_PER_GB = 0.408
"""Upwards, where they are not: the largest of the published averages, Micron's calculator for DDR4 modules,
as in Cloud Carbon Footprint's methodology; Boavizta's 0.284 and the 0.3725 of Green Algorithms (Karyakin &
Salem 2017, doi:10.1145/3076113.3076117) are below."""
_SAME_RATIO = 0.9
"""The kernel keeps some per cent of the memory for itself: MemTotal is a little less than the modules."""
_RANGE = (
    "idle and busy modules: 1.2 to 10 W each; where they are not known, up to 0.408 W/GB (Micron), above "
    "Boavizta's 0.284 and Green Algorithms' 0.3725; CodeCarbon 3's 5 W a slot and less is within"
)


def memory_spec(total_bytes: int, modules: Sequence[MemoryModule] = ()) -> Spec:
    """Power in W of so much memory, taken as independent of load (hence a utilisation of 1).

    `modules` are those of the host. If there is clearly less memory than they have, as in a container whose
    /proc is its own, it is that part of their power.
    """
    gib = total_bytes / GIB
    installed_gib = sum(module.size_bytes for module in modules) / GIB
    if not modules or installed_gib < _SAME_RATIO * gib:
        power_w = typical_w(gib)
        high_w = max(power_w * (1.0 + HIGH_RATIO), HIGH_W_PER_GB * gib)
        what = f"{gib:.1f} GiB in a usual number of modules, {power_w:.3g} W"
    else:
        power_w = sum(map(module_w, modules))
        what = f"{len(modules)} modules, {installed_gib:.0f} GiB of {modules[0].kind}, {power_w:.3g} W"
        if gib < _SAME_RATIO * installed_gib:
            power_w *= gib / installed_gib
            what += f", {gib:.1f} GiB of it here: {power_w:.3g} W"
        high_w = power_w * (1.0 + HIGH_RATIO)
    source = f"{what} (5 W a module, Crucial and CodeCarbon 3; 10 W for 128 GB, Micron)"
    ratio = high_w / power_w - 1.0 if power_w else HIGH_RATIO
    uncertainty = Uncertainty(LOW_RATIO, ratio, _RANGE)
    return Spec(power_w, uncertainty, source, assumed_utilization_ratio=1.0)


def module_w(module: MemoryModule) -> float:
    """Power in W of one module."""
    if module.kind.startswith("LPDDR"):
        return LPDDR_W
    return max(MODULE_W, LARGE_MODULE_W_PER_GB * module.size_bytes / GIB)


def typical_w(gib: float) -> float:
    """Power in W of memory whose modules are unknown."""
    for (low_gib, low_w), (high_gib, high_w) in pairwise(TYPICAL_W):
        if gib <= high_gib:
            return low_w + (high_w - low_w) * (gib - low_gib) / (high_gib - low_gib)
    return gib * LARGE_MODULE_W_PER_GB
