"""Acts on budgets that are reached, and counts the other runs of the day. A thread of its own: neither a
command of the user's nor a disk delays a sample.

A stop asks training code (`run.should_stop`). Where none has asked `STOP_ASK_S` after a budget was reached,
the job gets SIGTERM. It is never killed unless `--on-budget signal:KILL` was given.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
from functools import partial
from queue import Empty, SimpleQueue

from carbonmon.core.budget_watch import BudgetWatch, day_of
from carbonmon.core.budgets import Action, BudgetState, reached_text
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs.day import DayCount
from carbonmon.service import job

log = logging.getLogger(__name__)

STOP_ASK_S = 30.0
"""How long training code has to ask whether it is to stop, before the job gets SIGTERM."""

NOTIFY_S, LAST_NOTIFY_S = 30.0, 5.0
"""How long a command may take; and when the job has ended, how long its exit waits for it."""

RECOUNT_S = 30.0
"""How often the other runs of the day are counted: so far behind may a budget of a day be."""


def check_command(action: Action) -> None:
    """Raise `ConfigError` if the command that is to be called is not there."""
    if action.kind != "notify":
        return
    import shutil

    if shutil.which(action.command[0]) is None:
        raise ConfigError(
            f"--on-budget: there is no command {action.command[0]!r:.100}; give one of PATH, or a path"
        )


class BudgetActions:
    """The budgets of the run of `carbonmon run`. `reached` is called in the sampling thread."""

    def __init__(
        self, config: Config, monitor: Monitor, plan: RunPlan, workload: job.Command | job.Attached
    ) -> None:
        self._monitor, self._run_id, self._workload = monitor, plan.info.id, workload
        self._is_resumed = plan.before is not None
        self._action = config.on_budget
        wall_s = monitor.clock.wall_s()
        self.watch = BudgetWatch(config.budgets, config.on_budget, config.by, wall_s)
        self._queue: SimpleQueue[BudgetState | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._act, name="carbonmon-budgets", daemon=True)
        self._is_over = False
        self._signal_s = math.inf
        self._counted_s = -math.inf
        self._days = None
        if self.watch.has_days:
            self._days = DayCount(config.output, plan.folder, config.currency or "")
            self._day_s = day_of(wall_s)
            own = self._days.own_before(self._day_s) if self._is_resumed else None
            self.watch.others(self._day_s, self._days.others(self._day_s), own)

    def start(self) -> None:
        """Watch from the run's next sample on."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("budgets are not acted upon: %s", error)
            return
        self._monitor.watch_budgets(self._run_id, self.watch, self.reached)

    def reached(self, run: RunAccount, state: BudgetState) -> None:
        """A budget was just reached: note it, and have the thread act."""
        text = reached_text(state, self._is_resumed and self.watch.was_reached(state))
        if text not in run.notes:
            run.notes = (*run.notes, text)
        self._queue.put(state)

    def job_ended(self) -> None:
        """From now on nobody can be asked or sent a signal; the last sample may still reach a budget."""
        self._is_over = True

    def close(self) -> None:
        """The last sample is taken: act on what it has reached, and end."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._workload.helpers.wait(self._thread, LAST_NOTIFY_S)

    # ---- in the thread ----

    def _act(self) -> None:
        try:
            while True:
                try:
                    state = self._queue.get(timeout=self._pause_s())
                except Empty:
                    self._look()
                    continue
                if state is None:
                    return
                self._act_on(state)
        except Exception:  # our own bug: the job goes on, metered
            log.exception("budgets are not acted upon any more, by a fault of carbonmon's own")

    def _pause_s(self) -> float | None:
        now_s = self._monitor.clock.now_s()
        due_s = self._signal_s if self._days is None else min(self._signal_s, self._counted_s + RECOUNT_S)
        return None if due_s == math.inf else max(0.0, due_s - now_s)

    def _look(self) -> None:
        """Do what is due by the clock."""
        now_s = self._monitor.clock.now_s()
        if now_s >= self._signal_s:
            self._signal_s = math.inf
            self._stop_by_signal()
        if self._days is not None and now_s >= self._counted_s + RECOUNT_S:
            self._counted_s = now_s
            day_s = day_of(self._monitor.clock.wall_s())
            if day_s != self._day_s:
                self._day_s = day_s
                self._days.new_day()
            spent = self._days.others(day_s)
            self._monitor.requests.post(partial(self.watch.others, day_s, spent))

    def _act_on(self, state: BudgetState) -> None:
        text = reached_text(state, self._is_resumed and self.watch.was_reached(state))
        log.warning("%s; %s", text, self._what_follows())
        if self._action.kind == "notify":
            try:
                self._workload.helpers.run(self._action.command, f"{self._run_id}: {text}\n", NOTIFY_S)
            except OSError as error:
                log.warning("--on-budget %s: %s", self._action.text, error.strerror or error)
        elif self._is_over:
            return
        elif self._action.kind == "signal":
            if not self._workload.send(self._action.number):
                log.warning("--on-budget %s: the job cannot be sent a signal", self._action.text)
        elif self._action.kind == "stop" and self._signal_s == math.inf:
            self._signal_s = self._monitor.clock.now_s() + STOP_ASK_S
            if self._workload.pauses is not None:  # training that stands still asks nothing
                self._workload.pauses.release(f"budget {state.text} stops the training", for_good=True)

    def _what_follows(self) -> str:
        if self._is_over:
            return "the job has ended"
        return {
            "warn": "the run goes on",
            "notify": f"the run goes on, and this is told to {' '.join(self._action.command[:1])}",
            "signal": f"the job gets {signal.Signals(self._action.number or signal.SIGTERM).name}",
            "stop": f"training is to stop; if nothing asks within {STOP_ASK_S:.0f} s the job gets SIGTERM",
        }[self._action.kind]

    def _stop_by_signal(self) -> None:
        run = self._monitor.runs.get(self._run_id)
        if run is not None and not run.outlook.is_heard:
            log.warning("no training code has asked run.should_stop: the job gets SIGTERM")
            self._workload.send(signal.SIGTERM)
