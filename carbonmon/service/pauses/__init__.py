"""`carbonmon run --pause-above`: the job stands still while the grid's carbon intensity is above a limit.

A thread of its own looks once an interval. Whatever happens to it or to the monitor, the job goes on: at the
end and at a fault of ours by `close`, at a kill or a hang by the guardian (`guardian.py`).
"""

from __future__ import annotations

import logging
import signal
import threading

from carbonmon.client.launcher import Launch
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.pauses import LEAST_RUN_S, LONG_PAUSE_S, PauseRule
from carbonmon.core.ports import Roots
from carbonmon.monitor.node import Monitor
from carbonmon.service import job
from carbonmon.service.pauses.guard import Guard
from carbonmon.service.pauses.processes import JobProcesses
from carbonmon.service.signal_witness import ignored_signals, pending_signals

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""The longest time between two looks, where samples are rarer."""

FRESH_S = 30.0
"""The intensity is that of the newest sample. One that is older, as a driver hangs, is not known."""

KNOWN = ("fixed", "live", "forecast")
"""What a file or a source says of now. A stale figure, and the annual one behind all, pauses nothing."""

ENDING = frozenset((signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM))
"""Signals by which somebody wants the job to end: it is not paused any more. After another one it has time to
write its checkpoint."""

_FORWARDED_MASK = sum(1 << (number - 1) for number in job.FORWARDED)

RUNNING_LOOKS = 2
"""In a pause, a job that runs at so many looks in a row was continued by somebody. At one it may just have
been continued together with the monitor, as `fg` does it."""


class JobPauses:
    """The pauses of one job that we started. Methods are for any thread."""

    def __init__(self, above_g_per_kwh: float, monitor: Monitor, run_id: str, workload: job.Command) -> None:
        self._monitor, self._run_id, self._workload = monitor, run_id, workload
        self._rule = PauseRule(above_g_per_kwh)
        self._guard = Guard()
        self._beside: frozenset[int] = frozenset()
        self._lock = threading.Lock()
        self._is_closing = threading.Event()
        self._paused_s: float | None = None
        self._running_looks = self._pending = 0
        self._has_warned = False
        self._thread = threading.Thread(target=self._run, name="carbonmon-pauses", daemon=True)

    def start(self) -> None:
        """Look from now on: the job has been started."""
        if self._is_closing.is_set():
            return
        self._processes = JobProcesses(self._workload.pid, self._not_of_the_job)
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            log.warning("the job is not paused: %s", error)
            return
        self._monitor.begin_pauses(self._run_id, self._rule.above_g_per_kwh)

    def is_beside(self, pid: int) -> None:
        """A child of ours that is no part of the job."""
        self._beside |= {pid}

    def signal_came(self, number: int) -> None:
        """The job was sent a signal: it goes on, to be able to handle it; not for one that it ignores."""
        if ignored_signals(self._workload.pid) & 1 << (number - 1):
            return
        self.release(f"{signal.Signals(number).name} came", for_good=number in ENDING)

    def release(self, why: str, for_good: bool) -> None:
        """Let the job go on, and do not pause it any more, or not for a while."""
        with self._lock:
            self._rule.release(self._monitor.clock.now_s(), for_good)
            self._go_on(why)

    def monitor_continued(self) -> None:
        """We were stopped and continued, as by Ctrl-Z and `fg`, and the job with us: it is stopped again."""
        with self._lock:
            self._running_looks = 0
            if self._paused_s is not None and not self._processes.stop(self._guard.announce):
                self._give_up("it cannot be stopped")

    def close(self) -> None:
        """The job has ended, or the monitor ends: nothing stays stopped."""
        self._is_closing.set()
        with self._lock:
            self._rule.release(self._monitor.clock.now_s(), for_good=True)
            self._go_on("the run ends")
            self._guard.close()

    def _run(self) -> None:
        try:
            while not self._is_closing.wait(min(self._monitor.sampler.interval_s, LOOK_S)):
                with self._lock:
                    self._look()
        except Exception:  # our own bug: the job goes on
            log.exception("the job is not paused any more, by a fault of carbonmon's own")
            self.release("a fault of carbonmon's own", for_good=True)

    def _look(self) -> None:
        if self._is_closing.is_set():
            return
        now_s = self._monitor.clock.now_s()
        g_per_kwh = self._g_per_kwh(now_s)
        is_wanted = self._rule.look(now_s, g_per_kwh)
        if is_wanted and self._paused_s is None:
            self._pause(now_s, g_per_kwh or 0.0)
        elif is_wanted:
            self._keep_paused(now_s)
        else:
            self._go_on("the intensity is not known" if g_per_kwh is None else f"{g_per_kwh:.4g} gCO2e/kWh")

    def _g_per_kwh(self, now_s: float) -> float | None:
        """The intensity that a source has for now; None of any other."""
        sampler = self._monitor.sampler
        intensity = sampler.rates.now.intensity
        is_fresh = now_s - sampler.sampled_s < max(FRESH_S, 2.0 * sampler.interval_s)
        return intensity.g_per_kwh if is_fresh and intensity.kind in KNOWN else None

    def _pause(self, now_s: float, g_per_kwh: float) -> None:
        if not self._guard.start():
            self._give_up("no process could be started that would continue it")
            return
        for pid in self._guard.pids:  # its CPU time is not the job's
            self._monitor.join(self._run_id, Roots(wrappers=(pid,)), None)
        self._paused_s, self._running_looks = now_s, 0
        self._pending = pending_signals(self._workload.pid)
        if not self._processes.stop(self._guard.announce):
            self._give_up("it cannot be stopped")
            return
        self._monitor.pause(self._run_id, now_s, True)
        log.warning(
            "the job is paused: %.4g gCO2e/kWh, above %g; it goes on at or below that",
            g_per_kwh,
            self._rule.above_g_per_kwh,
        )

    def _keep_paused(self, now_s: float) -> None:
        assert self._paused_s is not None
        self._processes.look()
        if self._processes.is_running:
            self._running_looks += 1
            if self._running_looks >= RUNNING_LOOKS:
                self._rule.release(now_s)
                self._go_on(f"somebody has continued it; it runs for {LEAST_RUN_S / 60:.0f} min at least")
            return
        self._running_looks = 0
        sent = pending_signals(self._workload.pid) & ~self._pending & _FORWARDED_MASK
        if sent:  # to the job alone, which cannot take it while it is stopped
            number = sent.bit_length()
            self._rule.release(now_s, for_good=number in ENDING)
            self._go_on(f"{signal.Signals(number).name} came")
            return
        if not (self._guard.say("alive") and self._processes.stop(self._guard.announce)):
            self._give_up("the process that would continue it is gone")
        elif now_s - self._paused_s >= LONG_PAUSE_S and not self._has_warned:
            self._has_warned = True
            log.warning(
                "the job has been paused for %.0f min: what waits for it may give up, as NCCL's watchdog in "
                "PyTorch does after 10 min",
                LONG_PAUSE_S / 60,
            )

    def _give_up(self, why: str) -> None:
        """Pause no more."""
        self._rule.release(self._monitor.clock.now_s(), for_good=True)
        log.warning("the job is not paused any more: %s", why)
        self._go_on("")

    def _go_on(self, why: str) -> None:
        """Continue the job, if it is paused."""
        if self._paused_s is None:
            return
        now_s, began_s, self._paused_s = self._monitor.clock.now_s(), self._paused_s, None
        self._monitor.pause(self._run_id, now_s, False)
        self._processes.go_on()
        self._guard.say("clear")
        if why:
            log.warning("the job goes on after %.0f s: %s", now_s - began_s, why)

    def _not_of_the_job(self) -> set[int]:
        return {*self._beside, *self._guard.pids, *self._workload.helpers.pids()}


def check(config: Config, launch: Launch) -> None:
    """Raise `ConfigError` where a job cannot be paused as it was asked for."""
    if config.attach is not None:
        raise ConfigError(
            "--pause-above: a job that runs already (--attach) is not paused: whoever has started it would "
            "take it for stopped; begin it with carbonmon run"
        )
    if (launch.world_size or 1) > 1 or (launch.nodes or 1) > 1:
        raise ConfigError(
            "--pause-above: this is one of several ranks, and others would wait for it: give it to the "
            "command that starts them all on one node (carbonmon run --pause-above … -- torchrun …)"
        )
    if config.intensity_file is None and all(name == "table" for name in config.grid):
        raise ConfigError(
            "--pause-above: the intensity is the same at all times: give one that changes, --grid SOURCE or "
            "--intensity-file FILE"
        )
