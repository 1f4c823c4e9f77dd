"""Shows every new counter series to each scraper at 0 once, so that no energy is lost to `increase()`.

Prometheus counts a counter's increase from its first sample on: a series that is first seen at 5000 J
loses those joules for good (measured with Prometheus 2.42: 2050 J reported of 7000 J). A scraper is
known by the header that Prometheus and vmagent send; everybody else, a person with curl say, sees the
plain totals. Nothing but this memory of who has seen what changes with a scrape.

A scraper that we do not know may be one that we knew: after an update it calls itself otherwise, in a
cluster it comes back from another address. A series that it has seen would step back, and count twice. To
whoever is new to us only what is young is shown at 0.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from carbonmon.core.model import Snapshot
from carbonmon.runs.summary.strings import encodable

SCRAPER_HEADER = "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"
MAX_SCRAPERS = 16
MAX_GONE_SERIES = 10_000
"""So many series that are shown no more are remembered for each scraper: runs come and go for ever."""

YOUNG_S = 120.0
"""As long as it may take until a new target is found (30 s) and looked at (a minute)."""

scraper: ContextVar[str | None] = ContextVar("scraper", default=None)
"""Who asks for the metrics in this thread: the address and program of a scraper, None for anybody else."""


class Births:
    """Remembers which counter series each scraper has been shown."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: OrderedDict[str, set[tuple[str, ...]]] = OrderedDict()
        self._lock = threading.Lock()
        self._clock = clock
        self._began_s = clock()

    def at_zero(self, families: Sequence[Metric], snapshot: Snapshot) -> None:
        """Set the counters that the present scraper has not seen yet to 0, in place.

        At its first look those are not new to it that are old, or whose totals began under another monitor.
        """
        who = scraper.get()
        if who is None:
            return
        with self._lock:
            old = frozenset[str]() if who in self._seen else self._old(snapshot)
            seen = self._seen.setdefault(who, set())
            self._seen.move_to_end(who)
            if len(self._seen) > MAX_SCRAPERS:
                self._seen.popitem(last=False)
            shown = 0
            for family in families:
                if family.type == "counter":
                    family.samples = [_born(sample, seen, old) for sample in family.samples]
                    shown += len(family.samples)
            if len(seen) > shown + MAX_GONE_SERIES:
                seen.intersection_update(_keys(families))

    def _old(self, snapshot: Snapshot) -> frozenset[str]:
        """The runs whose series a scraper may have seen that we do not know; "" for the monitor's own."""
        runs = {
            encodable(run.info.id)
            for run in snapshot.runs
            if snapshot.continued or snapshot.at_s - run.info.started_at_s > YOUNG_S
        }
        is_old = snapshot.continued or self._clock() - self._began_s > YOUNG_S
        return frozenset(runs | {""}) if is_old else frozenset(runs)


def _key(sample: Sample) -> tuple[str, ...]:
    return (sample.name, *sample.labels.values())


def _keys(families: Iterable[Metric]) -> Iterator[tuple[str, ...]]:
    return (_key(sample) for family in families if family.type == "counter" for sample in family.samples)


def _born(sample: Sample, seen: set[tuple[str, ...]], old: frozenset[str]) -> Sample:
    key = _key(sample)
    if key in seen:
        return sample
    seen.add(key)
    return sample if sample.labels.get("run_id", "") in old else sample._replace(value=0.0)
