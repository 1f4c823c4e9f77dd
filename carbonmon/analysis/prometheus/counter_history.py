"""Groups the scrapes of several targets that belong to the counters of one monitor's run.

A monitor that resumes a run, on the old port or on another one, shows the same start time: its counters
continue, and the last value counts, whatever the names of its targets. Every other start time is another
counter that began at zero, and is added. Two nodes may begin within the same microsecond, so targets with one
start time at one time are the same monitor only if their hosts, GPUs or totals agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from carbonmon.analysis.prometheus.client import Api, Series
from carbonmon.analysis.prometheus.scan import GAP_INTERVALS, LAST_SCRAPES, TargetScrapes, joined
from carbonmon.analysis.prometheus.selectors import (
    host_of,
    instance_of,
    of_run,
    own_labels,
    span,
)
from carbonmon.core.metrics import RUN_ENERGY
from carbonmon.net.address import is_loopback

_EQUAL = 1e-9
_ROUNDED_S = 1e-5
"""Of two targets: VictoriaMetrics stores the floats of a block as decimals, and a start time comes back up to
2 µs off from one block and not from another (measured, 1.79.5)."""
_SAME_LOOK_RATIO = 0.5
"""Samples are of one scrape that are less than this part of a scrape interval apart."""
_MAX_DECREASES_RATIO = 0.25
"""Of the steps between the merged scrapes of two scrapers: if they read one monitor, the totals decrease once
at most, where one of them is shown zeros; if they read two, at every other step."""


@dataclass(frozen=True)
class CounterHistory:
    """The scrapes of several targets whose totals are one counter, in the order of their first scrapes."""

    target_scrapes: tuple[TargetScrapes, ...]

    @property
    def start_s(self) -> float:
        return self.target_scrapes[0].start_s

    @property
    def last(self) -> TargetScrapes:
        """The one that was scraped last."""
        return max(self.target_scrapes, key=lambda scraped: scraped.last_s)

    @property
    def last_ones(self) -> list[TargetScrapes]:
        """The last one and those beside it, whose totals may be newer, as a killed monitor's file is older.

        The totals of the last one include those of all that had ended before it began.
        """
        begin_s = self.last.first_s
        return [scraped for scraped in self.target_scrapes if scraped.last_s >= begin_s]

    @property
    def instance(self) -> str:
        return instance_of(self.last.target)

    @property
    def first_s(self) -> float:
        return self.target_scrapes[0].first_s

    @property
    def last_s(self) -> float:
        return self.last.last_s

    @property
    def scrapes(self) -> int:
        return sum(scraped.scrapes for scraped in self.target_scrapes)

    @property
    def interval_s(self) -> float | None:
        """Seconds between two scrapes: the longest interval of its targets."""
        known = [scraped.interval_s for scraped in self.target_scrapes if scraped.interval_s is not None]
        return max(known, default=None)

    @property
    def step_s(self) -> float | None:
        """The same, of the last one alone where nothing better is known; None for a single scrape."""
        return self.interval_s or self.last.step_s

    def gaps(self, end_s: float | None) -> list[tuple[float, float]]:
        """The times between its first and its last scrape, or its end, in which it was not scraped."""
        slack_s = GAP_INTERVALS * (self.interval_s or 0.0)
        spans = joined((span for scraped in self.target_scrapes for span in scraped.spans), slack_s)
        gaps = [(earlier[1], later[0]) for earlier, later in pairwise(spans)]
        if end_s is None:
            return gaps
        return [(begin_s, min(until_s, end_s)) for begin_s, until_s in gaps if begin_s < end_s]


def counter_histories(
    target_scrapes: Iterable[TargetScrapes], is_same: Callable[[TargetScrapes, TargetScrapes], bool]
) -> list[CounterHistory]:
    """The scrapes grouped by counter, in the order of start times; `is_same` decides where times overlap.

    One of a group stands for all: a monitor may be scraped under many names.
    """
    groups: list[list[TargetScrapes]] = []
    for scraped in sorted(target_scrapes, key=lambda scraped: scraped.first_s):
        for group in groups:
            if abs(group[0].start_s - scraped.start_s) > _ROUNDED_S:
                continue
            beside = next((other for other in group if _overlap(other, scraped)), None)
            if beside is None or is_same(beside, scraped):
                group.append(scraped)
                break
        else:
            groups.append([scraped])
    histories = [CounterHistory(tuple(group)) for group in groups]
    return sorted(histories, key=lambda history: history.start_s)


def _overlap(one: TargetScrapes, other: TargetScrapes) -> bool:
    return max(one.first_s, other.first_s) <= min(one.last_s, other.last_s)


class SameMonitorCheck:
    """Whether two targets with the same start time at the same time are the same monitor.

    Two servers may scrape it, or one of them under two names; its file or gateway may be scraped beside it.
    """

    def __init__(self, api: Api, run_id: str) -> None:
        self._api = api
        self._run_id = run_id

    def __call__(self, one: TargetScrapes, other: TargetScrapes) -> bool:
        at_s = min(one.last_s, other.last_s)
        intervals_s = [scraped.interval_s or 0.0 for scraped in (one, other)]
        window_s = LAST_SCRAPES * max(*intervals_s, 1.0)
        # As far into the past as into the future, so that both have samples on both sides.
        series = [self._series(scraped, at_s + window_s / 2, window_s) for scraped in (one, other)]
        gpus = [_gpus(found, scraped) for found, scraped in zip(series, (one, other), strict=True)]
        if all(gpus):
            return bool(gpus[0] & gpus[1])
        hosts = {host_of(instance_of(scraped.target)) for scraped in (one, other)}
        if len(hosts) == 1 and not is_loopback(*hosts):
            return True
        looks_s = [_SAME_LOOK_RATIO * interval_s for interval_s in intervals_s]
        return _is_one_count([_sums(found, look_s) for found, look_s in zip(series, looks_s, strict=True)])

    def _series(self, scraped: TargetScrapes, end_s: float, window_s: float) -> list[Series]:
        query = f"{of_run(RUN_ENERGY.name, self._run_id, scraped.target)}[{span(window_s)}]"
        return [series for series in self._api.at(query, end_s) if scraped.has(series.labels)]


def _gpus(series: Sequence[Series], scraped: TargetScrapes) -> set[str]:
    labels = [own_labels(found.labels, scraped.target) for found in series]
    return {found.get("device", "") for found in labels if found.get("component") == "gpu"}


def _sums(series: Sequence[Series], look_s: float) -> dict[float, float]:
    """The joules of each scrape, without a scraper's first one, which may have zeros.

    New counters have times of their own, so that a series counts with its last value, and what comes within
    `look_s` seconds is of one scrape.
    """
    found = sorted(
        (at_s, number, value)
        for number, each in enumerate(series)
        for at_s, value in zip(each.times_s, each.values, strict=True)
        if value > 0.0  # NaN is not
    )
    joules: dict[int, float] = {}
    sums: dict[float, float] = {}
    last_s = -inf
    for at_s, number, value in found:
        joules[number] = value
        if at_s - last_s < look_s:
            sums.pop(last_s, None)
        sums[at_s] = sum(joules.values())
        last_s = at_s
    return sums


def _is_one_count(sums: Sequence[dict[float, float]]) -> bool:
    """Whether the totals of two scrapers, in the order of their times, almost never decrease."""
    merged = sorted((at_s, joules) for each in sums for at_s, joules in each.items())
    steps = list(pairwise(merged))
    decreases = sum(1 for earlier, later in steps if later[1] < earlier[1] * (1 - _EQUAL))
    return decreases <= _MAX_DECREASES_RATIO * len(steps)
