"""Shows a counter that is new to a scraper with two samples: 0 at the moment it began, and its value.

`increase()` counts from the first sample that a server has: a series that is first seen at 5000 J loses
those joules for good (Prometheus 2.42: 2050 J of 7000 J). A server stores both samples of one scrape, if each
has its time (Prometheus 2.42, 2.53, 3.5; VictoriaMetrics 1.79), so nothing is lost, also of what is scraped
only once. In all later scrapes there is one sample without a time: only such series get a stale marker.

Who is shown this, and what he has seen: `endpoint/scrapers.py`.
"""

from __future__ import annotations

import math
from contextvars import ContextVar

from carbonmon.core.model import Snapshot
from carbonmon.core.records import NamedTuple
from carbonmon_exporters.families import Counter

LEAST_GAP_S = 0.002
"""Between the two samples: servers store whole milliseconds."""

Key = tuple[str, ...]


class Seen(NamedTuple):
    """What a scraper has seen last: the clock of the snapshot (s), the Unix time of the answer (s), and those
    counters that may appear at any time."""

    clock_s: float
    at_s: float
    late: frozenset[Key]


class Starts:
    """Adds the samples of counters for one answer. `since_s`: what began then or later is new (clock, s)."""

    def __init__(
        self, snapshot: Snapshot, since_s: float, at_s: float = 0.0, seen: Seen | None = None
    ) -> None:
        """`at_s` is the Unix time of the answer; with `since_s` = inf all totals are plain."""
        self.since_s = since_s
        self.at_s = round(at_s, 3)
        self._offset_s = snapshot.at_s - snapshot.clock_s
        self._seen = seen
        self._late: set[Key] = set()

    @property
    def late(self) -> frozenset[Key]:
        """The counters of this answer that were added with `add_late`."""
        return frozenset(self._late)

    def add(self, family: Counter, labels: tuple[str, ...], value: float, start_s: float | None) -> None:
        """Add a counter that is shown ever since it began, at `start_s` on the clock (None: unknown)."""
        if start_s is not None and start_s >= self.since_s:
            self._add_both(family, labels, value, self._offset_s + start_s)
        else:
            family.rows.append((labels, value, None))

    def add_late(self, family: Counter, labels: tuple[str, ...], value: float, start_s: float | None) -> None:
        """Add a counter that is shown only when it has a value: it was 0 at the last answer without it."""
        key = (family.name, *labels)
        self._late.add(key)
        if self._seen is None:
            self.add(family, labels, value, start_s)
        elif key not in self._seen.late and not math.isinf(self.since_s):
            self._add_both(family, labels, value, self._seen.at_s)
        else:
            family.rows.append((labels, value, None))

    def _add_both(self, family: Counter, labels: tuple[str, ...], value: float, start_s: float) -> None:
        """`start_s` is Unix time. After a clock was set back a start may be ahead: it would be a reset."""
        if value and start_s <= self.at_s - LEAST_GAP_S:
            family.rows += [(labels, 0.0, round(start_s, 3)), (labels, value, self.at_s)]
        else:
            family.rows.append((labels, value, None))


def plain(snapshot: Snapshot) -> Starts:
    """For whoever is no scraper: totals as they stand."""
    return Starts(snapshot, math.inf)


class Scrape:
    """One answer to a scraper: from what it has seen, or how far to look back, to what it has seen then."""

    def __init__(self, seen: Seen | None, look_back_s: float, at_s: float) -> None:
        self._seen = seen
        self._look_back_s = look_back_s
        self._at_s = at_s
        self._starts: Starts | None = None
        self._clock_s = 0.0

    def starts(self, snapshot: Snapshot) -> Starts:
        seen = self._seen
        if seen is not None and seen.clock_s > snapshot.clock_s:
            seen = None  # of another boot: a run was resumed, and its old state is not shown any more
        if seen is None:
            since_s = snapshot.clock_s + (self._at_s - snapshot.at_s) - self._look_back_s
        else:
            since_s = seen.clock_s
        self._clock_s = snapshot.clock_s
        self._starts = Starts(snapshot, since_s, self._at_s, seen)
        return self._starts

    def end(self) -> Seen | None:
        """What the scraper has seen when it has this answer; None if no snapshot was asked for."""
        if self._starts is None:
            return None
        return Seen(self._clock_s, self._at_s, self._starts.late)


present: ContextVar[Scrape | None] = ContextVar("present", default=None)
"""The scrape that is answered in this thread, None for anybody else."""
