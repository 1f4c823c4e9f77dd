"""What the endpoint of a monitor answers: its metrics, the page, the ended runs of earlier monitors.

It is loaded when somebody asks for the first time, with the parts of prometheus_client that it uses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from prometheus_client.registry import CollectorRegistry

from carbonmon.core.model import Snapshot
from carbonmon.core.ports import ExporterSettings
from carbonmon_exporters.collector import OwnProcessCollector, SnapshotCollector, last_answer
from carbonmon_exporters.ended.runs import Ended, EndedRuns
from carbonmon_exporters.ended.visits import RecentScrapers
from carbonmon_exporters.endpoint.routes import Pages, Routes
from carbonmon_exporters.endpoint.scrapers import Scrapers
from carbonmon_exporters.exposition import metrics_app
from carbonmon_exporters.machine import MachineCollector

if TYPE_CHECKING:
    from carbonmon_exporters.page.answers import Page


class Answers:
    """`app` answers all requests of one monitor. `ended` are runs that earlier monitors left."""

    def __init__(
        self,
        latest: Callable[[], Snapshot],
        settings: ExporterSettings,
        wall_clock: Callable[[], float],
        ended: Iterable[Ended] = (),
    ) -> None:
        self._settings = settings
        self._scrapers = RecentScrapers()
        self._ended = EndedRuns(ended)
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(latest, scrapers=self._scrapers, ended=self._ended))
        registry.register(OwnProcessCollector(settings.procfs))
        registry.register(MachineCollector(settings.procfs))
        self.app = Routes(
            metrics_app(registry),
            lambda: latest().samples > 0,
            Scrapers(lambda: latest().continued, wall_clock),
            self._ended.came,
            self._pages(latest),
        )

    def left(self, final: Snapshot | None, has_target: bool) -> list[dict[str, Any]]:
        """The ended runs that somebody may not have seen yet, as the next process reads them."""
        ended = EndedRuns()
        ended.take(self._ended.shown())
        if final is not None and self._settings.served_s > 0.0 and (has_target or self._scrapers.recent()):
            until_s = time.monotonic() + self._settings.served_s
            ended.take([last_answer(final, self._scrapers, until_s)])
        return ended.to_json()

    def _pages(self, latest: Callable[[], Snapshot]) -> Pages:
        """The page and its JSON, which are loaded when somebody first looks."""

        @cache
        def page() -> Page:
            from carbonmon_exporters.page.answers import Page

            return Page(latest, self._settings.run_folders, self._settings.host or os.uname().nodename)

        return lambda path, query: page().answer(path, query)
