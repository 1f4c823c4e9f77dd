"""The annual figure that is used where no current one is known: of the user's region, or of the world."""

from __future__ import annotations

from carbonmon.core.model import Intensity
from carbonmon.grid.annual import WORLD, Region, preferred_rows, table_intensity

_LOW_QUANTILE = 0.05
_HIGH_QUANTILE = 0.95


def region_or_world(region: str | None) -> Region:
    """The region that a user named, the world without one; raises ConfigError if there is no such place."""
    if region is not None:
        from carbonmon.grid.regions import resolve

        return resolve(region)
    intensity = world_default()
    return Region(WORLD, "World", intensity, note=intensity.note)


def world_default() -> Intensity:
    """The world's average, for users who gave no region.

    The range spans the 5th to the 95th percentile of the countries, each counted once: most places
    on Earth lie within.
    """
    world: Intensity | None = None
    countries: list[float] = []
    for row in preferred_rows():
        if row["zone"] == WORLD:
            world = table_intensity(row)
        elif row["zone_type"] == "country":
            countries.append(float(row["intensity_gco2eq_per_kwh"]))
    if world is None:
        raise LookupError(f"carbon_intensity.csv has no preferred row for {WORLD}")
    countries.sort()
    return world._replace(
        low_g_per_kwh=_quantile(countries, _LOW_QUANTILE),
        high_g_per_kwh=_quantile(countries, _HIGH_QUANTILE),
        note="no region was given: world average; the range spans the 5th to 95th percentile of countries",
    )


def _quantile(ordered: list[float], ratio: float) -> float:
    """The quantile by linear interpolation between the two nearest values."""
    position = ratio * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
