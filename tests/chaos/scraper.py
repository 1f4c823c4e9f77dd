"""A Prometheus of a few lines: scrapes at random moments, and evaluates `increase()` with its resets."""

from __future__ import annotations

import http.client
import itertools
import random
import threading
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support import command

HEADERS = {"User-Agent": "chaos"}
"""Without a time-out, the sign of a real scraper: the totals are plain."""
OWN = ("carbonmon_run_", "carbonmon_device_", "carbonmon_counter_")
"""Totals of the run and its devices, which go on across monitors; others are a process's own."""

Series = tuple[str, tuple[tuple[str, str], ...]]


class Scrape(NamedTuple):
    """The run's counters at one moment; `sampled_s` is the Unix time of the sample that they show."""

    counters: dict[Series, float]
    sampled_s: float | None


class Scraper:
    """Scrapes one address at random moments in a thread of its own, until `stop`."""

    def __init__(self, address: str, seed: int, longest_pause_s: float = 0.25) -> None:
        self._address = address
        self._random = random.Random(seed)
        self._pause_s = longest_pause_s
        self._end = threading.Event()
        self.scrapes: list[Scrape] = []
        self.refused = 0
        self._thread = threading.Thread(target=self._loop, name="chaos-scraper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(command.DEADLINE_S)

    def once(self) -> bool:
        """Scrape now; whether somebody answered in full."""
        try:
            text = command.get(self._address, **HEADERS)
        except (OSError, http.client.HTTPException):
            self.refused += 1
            return False
        self.scrapes.append(parse(text))
        return True

    def _loop(self) -> None:
        while not self._end.wait(self._random.uniform(0.01, self._pause_s)):
            self.once()


def parse(text: str) -> Scrape:
    counters: dict[Series, float] = {}
    sampled_s = None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "carbonmon_last_sample_timestamp_seconds":
                sampled_s = sample.value
            elif family.type == "counter" and sample.name.startswith(OWN):
                counters[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return Scrape(counters, sampled_s)


def increase(values: list[float]) -> float:
    """What Prometheus counts over one series: a value below the one before is a reset to 0."""
    return sum(after - before if after >= before else after for before, after in itertools.pairwise(values))


def by_series(scrapes: list[Scrape]) -> dict[Series, list[float]]:
    found: dict[Series, list[float]] = {}
    for scrape in scrapes:
        for series, value in scrape.counters.items():
            found.setdefault(series, []).append(value)
    return found


def steps_back(scrapes: list[Scrape]) -> list[str]:
    """Each fall of a series, in words."""
    return [
        f"{name}{dict(labels)}: {before:g} → {after:g}"
        for (name, labels), values in by_series(scrapes).items()
        for before, after in itertools.pairwise(values)
        if after < before
    ]


def total_increase(scrapes: list[Scrape], name: str) -> float:
    """Sum of `increase()` over all series of a name."""
    return sum(increase(values) for series, values in by_series(scrapes).items() if series[0] == name)
