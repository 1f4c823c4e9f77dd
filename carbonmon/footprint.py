"""From joules to grams: charges energy with the intensity that was in force while it was drawn; pure."""

from __future__ import annotations

from carbonmon.model import JOULES_PER_KWH, Intensity


def grams_per_joule(intensity: Intensity, pue_ratio: float) -> tuple[float, float, float]:
    """gCO2e for each joule of a device: the figure, and the low and high end of the intensity's range.

    E[kWh] × PUE × intensity[g/kWh], the location-based method of the GHG Protocol's Scope 2 guidance
    applied to the energy of the data centre. The PUE (facility energy over device energy) is 1 unless
    the user gave another.
    """
    factor = pue_ratio / JOULES_PER_KWH
    return (
        intensity.g_per_kwh * factor,
        intensity.low_g_per_kwh * factor,
        intensity.high_g_per_kwh * factor,
    )
