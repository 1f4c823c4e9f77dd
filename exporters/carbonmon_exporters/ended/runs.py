"""Which ended runs are still shown: each until its scrapers have come once more, at most for its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from prometheus_client.core import Metric

from carbonmon_exporters.ended import answer
from carbonmon_exporters.ended.scrapers import Connection


class Ended:
    """The last answer of one monitor: its runs, who has not seen it yet, and how long it is shown at most.

    `waited` is how many scrapers of each program are waited for, None where nobody knows who scrapes: then
    it is shown for all its time. `until_s` is on the clock of `EndedRuns`.
    """

    def __init__(
        self,
        run_ids: Iterable[str],
        families: Sequence[Metric],
        waited: Mapping[str, int] | None,
        until_s: float,
    ) -> None:
        self.run_ids = frozenset(run_ids)
        self.families = families
        self.until_s = until_s
        self._waited = None if waited is None else dict(waited)
        self._seen_by: WeakSet[Connection] = WeakSet()

    def came(self, program: str, connection: Connection) -> None:
        """A scraper was shown it; over one connection it counts once, however often it comes."""
        if self._waited is not None and connection not in self._seen_by:
            self._seen_by.add(connection)
            self._waited[program] = self._waited.get(program, 0) - 1

    @property
    def is_seen(self) -> bool:
        return self._waited is not None and all(count <= 0 for count in self._waited.values())

    def to_json(self, now_s: float) -> dict[str, Any]:
        return {
            "run_ids": sorted(self.run_ids),
            "families": answer.to_rows(self.families),
            "waited": self._waited,
            "left_s": self.until_s - now_s,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], now_s: float) -> Ended:
        """Raises KeyError, TypeError or ValueError for what `to_json` has not made."""
        waited = value["waited"]
        return cls(
            value["run_ids"],
            answer.from_rows(value["families"]),
            None if waited is None else {str(program): int(count) for program, count in waited.items()},
            now_s + float(value["left_s"]),
        )


class EndedRuns:
    """The ended runs that one process shows, the newest last. For any thread."""

    def __init__(self, ended: Iterable[Ended] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = list(ended)

    def take(self, ended: Iterable[Ended]) -> None:
        """Show these as well."""
        with self._lock:
            self._ended.extend(ended)

    def came(self, program: str, connection: Connection) -> None:
        """A scraper was answered."""
        with self._lock:
            for ended in self._ended:
                ended.came(program, connection)

    def shown(self, living: Collection[str] = ()) -> list[Ended]:
        """What is still shown; an ended run that goes on as one of the `living` is shown by these alone."""
        with self._lock:
            now_s = self._clock()
            self._ended = [
                ended
                for ended in self._ended
                if not ended.is_seen and now_s < ended.until_s and ended.run_ids.isdisjoint(living)
            ]
            return list(self._ended)

    def left_s(self) -> float:
        """Seconds until nothing is shown any more, 0 if that is so already."""
        shown = self.shown()
        now_s = self._clock()
        return max((ended.until_s - now_s for ended in shown), default=0.0)

    def to_json(self) -> list[dict[str, Any]]:
        shown = self.shown()
        now_s = self._clock()
        return [ended.to_json(now_s) for ended in shown]

    def read(self, values: Iterable[Mapping[str, Any]]) -> list[Ended]:
        """What `to_json` of another process made; raises KeyError, TypeError or ValueError."""
        now_s = self._clock()
        return [Ended.from_json(value, now_s) for value in values]
