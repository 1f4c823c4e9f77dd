"""Carbon intensity from live sources, best first, with the annual figure as the last resort."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Intensity
from carbonmon.core.ports import GridSource, Http, IntensityProvider, IntensitySettings
from carbonmon.grid.cache import Cache, cache_folder
from carbonmon.grid.default_intensity import region_or_world
from carbonmon.grid.refresh import Refresher
from carbonmon.grid.regions import resolve
from carbonmon.grid.sources import open_sources, without_table


class LiveProvider:
    """The newest figures of the refresher, which the first call starts. No call waits."""

    def __init__(self, refresher: Refresher) -> None:
        self._refresher = refresher
        self._started = False

    def intensity_at(self, wall_s: float) -> Intensity:
        self._start()
        return self._refresher.chain.at(wall_s).intensity

    def mean_at(self, start_s: float, end_s: float) -> Intensity:
        self._start()
        return self._refresher.chain.mean(start_s, end_s)

    def fetch_errors(self) -> Sequence[tuple[str, str, int]]:
        return self._refresher.errors

    def close(self) -> None:
        self._refresher.close()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._refresher.start()


def open_provider(
    settings: IntensitySettings, http: Http | None = None, wall_s: Callable[[], float] = time.time
) -> IntensityProvider:
    """The provider of the settings' live sources; raises ConfigError for invalid ones.

    The cache of earlier runs is read now; requests are made later, in a thread of their own.
    """
    names = without_table(settings.grid)
    if settings.load_source is None or not settings.grid:
        raise ConfigError("no live source was named: name one, --grid uk, or leave --grid out")
    sources = open_sources(names, settings.region, settings.environ, settings.load_source)
    if http is None and sources:
        from carbonmon.grid.http import LiveHttp

        http = LiveHttp()
    cache = Cache(cache_folder(settings.environ))
    region = _region_of(sources) if settings.region is None else settings.region
    return LiveProvider(Refresher(sources, http, cache, wall_s, region_or_world(region).intensity))


def _region_of(sources: Sequence[GridSource]) -> str | None:
    """The zone that the user named with a source, `uk` or `electricitymaps:FR`, if the table has it."""
    for source in sources:
        try:
            if source.zone and resolve(source.zone).zone in (source.zone, f"DK-{source.zone}"):
                return source.zone
        except ConfigError:  # noqa: PERF203 (a handful of sources, once)
            continue
    return None
