"""Which ended runs are still shown: each until its scrapers have come once more, at most for its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from prometheus_client.metrics_core import Metric

from carbonmon_exporters.ended import answer
from carbonmon_exporters.ended.visits import Recent, Visit
from carbonmon_exporters.endpoint.request import Connection

LOOK_BACK_S = 3300.0
"""A scraper of an unknown program is shown counters with their start that began up to so long ago."""


class Ended:
    """The last answer of one monitor: its runs, who has not seen it yet, and how long it is shown at most.

    `waited` are the scrapers that are waited for, by program; without any it is shown for all its time: then
    nobody knows who scrapes. `until_s` is on the clock of `EndedRuns`. Until `text_seen_s` (Unix time)
    everything was shown to somebody in the text format.
    """

    def __init__(
        self,
        run_ids: Iterable[str],
        families: Sequence[Metric],
        waited: Mapping[str, Recent],
        until_s: float,
        text_seen_s: float | None = None,
    ) -> None:
        self.run_ids = frozenset(run_ids)
        self.until_s = until_s
        self._families = families
        self._waited = dict(waited)
        self._left = {program: known.scrapers for program, known in waited.items()}
        self._seen_by: WeakSet[Connection] = WeakSet()
        self._counted: WeakSet[Connection] = WeakSet()
        self._half_seen_by: WeakSet[Connection] = WeakSet()
        self._text_seen_s = text_seen_s

    def families(self, visit: Visit | None, *, only_runs: bool) -> list[Metric]:
        """What a scraper is shown, or anybody else (None): a counter that is new to it with its start."""
        families = answer.of_runs(self._families) if only_runs else self._families
        if visit is None or visit.connection in self._seen_by:
            return answer.shown(families, float("inf"), 0.0)
        found = answer.shown(families, self._seen_s(visit), round(visit.at_s, 3))
        if visit.is_text and any(
            len(new.samples) > len(old.samples) for new, old in zip(found, families, strict=True)
        ):
            self._half_seen_by.add(visit.connection)
        return found

    def _seen_s(self, visit: Visit) -> float:
        """Until when a scraper has seen everything (Unix time)."""
        if visit.is_text:
            # There are servers that ignore the times in it, to which a second 0 would be a reset.
            return visit.at_s - LOOK_BACK_S if self._text_seen_s is None else self._text_seen_s
        known = self._waited.get(visit.program)
        return visit.at_s - LOOK_BACK_S if known is None else known.seen_s

    def wait_for(self, others: Mapping[str, int]) -> None:
        """Wait for so many scrapers of its programs, where others say that there are more."""
        for program, known in self._waited.items():
            more = others.get(program, 0) - known.scrapers
            if more > 0:
                self._waited[program] = known._replace(scrapers=known.scrapers + more)
                self._left[program] += more

    def came(self, visit: Visit) -> None:
        """A scraper was shown it; over one connection it counts once, however often it comes.

        Who was shown a start in the text format is waited for once more. To a server that ignores the times
        in it, 0 and the value are of one moment: half of such series end with the 0 (VictoriaMetrics 1.112,
        1.145), unless the value comes a second time.
        """
        if visit.connection in self._half_seen_by:
            self._half_seen_by.discard(visit.connection)
        elif visit.program in self._left and visit.connection not in self._counted:
            self._counted.add(visit.connection)
            self._left[visit.program] -= 1
        self._seen_by.add(visit.connection)
        if visit.is_text:
            self._text_seen_s = visit.at_s

    @property
    def waited(self) -> dict[str, int]:
        """How many scrapers of each program are or were waited for."""
        return {program: known.scrapers for program, known in self._waited.items()}

    @property
    def is_seen(self) -> bool:
        return bool(self._left) and all(count <= 0 for count in self._left.values())

    def to_json(self, now_s: float) -> dict[str, Any]:
        """For the next process: it does not know the connections here, so all of a program's come again."""
        return {
            "run_ids": sorted(self.run_ids),
            "families": answer.to_rows(self._families),
            "waited": {name: known for name, known in self._waited.items() if self._left[name] > 0},
            "left_s": self.until_s - now_s,
            "text_seen_s": self._text_seen_s,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], now_s: float) -> Ended:
        """Raises KeyError, TypeError or ValueError for what `to_json` has not made."""
        waited = {
            str(program): Recent(int(scrapers), float(seen_s))
            for program, (scrapers, seen_s) in value["waited"].items()
        }
        families, text_seen_s = answer.from_rows(value["families"]), value["text_seen_s"]
        return cls(value["run_ids"], families, waited, now_s + float(value["left_s"]), text_seen_s)


class EndedRuns:
    """The ended runs that one process shows, the newest last. For any thread."""

    def __init__(self, ended: Iterable[Ended] = (), clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = list(ended)

    def take(self, ended: Iterable[Ended]) -> None:
        """Show these as well.

        Where a program has two scrapers, an earlier run may know of both, a later one of the first that came:
        nobody can tell which of them comes next, so all are waited for.
        """
        with self._lock:
            self._ended.extend(ended)
            most: dict[str, int] = {}
            for each in self._ended:
                for program, count in each.waited.items():
                    most[program] = max(most.get(program, 0), count)
            for each in self._ended:
                each.wait_for(most)

    def came(self, visit: Visit) -> None:
        """A scraper was answered."""
        with self._lock:
            for ended in self._ended:
                ended.came(visit)

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
