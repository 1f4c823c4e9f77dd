"""A monitor of a node: one sampler, one recorder, its exporters, and the runs that come and go.

`carbonmon run` has one of them for one run, `carbonmon daemon` one for every run of the node.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from carbonmon.core.model import Device, IdlePolicy, Rank, RunInfo, RunState, Snapshot
from carbonmon.core.phases import MAX_PHASES
from carbonmon.core.ports import Clock, Roots
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.monitor.guard import GuardedExporter
from carbonmon.monitor.loop import Sampling
from carbonmon.monitor.recorder import Recorder
from carbonmon.monitor.run_totals import RunAccount
from carbonmon.monitor.sampler import Sampler
from carbonmon.runs.reader import Checkpoint
from carbonmon.runs.writer import RunFiles

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tenancy:
    """A run as a monitor keeps it: what it is, its folder, where its processes are.

    `before` is the checkpoint that a resumed run goes on from.
    """

    info: RunInfo
    folder: Path
    roots: Roots = field(default_factory=Roots)
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
        folders: dict[str, Path],
        leave_sensors: Callable[[], object],
    ) -> None:
        self.sampler = sampler
        self.recorder = recorder
        self.exporters = exporters
        self.devices = devices
        self.workload = workload
        self.clock = clock
        self.boot_id = boot_id
        self.folders = folders
        self._leave_sensors = leave_sensors
        self.places: list[str] = []
        self._overflowed: set[str] = set()
        self._over: set[str] = set()

    @property
    def runs(self) -> Mapping[str, RunAccount]:
        """The runs that live; read a copy of what you need, the sampling thread changes it."""
        return self.sampler.tenants.runs

    def show(self, closing: Callable[[Callable[[], object]], object]) -> None:
        """Start the exporters; `closing` is told how to close each."""
        for exporter in self.exporters:
            closing(exporter.close)
            place = exporter.start(self.recorder.shown)
            if place:
                self.places.append(place)

    def open_files(self, tenancy: Tenancy) -> None:
        """Take the run's folder; raises `ConfigError` if it cannot be written or has another monitor."""
        gone: list[Device] = []
        if tenancy.before is not None:
            states = tenancy.before.snapshot.devices
            gone = [state.device for state in states if state.device.id not in self.devices]
        files = RunFiles(tenancy.folder, self.boot_id, gone)
        self._over.discard(tenancy.info.id)
        self.folders[tenancy.info.id] = tenancy.folder
        self.recorder.add(tenancy.info.id, files)

    def begin(self, tenancy: Tenancy) -> None:
        """Charge to a run what it causes from now on. In the sampling thread, or before it begins."""
        expected = [device for device in self.devices.values() if _expects(tenancy, device, self.workload)]
        if tenancy.before is None:
            info = replace(tenancy.info, started_at_s=self.clock.wall_s())
            self.sampler.begin(RunAccount(info, expected), tenancy.roots)
            return
        last = tenancy.before.snapshot
        same_boot = bool(self.boot_id) and self.boot_id == tenancy.before.boot_id
        if last.runs[0].ended_at_s is not None:
            outage_s = 0.0  # the run had ended: what was drawn since then is not its own
            same_boot = False
        elif same_boot:
            outage_s = max(0.0, self.clock.now_s() - last.clock_s)
        else:
            outage_s = max(0.0, self.clock.wall_s() - last.at_s)
        self.sampler.resume(RunAccount(tenancy.info, expected), last, outage_s, same_boot, tenancy.roots)

    def take_up(self, tenancies: Sequence[Tenancy]) -> None:
        """Go on with runs that an earlier monitor left on this boot. In the sampling thread, before a sample.

        The devices go on from the newest checkpoint, each run from its own.
        """
        checkpoints = [(run, run.before.snapshot) for run in tenancies if run.before is not None]
        if not checkpoints:
            return
        newest = max((snapshot for _, snapshot in checkpoints), key=lambda snapshot: snapshot.clock_s)
        now_s = self.clock.now_s()
        lost = self.sampler.restore(newest, max(0.0, now_s - newest.clock_s), same_boot=True)
        for run, snapshot in checkpoints:
            expected = [device for device in self.devices.values() if _expects(run, device, self.workload)]
            account = RunAccount(run.info, expected)
            outage_s = max(0.0, now_s - snapshot.clock_s)
            self.sampler.readmit(account, snapshot.runs[0], outage_s, lost, True, run.roots)

    def sampling(self, tenancy: Tenancy | None = None) -> Sampling:
        """The sampling thread, not started; with a run that lasts as long as the monitor."""
        if tenancy is None:
            return Sampling(self.sampler)
        run = tenancy

        def begin() -> None:
            if run.info.id not in self.runs:  # else a driver hung for long, and the job did not wait for it
                self.begin(run)

        if run.before is not None:
            return Sampling(self.sampler, before=begin)
        return Sampling(self.sampler, after=begin)

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
            return {device.id: device.share_ratio for device in devices if device.component == "gpu"}
        return found

    def admit(self, tenancy: Tenancy, done: Callable[[], object]) -> None:
        """Begin a run while sampling goes on, then call `done` in the sampling thread.

        Raises `ConfigError` at once if its folder cannot be written.
        """
        self.open_files(tenancy)

        def begin() -> None:
            self.begin(tenancy)
            self.recorder.hurry()
            done()

        self.sampler.post(begin, "edge")

    def join(self, run_id: str, roots: Roots, rank: Rank | None) -> None:
        """More processes of a run that lives."""

        def join() -> None:
            run = self.runs.get(run_id)
            if run is None:
                return
            if rank is not None and rank not in run.ranks:
                run.ranks = (*run.ranks, rank)
            if self.workload is not None:
                self.workload.join(run_id, roots)

        self.sampler.post(join)

    def change_phase(self, run_id: str, names: Sequence[str], at_s: float) -> None:
        """From `at_s` on the run is in these phases, one for each participant that is in one."""

        def change() -> None:
            run = self.runs.get(run_id)
            if run is None:
                return
            run.phases.change(at_s, names)
            if run.phases.overflowed and run_id not in self._overflowed:
                self._overflowed.add(run_id)
                log.warning("run %s: more than %d phases: the others count as 'other'", run_id, MAX_PHASES)

        # The change is noted first: the sample then settles what was drawn on both sides of it.
        self.sampler.post(change, "after")

    def progress(self, run_id: str, step: float, total: float | None) -> None:
        """How far the run's training code says that it is."""

        def note() -> None:
            run = self.runs.get(run_id)
            if run is not None:
                run.progress = (step, total)

        self.sampler.post(note)

    def look(self, run_id: str, tell: Callable[[RunState | None], object]) -> None:
        """Take a sample and tell the run's totals, in the sampling thread; None if it does not live."""

        def look() -> None:
            run = self.runs.get(run_id)
            now_s = self.clock.now_s()
            tell(None if run is None else run.state(now_s, self.sampler.accounts))

        self.sampler.post(look, "before")

    def end(self, run_id: str, exit_code: int | None, signal: int | None, done: Callable[[], object]) -> None:
        """End a run while sampling goes on; `done` is called when its files are written, in that thread."""

        def written() -> None:
            self.sampler.post(lambda: self._forget(run_id))
            done()

        def end() -> None:
            self.sampler.end(run_id, exit_code, signal)
            self.recorder.end(run_id, written)

        self.sampler.post(end, "edge")

    def _forget(self, run_id: str) -> None:
        """A run is written: let go of what is kept of runs that are shown no more. In the sampling thread."""
        self.sampler.tenants.forget(run_id)
        self._over.add(run_id)
        gone = self._over - {run.info.id for run in self.sampler.latest.runs}
        for each in gone:
            self.folders.pop(each, None)
        self._overflowed -= gone
        self._over -= gone

    def leave(self, sampling: Sampling) -> None:
        """Stop, and leave the runs as they are: another monitor may go on with them."""
        if not sampling.stop():
            log.warning("a driver call hangs: what came after the last sample is unobserved")
            self._leave_sensors()
        if not self.recorder.finish(self.sampler.latest):
            log.warning("the disk hangs: the last checkpoints may be missing")

    def finish(self, sampling: Sampling, exit_code: int | None, signal: int | None) -> Snapshot | None:
        """Take the last sample, end every run, and write everything; None if that fails, which is logged."""
        final = None
        try:
            hangs = not sampling.stop()
            if hangs:
                log.warning("a driver call hangs: what came after the last sample is unobserved")
                self._leave_sensors()
            final = self.sampler.finish(exit_code, signal, hangs)
            if not self.recorder.finish(final):
                log.warning("the disk hangs: the last checkpoint may be missing")
        except Exception:  # our own bug: the job's exit code is passed on all the same
            log.exception("the run could not be summed up")
        return final


def _expects(tenancy: Tenancy, device: Device, workload: NodeWorkload | None) -> bool:
    """Whether a run will surely use a device, so that its series are born at 0 with the run."""
    if workload is None or device.component != "gpu":
        return True
    gpus = tenancy.roots.gpus
    return gpus is not None and device.id in gpus
