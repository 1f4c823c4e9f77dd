"""When Prometheus scraped a run: from which targets, from when to when, and with which gaps.

The start time of a run, `carbonmon_run_start_time_seconds`, identifies its counters: a monitor that resumes a
run after a restart shows the old start time, one that begins again from zero a new one. So this one series of
each target is read sample by sample, in pieces of time that keep answers small, and only the spans with
samples are kept.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from math import ceil, inf
from statistics import median

from carbonmon.analysis.prometheus.client import Api, TooMuch
from carbonmon.analysis.prometheus.selectors import Target, of_run, span, target_of
from carbonmon.core.metrics import RUN_START
from carbonmon.core.times import LATEST_S

_log = logging.getLogger(__name__)

MOST_SAMPLES = 250_000
"""Of one answer: about 10 MB."""
SEARCH_STEPS = 120
"""The whole time is searched for samples in so many equal parts."""
GAP_INTERVALS = 3.0
"""A gap is longer than so many scrape intervals."""
LAST_SCRAPES = 10
"""So many of the last scrapes are kept."""

_SAME_START_S = 1e-3
"""Of one target: databases may round, and no run starts twice within a millisecond."""
SAME_TIME_S = 5e-4
"""Times of samples are in ms."""
_SHORTEST_S = 1.0
_SAFE_DELTAS = 8
"""With so many differences of times or more, their median is the interval."""


@dataclass
class TargetScrapes:
    """The scrapes of one target with one start time of the run; times are Unix times in s.

    `spans` are without gaps, `tail_s` are the last scrapes. `interval_s` is None before it is known.
    `rivals` are the scrapes of the same target with other start times, `narrower` the targets that have all
    labels of this one and more.
    """

    target: Target
    start_s: float
    scrapes: int = 0
    interval_s: float | None = None
    spans: list[tuple[float, float]] = field(default_factory=list)
    tail_s: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_SCRAPES))
    rivals: list[TargetScrapes] = field(default_factory=list, repr=False, compare=False)
    narrower: list[Target] = field(default_factory=list, repr=False, compare=False)

    @property
    def first_s(self) -> float:
        return self.spans[0][0]

    @property
    def last_s(self) -> float:
        return self.spans[-1][1]

    @property
    def step_s(self) -> float | None:
        """Seconds between two scrapes, also from the only two; None for a single one."""
        if self.interval_s is not None or len(self.tail_s) < 2:
            return self.interval_s
        return self.tail_s[-1] - self.tail_s[-2]

    def owns(self, at_s: float) -> bool:
        """Whether a sample of the target is of this start time: the scrape that is nearest in time decides.

        A sample need not be of a scrape's time: a new counter comes with times of its own (0 at its birth,
        and the value), and whoever merges two servers takes each series from the one or the other.
        """
        distance_s = self._distance_s(at_s)
        for rival in self.rivals:
            theirs_s = rival._distance_s(at_s)
            if theirs_s < distance_s or (theirs_s == distance_s and not self._has_scrape(at_s)):
                return False
        return True

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether a series that a selector of the target found is its own, and not of a narrower one."""
        return not any(set(other) <= labels.items() for other in self.narrower)

    def _distance_s(self, at_s: float) -> float:
        return min(max(begin_s - at_s, at_s - end_s, 0.0) for begin_s, end_s in self.spans)

    def _has_scrape(self, at_s: float) -> bool:
        return any(abs(at_s - scrape_s) < SAME_TIME_S for scrape_s in self.tail_s)

    def add(self, times_s: Sequence[float]) -> None:
        """Add scrapes in order, all after the earlier ones."""
        known = [self.last_s] if self.spans else []
        points = [*known, *times_s]
        deltas = [later - earlier for earlier, later in pairwise(points)]
        if len(deltas) >= _SAFE_DELTAS:
            self.interval_s = median(deltas)
        elif len(deltas) > 1 and self.interval_s is None:
            self.interval_s = min(deltas)
        if not self.spans:
            self.spans.append((points[0], points[0]))
        longest_s = inf if self.interval_s is None else GAP_INTERVALS * self.interval_s
        for earlier, later in pairwise(points):
            if later - earlier > longest_s:
                self.spans.append((later, later))
            else:
                self.spans[-1] = self.spans[-1][0], later
        self.scrapes += len(times_s)
        self.tail_s.extend(times_s)


def target_scrapes(api: Api, run_id: str, since_s: float, until_s: float) -> list[TargetScrapes]:
    """The scrapes of a run by target and start time between two Unix times, in order of appearance.

    Raises FetchError where the server does not answer.
    """
    found: dict[Target, list[TargetScrapes]] = {}
    seen_s: dict[Target, float] = {}
    starts = of_run(RUN_START.name, run_id)
    for begin_s, end_s, parts in _pieces(api, starts, since_s, until_s):
        step_s = (end_s - begin_s) / parts
        for part in range(parts):
            _read(api, starts, begin_s + part * step_s, begin_s + (part + 1) * step_s, found, seen_s)
    labels = {target: frozenset(target) for target in found}
    for target, of_target in found.items():
        narrower = [other for other in found if len(other) > len(target) and labels[target] < labels[other]]
        for scraped in of_target:
            scraped.rivals = [other for other in of_target if other is not scraped]
            scraped.narrower = narrower
    return [scraped for of_target in found.values() for scraped in of_target]


def _pieces(api: Api, starts: str, since_s: float, until_s: float) -> Iterator[tuple[float, float, int]]:
    """(begin, end, number of parts to split it into) of the times in which there are samples."""
    step_s = max(_SHORTEST_S, ceil((until_s - since_s) / SEARCH_STEPS))
    query = f"sum(count_over_time({starts}[{span(step_s)}]))"
    counts = {
        at_s: value
        for series in api.over(query, since_s + step_s, until_s, step_s)
        for at_s, value in zip(series.times_s, series.values, strict=True)
    }
    full = {at_s: count for at_s, count in counts.items() if count > 0}
    # The last step may end before the end of the time, and some servers shift all steps.
    full.setdefault(until_s, max(full.values(), default=1.0))
    done_s = since_s
    for at_s, count in sorted(full.items()):
        begin_s, end_s = max(done_s, at_s - step_s), min(at_s, until_s)
        if end_s > begin_s:
            yield begin_s, end_s, max(1, ceil(count / MOST_SAMPLES))
            done_s = end_s


def _read(
    api: Api,
    starts: str,
    begin_s: float,
    end_s: float,
    found: dict[Target, list[TargetScrapes]],
    seen_s: dict[Target, float],
) -> None:
    """Add the samples of a time; where there are too many for the server, half of it after half."""
    try:
        # Older versions of Prometheus take both ends of a range, newer ones the later one alone.
        answer = api.at(f"{starts}[{span(end_s - begin_s)}]", end_s)
    except TooMuch:
        if end_s - begin_s < 2 * _SHORTEST_S:
            raise
        middle_s = (begin_s + end_s) / 2
        _read(api, starts, begin_s, middle_s, found, seen_s)
        _read(api, starts, middle_s, end_s, found, seen_s)
        return
    _log.info("read %d series up to %.0f", len(answer), end_s)
    for series in answer:
        target = target_of(series.labels)
        after_s = seen_s.get(target, 0.0)
        samples = (
            (at_s, value) for at_s, value in zip(series.times_s, series.values, strict=True) if at_s > after_s
        )
        of_target = found.setdefault(target, [])
        for start_s, group in groupby(samples, key=lambda sample: sample[1]):
            if 0.0 < start_s < LATEST_S:  # NaN is not
                _scrapes_with_start(of_target, target, start_s).add([at_s for at_s, _ in group])
        seen_s[target] = max([after_s, *series.times_s[-1:]])
    for target in [target for target, of_target in found.items() if not of_target]:
        del found[target]


def _scrapes_with_start(of_target: list[TargetScrapes], target: Target, start_s: float) -> TargetScrapes:
    for scraped in of_target:
        if is_same_start(scraped.start_s, start_s):
            return scraped
    of_target.append(TargetScrapes(target, start_s))
    return of_target[-1]


def is_same_start(one_s: float, other_s: float) -> bool:
    """Whether two start times of one target are the same."""
    return abs(one_s - other_s) <= _SAME_START_S


def joined(spans: Iterable[tuple[float, float]], slack_s: float) -> list[tuple[float, float]]:
    """The union of spans, where gaps of at most `slack_s` are closed."""
    union: list[tuple[float, float]] = []
    for begin_s, end_s in sorted(spans):
        if union and begin_s - union[-1][1] <= slack_s:
            union[-1] = union[-1][0], max(union[-1][1], end_s)
        else:
            union.append((begin_s, end_s))
    return union
