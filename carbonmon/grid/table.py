"""Constant carbon intensity from the bundled table: of the user's region, or of the world without one."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.model import Intensity
from carbonmon.core.ports import IntensityProvider, IntensitySettings
from carbonmon.grid.annual import Region
from carbonmon.grid.default_intensity import region_or_world


class TableProvider:
    """The annual mean of one region, at any time."""

    def __init__(self, region: Region) -> None:
        self.region = region

    def intensity_at(self, wall_s: float) -> Intensity:
        return self.region.intensity

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        return self.region.intensity

    def fetch_errors(self) -> Sequence[tuple[str, str, int]]:
        return ()

    def close(self) -> None:
        pass


def open_provider(settings: IntensitySettings) -> IntensityProvider:
    """The provider of the settings' region; raises ConfigError if there is no such place."""
    return TableProvider(region_or_world(settings.region))
