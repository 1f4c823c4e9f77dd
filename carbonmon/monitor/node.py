"""A monitor of a node: one sampler, one recorder, its exporters, and the runs that come and go.

`carbonmon run` has one of them for one run, `carbonmon daemon` one for every run of the node.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carbonmon.core.budget_watch import BudgetWatch
from carbonmon.core.budgets import BudgetState
from carbonmon.core.model import Device, IdlePolicy, Rank, RunInfo, RunState, Snapshot
from carbonmon.core.phases import MAX_PHASES
from carbonmon.core.ports import Clock, Roots
from carbonmon.core.records import NamedTuple
from carbonmon.core.windows import Key, Marks
from carbonmon.core.work import PRECISIONS, Peaks, Told
from carbonmon.hardware.workload import NodeWorkload, is_below
from carbonmon.monitor.clock import same_moment
from carbonmon.monitor.guard import GuardedExporter
from carbonmon.monitor.loop import SamplingLoop
from carbonmon.monitor.recorder import Recorder
from carbonmon.monitor.requests import RequestQueue, When
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs.writer import RunFiles

if TYPE_CHECKING:
    from carbonmon.runs.reader import Checkpoint

log = logging.getLogger(__name__)


class RunPlan(NamedTuple):
    """A run as a monitor is to keep it: what it is, its folder, where its processes are.

    `before` is the checkpoint that a resumed run goes on from.
    """

    info: RunInfo
    folder: Path
    roots: Roots = Roots()
    before: Checkpoint | None = None


class Monitor:
    """Everything that meters a node. Methods are for any thread unless they say otherwise."""

    def __init__(
        self,
        sampler: Sampler,
        recorder: Recorder,
        exporters: Sequence[GuardedExporter],
        devices: Mapping[str, Device],
        workload: NodeWorkload | None,
        clock: Clock,
        boot_id: str,
        leave_sensors: Callable[[], object],
        gpus_are_given: bool = False,
    ) -> None:
        """`leave_sensors` forgets the sensors without closing them: closing a driver that hangs hangs too.

        `gpus_are_given`: the GPUs among the devices are those that the monitor's one job was given.
        """
        self.sampler = sampler
        self.recorder = recorder
        self.exporters = exporters
        self.devices = devices
        self.gpus_are_given = gpus_are_given
        self.workload = workload
        self.clock = clock
        self.boot_id = boot_id
        self.requests = RequestQueue(clock)
        self.sampling = SamplingLoop(sampler, self.requests, clock)
        self.places: list[str] = []
        self._owned: dict[str, frozenset[int]] = {}
        self._known_peaks: dict[str, Peaks] = {}
        self._leave_sensors = leave_sensors

    @property
    def runs(self) -> Mapping[str, RunAccount]:
        """The runs that live; read a copy of what you need, the sampling thread changes it."""
        return self.sampler.runs.living

    def show(
        self, closing: Callable[[Callable[[], object]], object], *, refuses_mistakes: bool = False
    ) -> None:
        """Start the exporters; `closing` is told how to close each.

        With `refuses_mistakes` raises `ConfigError` where one can never work as it was asked for.
        """
        for exporter in self.exporters:
            closing(exporter.close)
            place = exporter.start(self.recorder.shown, refuses_mistakes=refuses_mistakes)
            if place:
                self.places.append(place)

    def give_up_threads(self) -> None:
        """End the threads, as the job finds no place for its own; the next sample is the last one."""
        self.sampling.give_up_thread()
        self.sampler.node_meters.close()
        self.recorder.give_up_thread()
        for exporter in self.exporters:
            exporter.close()

    def show_again(self) -> None:
        """Start the exporters that could not start before."""
        for exporter in self.exporters:
            if not exporter.is_started:
                place = exporter.start(self.recorder.shown)
                if place:
                    self.places.append(place)

    # ---- a run's life ----

    def plan(self, plan: RunPlan) -> None:
        """Take the run's folder; raises `ConfigError` if it cannot be written or has another monitor."""
        gone: list[Device] = []
        if plan.before is not None:
            states = plan.before.snapshot.devices
            gone = [state.device for state in states if state.device.id not in self.devices]
        is_own = plan.before is None
        files = RunFiles(plan.folder, self.boot_id, gone, self.recorder.period_s, is_own=is_own)
        self.sampler.runs.plan(plan.info.id, plan.folder)
        self.recorder.add(plan.info.id, files)

    def begin(self, plan: RunPlan, then: Callable[[], object] | None = None) -> None:
        """Begin a planned run, or go on with it, beside the next sample; then call `then` in that thread."""
        self.requests.post(partial(self.begin_now, plan, then), "edge" if plan.before is None else "after")

    def begin_now(self, plan: RunPlan, then: Callable[[], object] | None = None) -> None:
        """The same at once: in the sampling thread, or where a driver hangs and the job cannot wait."""
        self._owned[plan.info.id] = frozenset((*plan.roots.pids, *plan.roots.wrappers))
        if plan.info.id in self.runs:  # a driver hung for long, and the job did not wait for it
            return
        if plan.before is None:
            self.sampler.begin(self._account(plan), plan.roots)
        else:
            from carbonmon.monitor import resume  # most runs are new

            outage = resume.outage_of(plan.before, self.boot_id, self.clock)
            before = plan.before.snapshot
            resume.resume_run(self.sampler, self._account(plan), before, outage, plan.roots)
        self.recorder.hurry()
        if then is not None:
            then()

    def resume(self, plans: Sequence[RunPlan]) -> None:
        """Go on with the runs that an earlier monitor left, before the first sample.

        The devices go on from the newest checkpoint, each run from its own.
        """
        if plans:
            self.requests.post(partial(self._resume, plans), "after")

    def _resume(self, plans: Sequence[RunPlan]) -> None:
        from carbonmon.monitor import resume

        runs = [(plan, plan.before) for plan in plans if plan.before is not None]
        newest = max((before for _, before in runs), key=lambda before: before.snapshot.clock_s)
        outage = resume.outage_of(newest, self.boot_id, self.clock)
        lost = resume.restore_devices(self.sampler, newest.snapshot, outage)
        for plan, before in runs:
            outage = resume.outage_of(before, self.boot_id, self.clock)
            run = self._account(plan)
            resume.restore_run(self.sampler, run, before.snapshot.runs[0], outage, lost, plan.roots)

    def resume_devices(self, before: Checkpoint) -> None:
        """Go on with the devices of an earlier monitor of this boot that left no run, before any sample."""
        if before.boot_id and before.boot_id == self.boot_id:
            self.requests.post(partial(self._resume_devices, before.snapshot), "after")

    def _resume_devices(self, before: Snapshot) -> None:
        from carbonmon.monitor import resume

        outage = resume.Outage(max(0.0, self.clock.now_s() - before.clock_s), True)
        resume.restore_devices(self.sampler, before, outage)
        self.sampler.show()

    def end(
        self,
        run_id: str,
        exit_code: int | None,
        signal: int | None,
        then: Callable[[], object],
        last: Callable[[RunAccount, RunState], object] | None = None,
        refused: Callable[[], object] | None = None,
    ) -> None:
        """End a run now; the next sample tells its energy. `then` is called in the thread that wrote it.

        `last` is told its final totals, in the sampling thread; `refused` when a disk does not take them.
        """
        self.requests.post(partial(self.sampler.runs.stop, run_id, *same_moment(self.clock)), "noted")
        self.requests.post(partial(self._end, run_id, exit_code, signal, then, last, refused), "edge")

    def _end(
        self,
        run_id: str,
        exit_code: int | None,
        signal: int | None,
        then: Callable[[], object],
        last: Callable[[RunAccount, RunState], object] | None,
        refused: Callable[[], object] | None,
    ) -> None:
        if last is not None:
            self._look(run_id, lambda run, state: None if run is None or state is None else last(run, state))
        self._owned.pop(run_id, None)
        self.sampler.end(run_id, exit_code, signal)
        self.recorder.end(run_id, partial(self._written, run_id, then), refused)

    def final_summary(self, run_id: str) -> dict[str, Any] | None:
        """The summary of a run that has ended, from memory: no disk may have it yet. None of another run."""
        from carbonmon.runs.summary.document import summarize

        snapshot = self.sampler.snapshots.latest
        for run in snapshot.runs:
            if run.info.id == run_id and run.ended_at_s is not None:
                return summarize(snapshot, run, "final")
        return None

    def _written(self, run_id: str, then: Callable[[], object]) -> None:
        self.requests.post(partial(self.sampler.runs.written, run_id))
        then()

    def _account(self, plan: RunPlan) -> RunAccount:
        return RunAccount(plan.info, self._expected(plan), parts=self.recorder.parts(plan.info.id))

    def _expected(self, plan: RunPlan) -> list[Device]:
        """The devices that a run will surely use, so that its series are there, at 0, from its start."""
        gpus = plan.roots.gpus
        return [
            device
            for device in self.devices.values()
            if self.workload is None
            or not device.gpu_ids
            or not (gpus or {}).keys().isdisjoint(device.gpu_ids)
        ]

    # ---- what changes in a living run ----

    def join(self, run_id: str, roots: Roots, rank: Rank | None) -> None:
        """More processes of a run that lives."""

        def join(run: RunAccount) -> None:
            if rank is not None and rank not in run.ranks:
                run.ranks = (*run.ranks, rank)
            if self.workload is not None:
                self.workload.join(run_id, roots)

        self._change(run_id, join)

    def run_around(self, pid: int) -> str | None:
        """The living run that a process or one of its parents belongs to; None where there is none."""
        if self.workload is not None:
            return self.workload.run_around(pid)
        return next((run_id for run_id, pids in self._owned.items() if is_below(pid, pids)), None)

    def note(self, run_id: str, text: str) -> None:
        """Something that people should know of a run: a line of its summary."""

        def note(run: RunAccount) -> None:
            if text not in run.notes:
                run.notes = (*run.notes, text)

        self._change(run_id, note)

    def change_phase(
        self, run_id: str, names: Sequence[str], at_s: float, marks: Marks | None = None
    ) -> None:
        """From `at_s` on the run is in these phases, one for each participant that is in one.

        `marks` are the windows that begin or end there.
        """

        def change(run: RunAccount) -> None:
            moment_s, had_too_many = run.span.within(at_s), run.phases.overflowed
            if marks is not None:
                run.windows.mark(moment_s, marks)
            run.phases.change(moment_s, names)
            if run.phases.overflowed and not had_too_many:
                log.warning("run %s: more than %d phases: the others count as 'other'", run_id, MAX_PHASES)

        # The change is noted first: the sample then settles what was drawn on both sides of it.
        self._change(run_id, change, "timed")

    def progress(self, run_id: str, told: Told, at_s: float) -> None:
        """What the run's training code says at `at_s` that it has done."""
        peaks = self._peaks(told.precision) if told.precision else ()

        def progress(run: RunAccount) -> None:
            run.work.tell(told, at_s, peaks)
            if told.steps is not None:
                run.outlook.progress(at_s, told.steps, told.total_steps)
            if told.evaluation_every is not None:
                run.outlook.announce(told.evaluation_every, told.evaluation_steps)

        self._change(run_id, progress)

    def _peaks(self, precision: str) -> Peaks:
        """The peaks of the GPUs in a precision; looked up once, in the thread that asks."""
        known = self._known_peaks.get(precision)
        if known is None and precision not in PRECISIONS:
            return ()
        if known is None:
            from carbonmon.hardware.peak_flops import gpu_peaks  # for runs that tell FLOPs only

            known = self._known_peaks[precision] = gpu_peaks(self.devices.values(), precision)
        return known

    def watch_budgets(
        self, run_id: str, watch: BudgetWatch, reached: Callable[[RunAccount, BudgetState], object]
    ) -> None:
        """Watch a run's budgets; `reached` is called with each, beside a sample, in the sampling thread."""
        self._change(run_id, lambda run: run.outlook.begin(watch, partial(reached, run)))

    def begin_pauses(self, run_id: str, above_g_per_kwh: float) -> None:
        """A run may be paused above an intensity."""
        self._change(run_id, lambda run: run.pauses.begin(above_g_per_kwh))

    def pause(self, run_id: str, at_s: float, is_paused: bool) -> None:
        """A run's job stands still from `at_s` on, or goes on."""
        self._change(run_id, lambda run: run.pause(at_s, is_paused), "timed")  # as changes of phase

    def _change(self, run_id: str, change: Callable[[RunAccount], object], sample: When = "") -> None:
        """Have a run changed in the sampling thread, if it lives then; `sample` as in `RequestQueue.post`."""

        def carry_out() -> None:
            run = self.runs.get(run_id)
            if run is not None:
                change(run)

        self.requests.post(carry_out, sample)

    def look(self, run_id: str, tell: Callable[[RunAccount | None, RunState | None], object]) -> None:
        """Take a sample and tell the run and its totals, in the sampling thread; None if it does not live."""
        self.requests.post(partial(self._look, run_id, tell), "before")

    def _look(self, run_id: str, tell: Callable[[RunAccount | None, RunState | None], object]) -> None:
        run = self.runs.get(run_id)
        tell(run, None if run is None else run.state(self.clock.now_s(), self.sampler.node_totals()))

    def window(self, run_id: str, key: Key, tell: Callable[[dict[str, float | bool] | None], object]) -> None:
        """Take a sample and tell what is known of a run's window, in the sampling thread."""
        self.sampler.wants_shape = True
        self.requests.post(partial(self._window, run_id, key, tell), "before")

    def _window(
        self, run_id: str, key: Key, tell: Callable[[dict[str, float | bool] | None], object]
    ) -> None:
        run = self.runs.get(run_id)
        tell(None if run is None else run.window(key, self.clock.now_s()))

    def allocation(
        self, gpus: tuple[str, ...] | None, environ: Mapping[str, str], policy: IdlePolicy
    ) -> Mapping[str, float] | None:
        """The GPUs that a run was given, with the fraction of each; None where nobody says.

        `gpus` is a choice by index or UUID, `environ` what the run's launcher says. Who owns the node owns
        all of its GPUs.
        """
        found = None if self.workload is None else self.workload.allocation(gpus, environ)
        if found is None and policy == "exclusive":
            devices = self.devices.values()
            return {gpu: device.share_ratio for device in devices for gpu in device.gpu_ids}
        return found

    # ---- the end ----

    def leave(self) -> None:
        """Stop, and leave the runs as they are: another monitor may go on with them."""
        self._stop_sampling()
        if not self.recorder.finish(self.sampler.latest):
            log.warning("the disk hangs: the last checkpoints may be missing")

    def finish(self, exit_code: int | None, signal: int | None) -> Snapshot | None:
        """End every run now, take the last sample, write everything; None if that fails, which is logged."""
        final = None
        try:
            stop_all = partial(self.sampler.runs.stop_all, *same_moment(self.clock))
            self.requests.post(stop_all, "noted")
            if hangs := self._stop_sampling():  # nobody carries out what is asked for
                stop_all()
            final = self.sampler.finish(exit_code, signal, hangs)
            if not self.recorder.finish(final):
                log.warning("the disk hangs: the last checkpoint may be missing")
        except Exception:  # our own bug: the job's exit code is passed on all the same
            log.exception("the run could not be summed up")
        return final

    def _stop_sampling(self) -> bool:
        """Whether a driver hangs, so that no last sample could be taken."""
        hangs = not self.sampling.stop()
        if hangs:
            log.warning("a driver call does not return; energy after the last sample is not recorded")
            self._leave_sensors()
        return hangs
