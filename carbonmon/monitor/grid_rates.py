"""What a joule costs in carbon, water and money: the source of intensity, PUE, WUE and price in force."""

from __future__ import annotations

from carbonmon.core import footprint
from carbonmon.core.footprint import Overheads, Rates
from carbonmon.core.ports import IntensityProvider
from carbonmon.monitor.guard import GuardedIntensity

FetchErrors = tuple[tuple[str, str, int], ...]
"""What could not be fetched: the source, the reason, how often."""


class GridRates:
    """Owned by the sampling thread. `now` is what was in force at the newest `look`."""

    def __init__(self, provider: IntensityProvider, overheads: Overheads, wall_s: float) -> None:
        self._provider = GuardedIntensity(provider)
        self._earlier_errors: FetchErrors = ()
        self.overheads = overheads
        self.now = self.look(wall_s)

    def look(self, wall_s: float) -> Rates:
        """What a joule costs at a Unix time."""
        tariff = self.overheads.tariff
        price = None if tariff is None else tariff.at(wall_s)
        self.now = footprint.rates(self._provider.intensity_at(wall_s), self.overheads, price)
        return self.now

    def over(self, start_s: float, end_s: float) -> Rates:
        """What a joule costs in the mean over a stretch of Unix time."""
        tariff = self.overheads.tariff
        price = None if tariff is None else tariff.over(start_s, end_s)
        return footprint.rates(self._provider.mean_at(start_s, end_s), self.overheads, price)

    def replace(self, provider: IntensityProvider, overheads: Overheads, wall_s: float) -> GuardedIntensity:
        """Take another source of intensity, PUE, WUE and price from now on; returns the old source."""
        new, old = GuardedIntensity(provider), self._provider
        new.intensity_at(wall_s)  # if its very first question fails, the old one stays
        self._earlier_errors = _sum(self._earlier_errors, old.fetch_errors())
        self._provider, self.overheads = new, overheads
        self.look(wall_s)
        return old

    def fetch_errors(self) -> FetchErrors:
        """What could not be fetched, by the source in force and by those before it."""
        return _sum(self._earlier_errors, self._provider.fetch_errors())

    def close(self) -> None:
        """Let go of the source of intensity."""
        self._provider.close()


def _sum(first: FetchErrors, second: FetchErrors) -> FetchErrors:
    """The errors of two sources one after the other: a counter never steps back."""
    if not first:
        return second
    counts = {(source, reason): count for source, reason, count in first}
    for source, reason, count in second:
        counts[source, reason] = counts.get((source, reason), 0) + count
    return tuple([(*key, count) for key, count in counts.items()])
