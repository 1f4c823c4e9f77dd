"""Shows every new counter series to each scraper at 0 once, so that no energy is lost to `increase()`.

Prometheus counts a counter's increase from its first sample on: a series that is first seen at 5000 J
loses those joules for good (measured with Prometheus 2.42: 2050 J reported of 7000 J). A scraper is
known by the header that Prometheus and vmagent send; everybody else, a person with curl say, sees the
plain totals. Nothing but this memory of who has seen what changes with a scrape.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

SCRAPER_HEADER = "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS"
MAX_SCRAPERS = 16
MAX_GONE_SERIES = 10_000
"""So many series that are shown no more are remembered for each scraper: runs come and go for ever."""

scraper: ContextVar[str | None] = ContextVar("scraper", default=None)
"""Who asks for the metrics in this thread: the address and program of a scraper, None for anybody else."""


class Births:
    """Remembers which counter series each scraper has been shown."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, set[tuple[str, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def at_zero(self, families: Sequence[Metric], continued: bool) -> None:
        """Set the counters that the present scraper has not seen yet to 0, in place.

        `continued`: the totals began under an earlier monitor, which the scraper saw: at its first look
        nothing is new, and a 0 would make its series step back.
        """
        who = scraper.get()
        if who is None:
            return
        with self._lock:
            known = continued and who not in self._seen
            seen = self._seen.setdefault(who, set())
            self._seen.move_to_end(who)
            if len(self._seen) > MAX_SCRAPERS:
                self._seen.popitem(last=False)
            shown = 0
            for family in families:
                if family.type == "counter":
                    family.samples = [_born(sample, seen, known) for sample in family.samples]
                    shown += len(family.samples)
            if len(seen) > shown + MAX_GONE_SERIES:
                seen.intersection_update(_keys(families))


def _key(sample: Sample) -> tuple[str, ...]:
    return (sample.name, *sample.labels.values())


def _keys(families: Iterable[Metric]) -> Iterator[tuple[str, ...]]:
    return (_key(sample) for family in families if family.type == "counter" for sample in family.samples)


def _born(sample: Sample, seen: set[tuple[str, ...]], known: bool) -> Sample:
    key = _key(sample)
    if key in seen:
        return sample
    seen.add(key)
    return sample if known else sample._replace(value=0.0)
