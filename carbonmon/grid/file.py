"""Carbon intensity from a user's own file of figures over time."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.core.ports import IntensityProvider, IntensitySettings
from carbonmon.grid.chain import SourceChain, SourceFigures
from carbonmon.grid.default_intensity import region_or_world
from carbonmon.grid.timefile import read_timefile


class FileProvider:
    """The file's figures; in a gap the last one for 2 h, as `stale`, and then the annual figure."""

    def __init__(self, chain: SourceChain) -> None:
        self._chain = chain

    def intensity_at(self, wall_s: float) -> Intensity:
        return self._chain.at(wall_s).intensity

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        return self._chain.mean(start_s, end_s)

    def fetch_errors(self) -> Sequence[tuple[str, str, int]]:
        return ()

    def close(self) -> None:
        pass


def open_provider(settings: IntensitySettings) -> IntensityProvider:
    """The provider of the settings' file, read once; raises ConfigError for an invalid one."""
    if settings.file is None:
        raise ConfigError("no file of carbon intensities was given: give one, --intensity-file FILE")
    found = read_timefile(settings.file)
    region = region_or_world(settings.region)
    zone = found.zone or ("" if settings.region is None else region.zone)
    name = f"file {settings.file.name}"
    figures = SourceFigures(found.timeline, name, zone, found.basis)
    return FileProvider(SourceChain([figures], region.intensity, f"{name} has no figure for this time"))
