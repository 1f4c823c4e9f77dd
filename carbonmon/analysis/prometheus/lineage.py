"""Which stretches are the totals of one monitor's run, that went on from one to the next.

A monitor that goes on with a run, on the old port or on another one, shows the same start: its counters go on
as well, and the last value counts, whatever the names of its targets. Every other start is another count
that began at zero, and is added. Two nodes may begin within the same microsecond, so targets that show
one start at one time are the same only if their hosts, GPUs or totals say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from carbonmon.analysis.prometheus.client import Api, Series
from carbonmon.analysis.prometheus.scan import HOLE_INTERVALS, TAIL, Stretch, joined
from carbonmon.analysis.prometheus.selectors import (
    host_of,
    instance_of,
    is_loopback,
    of_run,
    own_labels,
    span,
)
from carbonmon.core.metrics import RUN_ENERGY

_EQUAL = 1e-9
_MOST_FALLS = 0.25
"""Of the steps between the scrapes of two scrapers in turn: one that sees a new series at 0 falls once, two
nodes fall at every other step."""


@dataclass(frozen=True)
class Lineage:
    """Stretches whose totals are one count, in the order of their first scrapes."""

    stretches: tuple[Stretch, ...]

    @property
    def start_s(self) -> float:
        return self.stretches[0].start_s

    @property
    def last(self) -> Stretch:
        """The one that was scraped last: its totals hold those of all others."""
        return max(self.stretches, key=lambda stretch: stretch.last_s)

    @property
    def instance(self) -> str:
        return instance_of(self.last.target)

    @property
    def first_s(self) -> float:
        return self.stretches[0].first_s

    @property
    def last_s(self) -> float:
        return self.last.last_s

    @property
    def scrapes(self) -> int:
        return sum(stretch.scrapes for stretch in self.stretches)

    @property
    def interval_s(self) -> float | None:
        """Seconds between two scrapes, the longest of what its targets have."""
        known = [stretch.interval_s for stretch in self.stretches if stretch.interval_s is not None]
        return max(known, default=None)

    def gaps(self, end_s: float | None) -> list[tuple[float, float]]:
        """The times between its first and its last scrape, or its end, in which nobody scraped it."""
        slack_s = HOLE_INTERVALS * (self.interval_s or 0.0)
        spans = joined((span for stretch in self.stretches for span in stretch.spans), slack_s)
        gaps = [(earlier[1], later[0]) for earlier, later in pairwise(spans)]
        if end_s is None:
            return gaps
        return [(begin_s, min(until_s, end_s)) for begin_s, until_s in gaps if begin_s < end_s]


def lineages(stretches: Iterable[Stretch], is_same: Callable[[Stretch, Stretch], bool]) -> list[Lineage]:
    """The stretches of each count, in the order of their starts; `is_same` decides where times overlap."""
    groups: list[list[Stretch]] = []
    for stretch in sorted(stretches, key=lambda stretch: (stretch.start_s, stretch.first_s)):
        for group in groups:
            if group[0].start_s == stretch.start_s and all(
                is_same(other, stretch) for other in group if _overlap(other, stretch)
            ):
                group.append(stretch)
                break
        else:
            groups.append([stretch])
    return [Lineage(tuple(group)) for group in groups]


def _overlap(one: Stretch, other: Stretch) -> bool:
    return max(one.first_s, other.first_s) <= min(one.last_s, other.last_s)


class Comparison:
    """Whether two targets that show the same start at the same time are the same monitor.

    Two servers may scrape it, or one of them under two names; its file or gateway may be scraped beside it.
    """

    def __init__(self, api: Api, run_id: str) -> None:
        self._api = api
        self._run_id = run_id

    def __call__(self, one: Stretch, other: Stretch) -> bool:
        at_s = min(one.last_s, other.last_s)
        intervals_s = [stretch.interval_s or 0.0 for stretch in (one, other)]
        window_s = TAIL * max(*intervals_s, 1.0)
        # As far into the past as into the future, so that both have samples on both sides.
        series = [self._series(stretch, at_s + window_s / 2, window_s) for stretch in (one, other)]
        gpus = [_gpus(found, stretch) for found, stretch in zip(series, (one, other), strict=True)]
        if all(gpus):
            return bool(gpus[0] & gpus[1])
        hosts = {host_of(instance_of(stretch.target)) for stretch in (one, other)}
        if len(hosts) == 1 and not is_loopback(*hosts):
            return True
        return _is_one_count([_sums(found) for found in series])

    def _series(self, stretch: Stretch, end_s: float, window_s: float) -> list[Series]:
        query = f"{of_run(RUN_ENERGY.name, self._run_id, stretch.target)}[{span(window_s)}]"
        return self._api.at(query, end_s)


def _gpus(series: Sequence[Series], stretch: Stretch) -> set[str]:
    labels = [own_labels(found.labels, stretch.target) for found in series]
    return {found.get("device", "") for found in labels if found.get("component") == "gpu"}


def _sums(series: Sequence[Series]) -> dict[float, float]:
    """The joules of each scrape, but of a scraper's first one, which is shown zeros."""
    sums: dict[float, float] = {}
    for found in series:
        for at_s, value in zip(found.times_s, found.values, strict=True):
            sums[at_s] = sums.get(at_s, 0.0) + value
    return {at_s: joules for at_s, joules in sums.items() if joules > 0.0}


def _is_one_count(sums: Sequence[dict[float, float]]) -> bool:
    """Whether the totals of two scrapers, in the order of their times, hardly ever fall."""
    merged = sorted((at_s, joules) for each in sums for at_s, joules in each.items())
    steps = list(pairwise(merged))
    falls = sum(1 for earlier, later in steps if later[1] < earlier[1] * (1 - _EQUAL))
    return falls <= _MOST_FALLS * len(steps)
