"""The life of each run in a monitor: planned, living, ended, written, gone. It has no other owner."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from carbonmon.core.footprint import Rates
from carbonmon.core.model import RunState
from carbonmon.core.node_meter import NodeEnergy
from carbonmon.core.ports import Roots
from carbonmon.monitor.meanwhile import NodeTotals
from carbonmon.monitor.outlook import Outlook
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.run_attribution import RunAttribution

log = logging.getLogger(__name__)

MAX_ENDED = 200
"""Runs that have ended are shown, the newest of them: each has some ten series for each device."""

UNWRITTEN_S = 120.0
"""How long a run that has ended is kept for a disk that fails, at least."""


class RunLifetimes:
    """A run is *planned* when its folder is taken, *living* while it is charged with what it causes, *ended*
    while it is still shown: until it is *written* and `retain_s` seconds have passed. Then it is gone.

    `plan` is for any thread, everything else for the sampling thread. `folders` are those of all runs that
    are not gone; exporters hold on to it.
    """

    def __init__(
        self, attribution: RunAttribution, folders: dict[str, Path] | None = None, retain_s: float = 0.0
    ) -> None:
        self.attribution = attribution
        self.folders = {} if folders is None else folders
        self.retain_s = retain_s
        self._planned: set[str] = set()
        self._ended: dict[str, RunAccount] = {}
        self._unwritten: set[str] = set()

    @property
    def living(self) -> Mapping[str, RunAccount]:
        """The runs that are charged; other threads read single runs of it, the sampling thread changes it."""
        return self.attribution.runs

    def plan(self, run_id: str, folder: Path) -> None:
        """A run is about to begin, and has its folder. For any thread."""
        self._planned.add(run_id)
        self.folders[run_id] = folder

    def begin(self, run: RunAccount, roots: Roots | None, start_s: float, node: NodeTotals) -> None:
        """Charge to a run what it causes from `start_s` on, which is a moment ago."""
        run.begin(start_s, node)
        self._live(run.info.id)
        self.attribution.add(run, roots)

    def resume(self, run: RunAccount, roots: Roots | None, before: RunState, same_boot: bool) -> None:
        """Go on with a run of an earlier monitor, whose totals `run` has already."""
        self._live(run.info.id)
        self.attribution.resume(run, roots, before.resume_point if same_boot else None)

    def stop(self, run_id: str, at_s: float, wall_s: float) -> None:
        """A run's time ends at a moment, by both clocks; the run lives until a sample has told its energy."""
        self.attribution.stop(run_id, at_s, wall_s)

    def stop_all(self, at_s: float, wall_s: float) -> None:
        """The same for every run."""
        for run_id in list(self.living):
            self.stop(run_id, at_s, wall_s)

    def end(
        self,
        run_id: str,
        now_s: float,
        wall_s: float,
        exit_code: int | None,
        signal: int | None,
        node: NodeTotals,
    ) -> bool:
        """End a run, which stays in the snapshots for a while; False if there is no such one."""
        run = self.attribution.remove(run_id)
        if run is None:
            return False
        run.end(now_s, wall_s, exit_code, signal, node)
        self._ended[run_id] = run
        self._unwritten.add(run_id)
        return True

    def written(self, run_id: str) -> None:
        """A run that has ended is written: it may go when it has been shown for long enough."""
        self._unwritten.discard(run_id)

    def meter_grew(self, grown: NodeEnergy, start_s: float, end_s: float) -> None:
        """A node meter has measured some time: what is not of a run's time is none of its envelope."""
        for run in self.living.values():
            outside = 1.0 - run.span.ratio_of(start_s, end_s)
            if outside:
                run.meanwhile.leave_out_of_meter(grown, outside)

    def look_ahead(self, now_s: float, wall_s: float, rates: Rates) -> None:
        """See what is to come of each run that has budgets or a forecast, by what it has spent."""
        for run in self.living.values():
            if not run.outlook.is_wanted:
                continue
            try:
                until_s = run.span.within(now_s)
                run.outlook.look(until_s, wall_s, run.spent(until_s, rates))
            except Exception:  # our own bug: what the run draws is counted all the same
                log.exception("run %s: no forecast and no budgets any more", run.info.id)
                run.outlook = Outlook()

    def drop_old(self, now_s: float) -> None:
        """Let go of the runs that were shown for long enough; the oldest first where there are too many."""
        for run_id, run in list(self._ended.items()):
            least_s = UNWRITTEN_S if run_id in self._unwritten else 0.0
            if now_s - run.span.until_s > max(self.retain_s, least_s):
                self._drop(run_id)
        written = [run_id for run_id in self._ended if run_id not in self._unwritten]
        for run_id in written[: max(0, len(self._ended) - MAX_ENDED)]:
            self._drop(run_id)

    def states(self, now_s: float, node: NodeTotals) -> tuple[RunState, ...]:
        """Every run that is shown, the living ones first."""
        points = self.attribution.resume_points()
        living = [
            run.state(now_s, node)._replace(resume_point=points.get(run_id))
            for run_id, run in self.living.items()
        ]
        return (*living, *[run.state(now_s, node) for run in self._ended.values()])

    def _live(self, run_id: str) -> None:
        self._planned.discard(run_id)
        self._ended.pop(run_id, None)  # a run that begins again under its id is shown once

    def _drop(self, run_id: str) -> None:
        del self._ended[run_id]
        self._unwritten.discard(run_id)
        if run_id not in self._planned and run_id not in self.living:
            self.folders.pop(run_id, None)
