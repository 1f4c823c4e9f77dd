"""Writes the runs' folders beside the sampling, in a thread of its own: a slow or full disk delays nothing.

Every few seconds the newest snapshot becomes each run's checkpoint, what was drawn meanwhile becomes
rows of its `series.jsonl`, and each exporter may show a running result. What fails is counted, logged once
per change of state, and written with the next checkpoint that succeeds, which holds everything.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from carbonmon.core.files import DISK_FAULTS
from carbonmon.core.model import Snapshot
from carbonmon.core.ports import Clock
from carbonmon.core.records import NamedTuple
from carbonmon.monitor.clock import Alarm
from carbonmon.monitor.guard import Guard, GuardedExporter
from carbonmon.monitor.snapshots import Snapshots
from carbonmon.runs.series_rows import Parts
from carbonmon.runs.writer import RunFiles

if TYPE_CHECKING:
    from carbonmon.runs.node_checkpoint import NodeCheckpoint

log = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 60.0
"""How long the end of a run waits for a disk that hangs."""

CLOSE_TIMEOUT_S = 1.0
"""How long the release of the lock waits for a write that goes on."""

FIRST_TIMEOUT_S = 2.0
"""How long the job's start waits for the first checkpoint."""

STALE_PERIODS, STALE_S = 3, 15.0
"""After so many checkpoint periods, and at least so many seconds, without a success the newest snapshot is
shown instead of the last one that is safe on disk."""

FRESH_TIMEOUT_S = 5.0
"""How long a checkpoint that is due waits for the next tick; then it holds the newest snapshot there is."""


class _Ending(NamedTuple):
    """A run that is to be written for the last time: since when, and what is called then or when it fails."""

    done: Callable[[], object]
    since_s: float
    refused: Callable[[], object] | None


class Recorder:
    """Writes what the sampler publishes into the folders of the runs that it was given."""

    def __init__(
        self,
        clock: Clock,
        exporters: Sequence[GuardedExporter],
        snapshots: Snapshots,
        guard: Guard,
        period_s: float = 5.0,
        before: Snapshot | None = None,
        together: NodeCheckpoint | None = None,
    ) -> None:
        """`guard` counts the failures to write. `before` is the checkpoint that a resumed run goes on from,
        shown until the next one is safe. `together` is where the state of all runs at one moment is kept;
        without it all are written where one begins or ends."""
        self._clock = clock
        self._exporters = exporters
        self._snapshots = snapshots
        self.guard = guard
        self.period_s = period_s
        self._together = together
        self._files: dict[str, RunFiles] = {}
        self._ending: dict[str, _Ending] = {}
        self._written: set[str] = set()
        self._refused: set[str] = set()
        self._lock = threading.Lock()
        self._safe = before
        self._safe_s = clock.now_s()
        self._shown: Snapshot | None = None
        self._final: Snapshot | None = None
        self._first = threading.Event()
        self._stop = Alarm()
        self._abandoned = False
        self._thread = self._new_thread()

    def add(self, run_id: str, files: RunFiles) -> None:
        """Write this run as well, from the next checkpoint on; for any thread."""
        with self._lock:
            self._files[run_id] = files

    def parts(self, run_id: str) -> Parts | None:
        """Where the sampling thread puts what a run draws; None for a run that is not written."""
        with self._lock:
            files = self._files.get(run_id)
        return None if files is None else files.parts

    def hurry(self) -> None:
        """Write soon what was never written; for any thread. Before `start` all is written at the start."""
        if self._thread.ident is not None:
            self._stop.wake()

    def end(
        self, run_id: str, done: Callable[[], object], refused: Callable[[], object] | None = None
    ) -> None:
        """Write a run that has ended for the last time, soon; then call `done`. For any thread.

        A disk that fails is waited for, but not for ever; `refused` is called when it has failed once.
        """
        with self._lock:
            self._ending[run_id] = _Ending(done, self._clock.now_s(), refused)
        self._stop.wake()

    def start(self) -> None:
        """Begin to write, and return when the first checkpoint is there or the disk is slow."""
        self._safe_s = self._clock.now_s()
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("no checkpoints: %s", error)
        else:
            self._first.wait(FIRST_TIMEOUT_S)

    def give_up_thread(self) -> None:
        """End the thread: somebody else needs its place. `finish` writes everything."""
        self.abandon()
        if not self._thread.is_alive():
            self._abandoned, self._stop, self._thread = False, Alarm(), self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._loop, name="carbonmon-recorder", daemon=True)

    def shown(self) -> Snapshot:
        """The snapshot that exporters show: the newest that is safe on disk.

        A total that was shown and then lost with a killed monitor would make its series step back, which
        Prometheus takes for a reset and counts a second time. If the disk fails for long, liveness wins.
        """
        is_safe = self._clock.now_s() - self._safe_s < max(STALE_S, STALE_PERIODS * self.period_s)
        newest = self._safe if is_safe and self._safe is not None else self._snapshots.latest
        if self._shown is not None and self._shown.samples > newest.samples:
            return self._shown
        self._shown = newest
        return newest

    def finish(self, final: Snapshot) -> bool:
        """Write the last checkpoint and let the exporters finish; False if the disk hangs."""
        self._final = final
        self._stop.set()
        if self._thread.ident is None:  # there was no thread to be had: nothing was written until now
            self._loop()
        else:
            self._thread.join(FINISH_TIMEOUT_S)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Stop writing."""
        self._abandoned = True
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(FINISH_TIMEOUT_S)

    def close(self) -> None:
        """Release the locks; the kernel does the same if this process is killed."""
        self._abandoned = True
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_S)
        if not self._thread.is_alive():
            for files in self._files.values():
                files.close()

    def _loop(self) -> None:
        snapshot = self._final or self._snapshots.latest
        due, due_s = True, self._clock.now_s()
        while not self._abandoned:
            self.guard.attempt("cannot write", partial(self.write, snapshot, due))
            for exporter in self._exporters:
                if snapshot is self._final:
                    exporter.finish(snapshot)
                else:
                    exporter.checkpoint(snapshot)
            self._first.set()
            self._release()
            if snapshot is self._final:
                return
            if due:
                due_s = self._clock.now_s() + self._pause_s(snapshot)
                self._snapshots.want(due_s, self._stop.wake)
            # A run whose end cannot be written is tried again, and no more often than the others.
            stopped = self._stop.wait(due_s + FRESH_TIMEOUT_S - self._clock.now_s())
            # A run that begins or ends is in the newest snapshot: it was made for it.
            snapshot = self._final or self._snapshots.latest
            is_late = self._clock.now_s() >= due_s + FRESH_TIMEOUT_S
            due = stopped or is_late or snapshot is self._final or snapshot.clock_s >= due_s
            if due:
                self._snapshots.want(math.inf)

    def _pause_s(self, snapshot: Snapshot) -> float:
        """How long to sleep, so that the next snapshot is one period after the one that was written."""
        age_s = self._clock.now_s() - snapshot.clock_s
        pause_s = self.period_s - 0.5 * snapshot.interval_s - age_s
        return min(max(0.1 * self.period_s, pause_s), self.period_s)

    def write(self, snapshot: Snapshot, due: bool = True) -> None:
        """Write a checkpoint of every run. Raises the first OSError, after all were tried.

        When it is not `due`, only runs that begin or end are written, once all are safe together: a monitor
        that is killed then leaves no joule in two runs, and none in no run. So where the disk has no room for
        all together, several runs wait for it: one whose own file takes no more room would get ahead of the
        others. Their ends wait for half of the time in which an end is given up.
        """
        now_s = self._clock.now_s()
        with self._lock:
            files = dict(self._files)
            ending = dict(self._ending)
        trouble: OSError | None = None
        safe: frozenset[str] = frozenset()
        # Before the first sample, where a driver hangs, the snapshot knows nothing of the monitor before:
        # what that one left must not be replaced by it.
        if self._together is not None and snapshot.samples:
            try:
                safe = self._together.write(snapshot, {run_id: own.folder for run_id, own in files.items()})
            except OSError as error:
                trouble = error
                if error.errno in DISK_FAULTS and len(files) > 1:
                    self._refused.update(ending)
                    overdue_s = now_s - 0.5 * FINISH_TIMEOUT_S
                    files = {
                        run_id: own
                        for run_id, own in files.items()
                        if run_id in ending and ending[run_id].since_s <= overdue_s
                    }
        if not due:
            files = {
                run_id: own
                for run_id, own in files.items()
                if own.is_new or run_id in ending or run_id not in safe
            }
        for run in snapshot.runs:
            own = files.get(run.info.id)
            if own is not None:
                try:
                    own.write(snapshot, run, now_s, snapshot is self._final)
                    if run.ended_at_s is not None:
                        self._written.add(run.info.id)
                except OSError as error:
                    trouble = trouble or error
                    if run.ended_at_s is not None:
                        self._refused.add(run.info.id)
        if trouble is not None:
            raise trouble
        self._safe, self._safe_s = snapshot, now_s

    def _release(self) -> None:
        """Let go of runs that were written for the last time, or that no disk will take."""
        with self._lock:
            ending = dict(self._ending)
        for run_id, end in ending.items():
            is_written = run_id in self._written
            if not is_written and self._clock.now_s() - end.since_s < FINISH_TIMEOUT_S:
                if run_id in self._refused and end.refused is not None:
                    with self._lock:
                        self._ending[run_id] = end._replace(refused=None)
                    self.guard.attempt("cannot report", end.refused)
                continue
            if not is_written:
                log.warning("the end of run %s could not be written", run_id)
            self._written.discard(run_id)
            self._refused.discard(run_id)
            with self._lock:
                del self._ending[run_id]
                files = self._files.pop(run_id, None)
            if files is not None:
                files.close()
            self.guard.attempt("cannot report", end.done)
