"""A carbon intensity that the user states as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.core.ports import IntensityProvider, IntensitySettings


class FixedProvider:
    """The user's own figure in gCO2e/kWh, at any time; raises ConfigError for an impossible one."""

    def __init__(self, g_per_kwh: float) -> None:
        if not isfinite(g_per_kwh) or g_per_kwh < 0:
            raise ConfigError(
                f"a carbon intensity of {g_per_kwh:g} gCO2e/kWh is impossible: give a number of 0 or more, "
                "or name a place: --region FR"
            )
        self._intensity = Intensity(g_per_kwh, g_per_kwh, g_per_kwh, zone="", source="user", kind="fixed")

    def intensity_at(self, wall_s: float) -> Intensity:
        return self._intensity

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        return self._intensity

    def fetch_errors(self) -> Sequence[tuple[str, str, int]]:
        return ()

    def close(self) -> None:
        pass


def open_provider(settings: IntensitySettings) -> IntensityProvider:
    """The provider of the settings' figure; raises ConfigError if they hold none."""
    if settings.g_per_kwh is None:
        raise ConfigError(
            "no carbon intensity was given as a figure: give one in gCO2e/kWh, or name a place: --region FR"
        )
    return FixedProvider(settings.g_per_kwh)
